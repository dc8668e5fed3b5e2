"""
TrackLayer's part of the document: its operations and its answers (contracts C.2 to C.4, 0.4).

Its server path is one with Datafly's (`/v1/events`), so that operation is put together of both.
"""

from __future__ import annotations

from daemon.config.schema import Limits, Tracklayer
from daemon.events import tracklayer
from daemon.events.outcome import Outcome
from daemon.frontend.openapi.answers import headers
from daemon.frontend.openapi.callers import json_body, parameters
from daemon.frontend.openapi.merchant_event import EXAMPLE
from daemon.frontend.openapi.samples import track_browser, track_server
from daemon.frontend.openapi.schemas import Json, ref
from daemon.frontend.tracklayer.browser import PREFLIGHT

TAG = "TrackLayer"

TAG_ABOUT: Json = {
    "name": TAG,
    "description": "Conversion events of merchants: what their servers send to `/v1/events` with a `tl_…` key, and what "
    "`/v1/pixel.js` sends from their pages. Both copies of an event are taken, one of each; who repeats the `event_id` "
    "lets them be merged.",
}

SECURITY_SCHEME: Json = {
    "x-displayName": "Merchant's key",
    "type": "http",
    "scheme": "bearer",
    "description": "`Authorization: Bearer tl_live_…` (or `tl_test_…`), a merchant's API key with the scope `events:write`.",
}

#: Error code → when it is given (contracts 0.4.30).
MEANINGS: dict[str, str] = {
    "validation_failed": "Not JSON, or not what is asked for; `details` has all that is wrong, field by field.",
    "invalid_api_key": "An unknown or revoked key, or its merchant is disabled.",
    "forbidden": "The key lacks the scope `events:write`.",
    "merchant_mismatch": "`merchant_id` is another merchant than the key's.",
    "unknown_merchant": "There is no such merchant, or it is disabled.",
    "request_timeout": "The body was not complete in time.",
    "duplicate_event": "The `event_id` came in before, within 24 hours on the same channel.",
    "payload_too_large": "The body, inflated, is over the limit.",
    "unsupported_media_type": "A content type, charset or content encoding that is not taken.",
    "rate_limited": "Over the rate. Try again after `Retry-After`.",
    "unavailable": "It could not be made durable now, or we are too busy. Try again after `Retry-After`.",
}

#: Status → codes: of everything that takes events, of servers, of browsers.
_ALWAYS: dict[int, tuple[str, ...]] = {
    status: (code,)
    for outcome, (status, code) in tracklayer.ERRORS.items()
    if outcome not in (Outcome.INVALID_KEY, Outcome.FORBIDDEN)
}
SERVER = {**_ALWAYS, 401: ("invalid_api_key",), 403: ("forbidden", tracklayer.MERCHANT_MISMATCH)}
BROWSER = {**_ALWAYS, 404: (tracklayer.UNKNOWN_MERCHANT,)}

_ORIGIN: Json = {"required": True, "schema": {"type": "string", "const": "*"}}
_EXPOSED: Json = {"required": True, "schema": {"type": "string"}}


# --- operations -------------------------------------------------------------------------------------


def shared_events(datafly_operation: Json) -> Json:
    """POST /v1/events: Datafly's operation and TrackLayer's in one."""
    body = datafly_operation["requestBody"]
    content: dict[str, Json] = {}
    for media, one in body["content"].items():
        content[media] = {**one}
    whole = content["application/json"]
    example = whole.pop("example")
    whole["schema"] = {"anyOf": [whole["schema"], ref("MerchantEvent")]}
    whole["examples"] = {"signed": {"value": example}, "tracklayer": {"value": EXAMPLE}}
    content["text/plain"] = {"schema": {**content["text/plain"]["schema"], "contentSchema": whole["schema"]}}
    text = (
        datafly_operation["description"]
        + " TrackLayer's events are answered 202 with their `event_id`; a second one within 24 hours is a 409."
    )
    return {
        **datafly_operation,
        "tags": [*datafly_operation["tags"], TAG],
        "summary": "One event of a server: signed, or with a merchant's key",
        "description": text,
        "security": [*datafly_operation["security"], {"merchantKey": []}],
        "requestBody": {**body, "content": content},
        "responses": {
            **datafly_operation["responses"],
            "202": _accepted(),
            **{str(status): _reference("Server", status) for status in SERVER},
        },
        "x-codeSamples": [*datafly_operation["x-codeSamples"], _shell(track_server())],
    }


