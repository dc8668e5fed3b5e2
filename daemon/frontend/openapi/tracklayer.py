"""
TrackLayer's part of the document: its event, its operations, its answers (contracts C.2 to C.4, 0.4).

Its server path is one with Datafly's (`/v1/events`), so that operation is put together of both.
"""

from __future__ import annotations

from daemon.config.schema import Limits, Tracklayer
from daemon.events import tracklayer
from daemon.events.outcome import Outcome
from daemon.events.payload import ID_CHARS_MAX, NAME_CHARS_MAX
from daemon.events.tracklayer import event, user
from daemon.events.tracklayer.currencies import CURRENCIES
from daemon.frontend.openapi.answers import headers
from daemon.frontend.openapi.callers import json_body, parameters
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


# --- the event --------------------------------------------------------------------------------------


def _maybe(schema: Json, text: str) -> Json:
    """A member that may be absent or null."""
    return {**schema, "type": [schema["type"], "null"], "description": text}


_LONG: Json = {"type": "string", "maxLength": user.VALUE_CHARS_MAX}
_INTEGER: Json = {"type": "integer", "minimum": user.INTEGER_MIN, "maximum": user.INTEGER_MAX}


def _several(one: Json) -> Json:
    return {"type": "array", "maxItems": user.VALUES_MAX, "items": {"anyOf": [one, {"type": "null"}]}}


def _user_data() -> Json:
    text = {"anyOf": [_LONG, _several(_LONG), {"type": "null"}]}
    number = {"anyOf": [_LONG, _INTEGER]}
    numbers = {"anyOf": [_LONG, _INTEGER, _several(number), {"type": "null"}]}
    members: dict[str, Json] = dict.fromkeys(user.TEXTS, text)
    members |= dict.fromkeys(user.IDS, numbers)
    members |= {name: {**_LONG, "type": ["string", "null"]} for name in user.ONE_TEXT}
    members |= {name: {"anyOf": [_LONG, _INTEGER, {"type": "null"}]} for name in user.ONE_ID}
    members["browser_ids"] = {
        "type": ["object", "null"],
        "additionalProperties": {"anyOf": [_LONG, _INTEGER, {"type": "null"}]},
        "properties": {name: {**_LONG, "type": ["string", "null"]} for name in ("fbp", "fbc")},
    }
    return {
        "type": ["object", "null"],
        "description": "The person: `email`, `phone`, `gender`, `date_of_birth`, `first_name`, `last_name`, `city`, `state`, "
        "`zip` or `postal_code`, `country`, `customer_id`, `external_ids` (each a text or several), `client_ip` or `ip`, "
        "`user_agent`, `browser_ids` {`fbp`, `fbc`, …}, `madid`, `fb_login_id`, `subscription_id`, `lead_id`, `anon_id`, "
        "`ctwa_clid`. What is null or blank is dropped, other members are kept.",
        "properties": members,
    }


def schema() -> Json:
    """trackEventSchema."""
    identifier: Json = {"type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": r"\S"}
    amount: Json = {"type": ["number", "null"], "minimum": 0, "maximum": 1e300}
    required: dict[str, Json] = {
        "event_id": {
            **identifier,
            "description": "The caller's own id. A second one within 24 hours on the same channel is a 409.",
        },
        "event_name": {**identifier, "maxLength": NAME_CHARS_MAX, "description": "What happened."},
        "event_time": {
            "type": ["integer", "string"],
            "minimum": event.TIME_S_MIN,
            "exclusiveMaximum": event.TIME_S_MAX,
            "pattern": r"^20\d{2}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
            r"(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$",
            "description": "When it happened: Unix seconds, or ISO 8601. The years 2000 to 2099.",
        },
        "merchant_id": {
            "type": "string",
            "format": "uuid",
            "description": "Whose event it is. From a server: the key's own merchant.",
        },
    }
    optional: dict[str, Json] = {
        "source": _maybe(
            {"type": "string", "maxLength": ID_CHARS_MAX}, "What sent it, such as `server`. Kept as it is."
        ),
        "user_data": _user_data(),
        "value": {**amount, "description": "What it is worth."},
        "currency": {
            "type": ["string", "null"],
            "enum": [*sorted(CURRENCIES), None],
            "description": "Of `value`: a code of ISO 4217, in upper or lower case.",
        },
        "order_id": _maybe({"type": "string", "maxLength": ID_CHARS_MAX}, "The order's id."),
        "items": {
            "type": ["array", "null"],
            "maxItems": event.ITEMS_MAX,
            "description": "What was ordered or looked at; further members are kept.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {
                        "anyOf": [identifier, {"type": "integer"}, {"type": "null"}],
                        "description": "The product's id.",
                    },
                    "quantity": {**amount, "description": "How many."},
                    "price": {**amount, "description": "Of one."},
                },
            },
        },
        "event_source_url": _maybe(
            {
                "type": "string",
                "maxLength": event.URL_CHARS_MAX,
                "pattern": r"^([A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s/?#\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*)?$",
            },
            "The page's whole address. From a page without it: the `Referer`.",
        ),
        "consent_state": {
            "type": ["object", "null"],
            "properties": {name: {"enum": [*event.CONSENT_VALUES, None]} for name in event.CONSENTS},
            "description": "What the person agreed to: "
            + ", ".join(f"`{name}`" for name in event.CONSENTS)
            + ", each `granted` or `denied`.",
        },
        "custom_data": {
            "type": ["object", "null"],
            "description": "Whatever else belongs to the event. Passed through as it came.",
        },
    }
    return {
        "type": "object",
        "title": "MerchantEvent",
        "description": "An event of TrackLayer. Members that are not listed are left out.",
        "required": list(required),
        "properties": {**required, **optional},
    }


EXAMPLE: Json = {
    "event_id": "order-12345",
    "event_name": "purchase",
    "event_time": 1772029800,
    "merchant_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "source": "server",
    "user_data": {
        "email": "jane@example.com",
        "phone": "+1 650 555 1212",
        "country": "us",
        "customer_id": "user_98765",
        "browser_ids": {"fbp": "fb.1.1596403881668.1116446470"},
    },
    "value": 129.99,
    "currency": "USD",
    "order_id": "order-12345",
    "items": [{"id": "sku-1", "quantity": 1, "price": 129.99}],
    "event_source_url": "https://shop.example.com/thank-you",
    "consent_state": {"ad_storage": "granted", "ad_user_data": "granted"},
}


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
