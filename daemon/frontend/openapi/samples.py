"""
The document's examples: a body of every type of event, and lines for a shell.

The lines use variables: `$URL` (the ingest port), `$KEY` (a pipeline key), `$SECRET` (its source's secret key),
`$WEBHOOK` and `$WEBHOOK_SECRET` (a webhook of kind github), `$TL_KEY` and `$MERCHANT` (a merchant's key and id). A test
runs every one of them.
"""

from __future__ import annotations

import msgspec

from daemon.frontend.openapi.schemas import Json

_MESSAGE_ID = "5c1f8ee8-0b1a-4f0e-9d2b-1d0a3f1c9a11"

#: Type → an event.
EVENTS: dict[str, Json] = {
    "track": {
        "type": "track",
        "event": "Order Completed",
        "userId": "user_98765",
        "properties": {"order_id": "ORD-2026-001", "total": 129.99, "currency": "GBP"},
        "context": {
            "page": {"url": "https://www.example.com/checkout", "title": "Checkout"},
            "locale": "en-GB",
        },
        "timestamp": "2026-02-25T14:30:00.000Z",
        "messageId": _MESSAGE_ID,
    },
    "page": {
        "type": "page",
        "name": "Product Page",
        "properties": {"url": "https://www.example.com/p/1", "title": "Shoe", "path": "/p/1"},
    },
    "identify": {
        "type": "identify",
        "userId": "user_98765",
        "traits": {"email": "jane@example.com", "plan": "premium"},
    },
    "group": {
        "type": "group",
        "userId": "user_98765",
        "groupId": "company_1",
        "traits": {"name": "Acme", "employees": 120},
    },
    "screen": {
        "type": "screen",
        "name": "Cart",
        "userId": "user_98765",
        "properties": {"items": 3},
    },
    "alias": {"type": "alias", "previousId": "5c1f8ee8-0b1a-4f0e-9d2b-1d0a3f1c9a11", "userId": "user_98765"},
}

#: What the lines send: small enough for one line.
_SHORT: dict[str, Json] = {
    "track": {"type": "track", "event": "Order Completed", "properties": {"total": 129.99}},
    "page": {"type": "page", "name": "Home", "properties": {"url": "https://www.example.com/"}},
    "identify": {"type": "identify", "userId": "user_98765", "traits": {"plan": "premium"}},
    "group": {"type": "group", "groupId": "company_1", "userId": "user_98765"},
    "screen": {"type": "screen", "name": "Cart", "userId": "user_98765"},
    "alias": {"type": "alias", "previousId": "visitor_1", "userId": "user_98765"},
}

BATCH: Json = {
    "batch": [
        {
            "type": "track",
            "event": "Product Viewed",
            "userId": "user_98765",
            "timestamp": "2026-02-25T14:29:58.000Z",
        },
        {"type": "identify", "userId": "user_98765", "traits": {"plan": "premium"}},
    ],
    "sentAt": "2026-02-25T14:30:00.000Z",
}

#: A batch of which one event was not taken.
BATCH_PARTLY: Json = {
    "success": True,
    "accepted": 2,
    "errors": [{"index": 1, "message": "Missing required field: type"}],
}

#: A webhook's body.
WEBHOOK: Json = {
    "action": "opened",
    "issue": {"number": 7, "title": "It works"},
    "sender": {"login": "octocat"},
}

_PIXELS = {
    "track": "e=Email%20Opened&p.campaign=spring",
    "page": "p.title=Home",
    "identify": "uid=user_98765",
}
_PIXELS["group"] = "gid=company_1&uid=user_98765"

_JSON = "-H 'Content-Type: application/json'"


def _text(body: Json) -> str:
    return msgspec.json.encode(body).decode()


def browser(letter: str, kind: str) -> str:
    """A line for one of the browser endpoints."""
    return (
        f'curl -sS "$URL/v1/{letter}" -H "Authorization: Bearer $KEY" {_JSON} \\\n'
        f"  -d '{_text(_SHORT[kind])}'"
    )


def preflight(letter: str) -> str:
    """A line that asks as a page's browser does."""
    return (
        f'curl -sS -i -X OPTIONS "$URL/v1/{letter}" -H "Origin: http://localhost:3000" \\\n'
        '  -H "Access-Control-Request-Method: POST"'
    )


def segment(kind: str) -> str:
    """A line for a Segment-style path: the key is the user name, and there is no password."""
    body = {name: value for name, value in _SHORT[kind].items() if name != "type"}
    return f'curl -sS "$URL/v1/{kind}" -u "$KEY:" {_JSON} \\\n  -d \'{_text(body)}\''


def signed() -> str:
    """Lines that sign an event."""
    return (
        f"BODY='{_text(_SHORT['track'])}'\n"
        "TS=$(date +%s000)\n"
        'SIG=$(printf \'%s.%s\' "$TS" "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed \'s/.* //\')\n'
        f'curl -sS "$URL/v1/events" -H "X-Pipeline-Key: $KEY" -H "X-Timestamp: $TS" \\\n'
        f'  -H "X-Signature: sha256=$SIG" {_JSON} -d "$BODY"'
    )


def batch() -> str:
    """A line that sends two events."""
    body = {"batch": [_SHORT["track"], _SHORT["identify"]]}
    return f'curl -sS "$URL/v1/batch" -H "Authorization: Bearer $KEY" {_JSON} \\\n  -d \'{_text(body)}\''


def webhook() -> str:
    """Lines that sign a body as GitHub does."""
    return (
        f"BODY='{_text(WEBHOOK)}'\n"
        'SIG=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" | sed \'s/.* //\')\n'
        'curl -sS "$URL/v1/webhook?source=$WEBHOOK" -H "X-Hub-Signature-256: sha256=$SIG" \\\n'
        f'  -H "X-GitHub-Event: issues" {_JSON} -d "$BODY"'
    )


def pixel(kind: str) -> str:
    """A line that asks for a pixel, and shows the head of the answer."""
    return f'curl -sS -D - -o /dev/null "$URL/v1/pixel/{kind}?wk=$KEY&{_PIXELS[kind]}"'


def get(path: str) -> str:
    """A line that asks for a file."""
    return f'curl -sS -D - -o /dev/null "$URL{path}"'


#: A merchant's event with an id of its own; `sh` puts time and merchant in.
_TRACKED = (
    '{"event_id":"order-\'$(date +%s%N)\'","event_name":"purchase","event_time":\'$(date +%s)\','
    '"merchant_id":"\'$MERCHANT\'","value":129.99,"currency":"USD"}'
)


def track_server() -> str:
    """A line for TrackLayer's server path."""
    return f'curl -sS "$URL/v1/events" -H "Authorization: Bearer $TL_KEY" {_JSON} \\\n  -d \'{_TRACKED}\''


def track_browser() -> str:
    """A line that sends as a page does, with a browser's name: curl's own is a bot's."""
    return (
        f'curl -sS "$URL/v1/browser/events" -A "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0" \\\n'
        f"  {_JSON} -d '{_TRACKED}'"
    )