def operations() -> dict[str, Json]:
    """TrackLayer's own paths."""
    settings = Tracklayer()
    post: Json = {
        "operationId": "browser_event",
        "tags": [TAG],
        "summary": "One event of a page",
        "description": "There is no key: the body names the merchant, and any page may send, without credentials. "
        f"Each address (IPv6: its /64) may send {settings.browser_events_max} events in {settings.browser_window_s:g} "
        "seconds to a merchant; only those that are accepted count. What a crawler, a headless browser or nobody at all "
        'is behind, by its `User-Agent`, is answered `{"ok":true,"dropped":"bot"}` and thrown away.',
        "security": [],
        "parameters": [
            *parameters("ContentEncoding", "RequestId"),
            {
                "name": "User-Agent",
                "in": "header",
                "description": "The browser's own.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": json_body("MerchantEvent", {**EXAMPLE, "source": "browser"}, Limits().body_bytes_max),
        "responses": {
            "202": _taken_or_dropped(),
            **{str(status): _reference("Track", status) for status in sorted(BROWSER)},
        },
        "x-codeSamples": [_shell(track_browser())],
    }
    preflight: Json = {
        "operationId": "preflight_browser_event",
        "tags": [TAG],
        "summary": "What a browser asks before it sends",
        "description": "Any page may.",
        "security": [],
        "responses": {
            "204": {
                "description": "Everybody may send, without credentials.",
                "headers": {
                    "Allow": {"schema": {"type": "string"}},
                    **{
                        _titled(name): {"required": True, "schema": {"type": "string", "const": value}}
                        for name, value in PREFLIGHT
                    },
                },
            }
        },
        "x-codeSamples": [
            _shell(
                'curl -sS -i -X OPTIONS "$URL/v1/browser/events" -H "Origin: https://shop.example.com" \\\n'
                '  -H "Access-Control-Request-Method: POST"'
            )
        ],
    }
    return {"/v1/browser/events": {"post": post, "options": preflight}}


# --- answers ----------------------------------------------------------------------------------------


def responses() -> dict[str, Json]:
    """The shared answers of its own paths."""
    return {f"Track{status}": _refusal(status, codes, cors=True) for status, codes in BROWSER.items()}


def share(made: dict[str, Json]) -> None:
    """Put TrackLayer's answers on the path that it shares with Datafly into `made`, beside Datafly's."""
    for status, codes in SERVER.items():
        ours = _refusal(status, codes, cors=False)
        theirs = made.get(f"Server{status}")
        if theirs is None:
            made[f"Server{status}"] = ours
            continue
        theirs["description"] += "\n" + ours["description"]
        content, added = theirs["content"]["application/json"], ours["content"]["application/json"]
        content["schema"] = {"oneOf": [content["schema"], added["schema"]]}
        content["examples"] = {**content["examples"], **added["examples"]}


def _refusal(status: int, codes: tuple[str, ...], *, cors: bool) -> Json:
    names = ["X-Request-Id"]
    if status in (429, 503):
        names.append("Retry-After")
    if status == 429:
        names += ["RateLimit", "RateLimit-Policy"]
    body = "Duplicate" if status == 409 else "Rejection"
    answer: Json = {
        "description": "\n".join(f"`{code}`: {MEANINGS[code]}" for code in codes),
        "headers": headers(names, required=("Retry-After",)),
        "content": {
            "application/json": {
                "schema": {"allOf": [ref(body), {"properties": {"error": {"enum": list(codes)}}}]},
                "examples": {code: {"value": _example(code)} for code in codes},
            }
        },
    }
    if cors:
        answer["headers"] |= _cors()
    return answer


def _example(code: str) -> Json:
    made: Json = {"success": False, "error": code, "message": MEANINGS[code], "details": []}
    if code == "validation_failed":
        problem = "currency must be a code of ISO 4217 such as EUR"
        made |= {"message": problem, "details": [{"field": "currency", "message": problem}]}
    if code == "duplicate_event":
        made["event_id"] = EXAMPLE["event_id"]
    return made


def _accepted() -> Json:
    return {
        "description": "TrackLayer's event is durable: on Kafka, or on this machine's disk after fsync.",
        "headers": headers(("X-Headgate-Durability",), required=("X-Headgate-Durability",)),
        "content": {
            "application/json": {
                "schema": ref("Accepted"),
                "example": {"success": True, "event_id": EXAMPLE["event_id"]},
            }
        },
    }


def _taken_or_dropped() -> Json:
    return {
        "description": "The event is durable; or it came from no person and was dropped (then without "
        "`X-Headgate-Durability`).",
        "headers": {**headers(("X-Headgate-Durability",)), **_cors()},
        "content": {
            "application/json": {
                "schema": {"oneOf": [ref("Accepted"), ref("Dropped")]},
                "examples": {
                    "accepted": {"value": {"success": True, "event_id": EXAMPLE["event_id"]}},
                    "bot": {"value": {"ok": True, "dropped": "bot"}},
                },
            }
        },
    }


def _cors() -> dict[str, Json]:
    return {"Access-Control-Allow-Origin": _ORIGIN, "Access-Control-Expose-Headers": _EXPOSED}


def _reference(family: str, status: int) -> Json:
    return {"$ref": f"#/components/responses/{family}{status}"}


def _titled(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _shell(line: str) -> Json:
    return {"lang": "Shell", "label": "curl", "source": line}
