"""The schema of TrackLayer's event: trackEventSchema in the document's words (contracts C.2, C.3)."""

from __future__ import annotations

from daemon.events.payload import ID_CHARS_MAX, NAME_CHARS_MAX
from daemon.events.tracklayer import event, user
from daemon.events.tracklayer.currencies import CURRENCIES
from daemon.frontend.openapi.schemas import Json


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
