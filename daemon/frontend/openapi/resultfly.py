"""ResultFly's part of the document: events, batches, contracts, and their answers (contracts B and 0.3)."""

from __future__ import annotations

from typing import Any

import msgspec

from daemon.config.schema import Limits
from daemon.events import resultfly
from daemon.events.contract import definition
from daemon.events.contract.definition import Property
from daemon.events.contract.schema import MEDIA_TYPE, json_schema
from daemon.events.payload import ID_CHARS_MAX
from daemon.frontend.openapi.answers import headers
from daemon.frontend.openapi.callers import json_body, parameters, size
from daemon.frontend.openapi.schemas import Json, ref

EVENTS, CONTRACTS = "ResultFly CDP", "ResultFly contracts"

TAGS: tuple[Json, ...] = (
    {
        "name": EVENTS,
        "description": "Events of customers, from servers alone. What an event of a type carries is governed by its "
        "contract; who it is of by at least one identifier. `externalEventId` is the business's own id of the event: "
        "send whatever got no answer again with it, as often as it takes.",
    },
    {
        "name": CONTRACTS,
        "description": "Which event types a tenant has, and what `properties` of each hold. A change is in force "
        "everywhere within a second; older versions stay readable. `headgate contracts apply` takes them from a file.",
    },
)

SECURITY_SCHEME: Json = {
    "x-displayName": "CDP key",
    "type": "http",
    "scheme": "bearer",
    "description": "`Authorization: Bearer cdp_live_…` (or `cdp_test_…`), a tenant's API key. Scopes: "
    + ", ".join(f"`{scope}`" for scope in resultfly.SCOPES)
    + ".",
}

#: Error code → when it is given. Every code that is ever sent stands here.
MEANINGS: dict[str, str] = {
    "malformed_json": "Not JSON, or cut short, or not packed as it says.",
    "invalid_api_key": "No key, an unknown or revoked one, or another product's.",
    "forbidden": "The key lacks the scope that the message names.",
    "not_found": "There is no such path, or no such contract.",
    "method_not_allowed": "The path has other methods; `Allow` says which.",
    "request_timeout": "The body was not complete in time.",
    "event_conflict": "The same source and externalEventId came before with another eventType. Sending it again will "
    "not help.",
    "payload_too_large": "The body, inflated, is over the limit; of a batch's item: the item.",
    "unsupported_media_type": "A content type, charset or content encoding that is not taken.",
    "validation_failed": "Not what is asked for; the message names the field by its path.",
    "unknown_event_type": "The tenant has no contract for this eventType.",
    "rate_limited": "Over the key's rate. Try again after `Retry-After`.",
    "unavailable": "It could not be made durable now, or we are too busy. Try again after `Retry-After`, with the same "
    "externalEventId.",
}

_COMMON = ("invalid_api_key", "forbidden", "rate_limited", "unavailable")
_BODY = (
    "malformed_json",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_failed",
)

#: First part of the names of shared answers → the codes that such operations refuse with.
FAMILIES: dict[str, tuple[str, ...]] = {
    "CdpEvent": (*_COMMON, *_BODY, "unknown_event_type", "event_conflict"),
    "CdpBatch": (*_COMMON, *_BODY),
    "CdpContracts": _COMMON,
    "CdpRead": (*_COMMON, "not_found", "validation_failed"),
    "CdpWrite": (*_COMMON, *_BODY),
    "CdpDelete": (*_COMMON, "not_found"),
}

_ID = resultfly.event_id("acme", "brand.pos", "ORD-2026-001")
_TIME = {"type": "string", "format": "date-time"}


# --- schemas ----------------------------------------------------------------------------------------


def _text(what: str, *, needed: bool = False, chars_max: int = ID_CHARS_MAX) -> Json:
    made: Json = {"type": "string", "description": what, "maxLength": chars_max}
    # text, and something other than blanks and NUL characters
    return {**made, "minLength": 1, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"} if needed else made


def _event() -> Json:
    ids = ("externalUserId", "email", "phone", "deviceKey")
    needed = {
        "source": _text("The system that it happened in, such as `brand.pos`.", needed=True),
        "externalEventId": _text(
            "The event's own id in that system: an event with the same source and id is a duplicate, for ever.",
            needed=True,
        ),
        "eventType": _text(
            "A registered event type; its contract says what `properties` hold.",
            needed=True,
            chars_max=definition.EVENT_TYPE_CHARS_MAX,
        ),
        "identity": {
            "type": "object",
            "description": "Who it is of: at least one that is not empty. They are compared in this order of "
            "precedence. Other members don't count and are not kept.",
            "anyOf": [{"required": [one]} for one in ids],
            "properties": {
                "externalUserId": _text("The user's id in the sender's system. Case-sensitive.", needed=True),
                "email": {
                    **_text("An e-mail address, compared without blanks around it and in lower case."),
                    "pattern": r"^[!-?A-~]+@[!-?A-~]+$",
                },
                "phone": {
                    **_text(
                        "A phone number, compared as E.164. Without a calling code it is one of the tenant's country "
                        "(`resultfly.regions`)."
                    ),
                    "pattern": r"^\+?[0-9 ().-]*[0-9][0-9 ().-]*$",
                },
                "deviceKey": _text("A device's or an app's key. Case-sensitive.", needed=True),
            },
        },
    }
    optional = {
        "occurredAt": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "When it happened, ISO 8601. Default: when it was received.",
        },
        "properties": {
            "type": ["object", "null"],
            "description": "What the event type's contract asks for. Passed through as it came.",
        },
    }
    return {
        "type": "object",
        "title": "CdpEvent",
        "description": "An event of a customer. Members that are not listed are left out.",
        "required": list(needed),
        "properties": {**needed, **optional},
    }


def _batch() -> Json:
    return {
        "type": "object",
        "title": "CdpBatch",
        "description": "Each item is checked by itself: a bad one fails alone.",
        "required": ["items"],
        "properties": {
            "items": {
                "type": "array",
                "items": ref("CdpEvent"),
                "minItems": 1,
                "maxItems": Limits().batch_items_max,
            }
        },
    }


def _answers() -> dict[str, Json]:
    def one(status: str, **members: Json) -> Json:
        return {
            "type": "object",
            "required": ["status", *members],
            "properties": {"status": {"type": "string", "const": status}, **members},
        }

    event_id: Json = {"type": "string", "pattern": "^evt_[a-z2-7]{26}$"}
    return {
        "CdpAccepted": {
            "description": "The event is durable.",
            **one(
                "accepted",
                event_id={**event_id, "description": "The same for the same event, for ever."},
            ),
        },
        "CdpDuplicate": {
            "description": "It was durable before, and was not published again.",
            **one(
                "duplicate",
                original_event_id={**event_id, "description": "The id that the first one was given."},
            ),
        },
        "CdpError": {
            "description": "What was wrong: a code for programs, a message for people that names the field and what to do.",
            **one(
                "error",
                error_code={"type": "string", "enum": list(resultfly.STATUSES)},
                message={"type": "string"},
            ),
        },
        "CdpBatchAnswer": {
            "type": "object",
            "description": "One result for each item, in their order.",
            "required": ["results"],
            "properties": {
                "results": {
                    "type": "array",
                    "items": {"oneOf": [ref("CdpAccepted"), ref("CdpDuplicate"), ref("CdpError")]},
                }
            },
        },
    }


def _contracts() -> dict[str, Json]:
    prop = msgspec.json.schema_components([Property])[1]["Property"]
    for member in prop["properties"].values():
        member.pop("default", None)
    prop["description"] = "What one property is. Null for an optional one is the same as leaving it out."
    properties: Json = {
        "type": "object",
        "description": "Name → what it is. Any name will do.",
        "maxProperties": definition.PROPERTIES_MAX,
        "propertyNames": {"maxLength": definition.PROPERTY_CHARS_MAX},
        "additionalProperties": ref("CdpProperty"),
    }
    additional: Json = {
        "type": "string",
        "enum": ["reject", "allow"],
        "description": "What becomes of an event with a property that is not listed. Default: `reject`.",
    }
    contract: Json = {
        "type": "object",
        "description": "What `properties` of an event type hold.",
        "required": ["properties"],
        "additionalProperties": False,
        "properties": {"properties": properties, "additionalProperties": additional},
    }
    stored: Json = {
        "type": "object",
        "description": "A version of a contract.",
        "required": ["eventType", "version", "properties", "additionalProperties", "createdAt"],
        "properties": {
            "eventType": {"type": "string"},
            "version": {
                "type": "integer",
                "minimum": 1,
                "description": "Grows by one with every change, also over a deletion.",
            },
            "properties": properties,
            "additionalProperties": additional,
            "createdAt": {**_TIME, "description": "Since when it is in force."},
            "endedAt": {**_TIME, "description": "Until when it was; absent while it is in force."},
        },
    }
    listed: Json = {
        "type": "object",
        "description": "All contracts that are in force, by event type.",
        "required": ["contracts"],
        "properties": {"contracts": {"type": "array", "items": ref("CdpStoredContract")}},
    }
    return {
        "CdpProperty": prop,
        "CdpContract": contract,
        "CdpStoredContract": stored,
        "CdpContractList": listed,
    }


def schemas() -> dict[str, Json]:
    """Every schema by its name."""
    return {"CdpEvent": _event(), "CdpBatch": _batch(), **_answers(), **_contracts()}


# --- examples ---------------------------------------------------------------------------------------

EVENT: Json = {
    "source": "brand.pos",
    "externalEventId": "ORD-2026-001",
    "eventType": "purchase_completed",
    "occurredAt": "2026-02-25T14:30:00.000Z",
    "identity": {"externalUserId": "user_98765", "email": "jane@example.com", "phone": "+49 30 901820"},
    "properties": {"order_id": "ORD-2026-001", "amount": 129.99, "currency": "EUR", "store_id": "berlin-1"},
}
CONTRACT: Json = {
    "properties": {
        "order_id": {"type": "string", "required": True},
        "amount": {"type": "number", "required": True},
        "currency": {"type": "string"},
        "store_id": {"type": "string"},
    },
    "additionalProperties": "reject",
}
_FULL: Json = {
    "properties": {name: {"required": False, **one} for name, one in CONTRACT["properties"].items()},
    "additionalProperties": "reject",
}
_STORED: Json = {
    "eventType": "purchase_completed",
    "version": 1,
    **_FULL,
    "createdAt": "2026-02-25T14:30:00.000000Z",
}
_ACCEPTED: Json = {"status": "accepted", "event_id": _ID}
_DUPLICATE: Json = {"status": "duplicate", "original_event_id": _ID}
_INVALID: Json = {"status": "error", "error_code": "validation_failed", "message": resultfly.NO_IDENTITY}
_MESSAGES = {
    "validation_failed": resultfly.NO_IDENTITY,
    "forbidden": "this key lacks the scope cdp:events:write",
    "unknown_event_type": "eventType 'purchase' is not registered; put a contract at /v1/cdp/contracts/{eventType} first",
    "rate_limited": "Rate limit exceeded. Retry after 1 seconds.",
}

_AUTH = '-H "Authorization: Bearer $CDP_KEY"'
_JSON = "-H 'Content-Type: application/json'"
_SHORT = {name: value for name, value in EVENT.items() if name != "occurredAt"}


def _line(path: str, body: Json | None = None, method: str = "") -> list[dict[str, Any]]:
    how = f"-X {method} " if method else ""
    text = f'curl -sS {how}"$URL{path}" {_AUTH}'
    if body is not None:
        text += f" {_JSON} \\\n  -d '{msgspec.json.encode(body).decode()}'"
    return [{"lang": "Shell", "label": "curl", "source": text}]


# --- operations -------------------------------------------------------------------------------------


def operations() -> dict[str, Json]:
    """ResultFly's paths."""
    return {
        "/v1/cdp/events": {"post": _post_event()},
        "/v1/cdp/events/batch": {"post": _post_batch()},
        "/v1/cdp/contracts": {"get": _list()},
        "/v1/cdp/contracts/{eventType}": {"get": _get(), "put": _put(), "delete": _delete()},
    }


def _operation(name: str, tag: str, scope: str, summary: str, text: str) -> Json:
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": f"{text} Scope: `{scope}`.",
        "security": [{"cdpKey": []}],
    }


def _post_event() -> Json:
    return {
        **_operation(
            "cdp_event",
            EVENTS,
            resultfly.EVENTS_WRITE,
            "One event of a customer",
            "The event's id is derived from tenant, source and externalEventId, so a copy has the same one whenever it "
            "comes. Another eventType under the same source and externalEventId is a 409.",
        ),
        "parameters": parameters("ContentEncoding", "RequestId"),
        "requestBody": json_body("CdpEvent", EVENT, Limits().body_bytes_max),
        "responses": {
            "200": {
                "description": "Durable: on Kafka, or on this machine's disk after fsync. Or a duplicate of an event "
                "that is.",
                "headers": headers(("X-Headgate-Durability", "X-Headgate-Duplicate")),
                "content": {
                    "application/json": {
                        "schema": {"oneOf": [ref("CdpAccepted"), ref("CdpDuplicate")]},
                        "examples": {"accepted": {"value": _ACCEPTED}, "duplicate": {"value": _DUPLICATE}},
                    }
                },
            },
            **_references("CdpEvent"),
        },
        "x-codeSamples": _line("/v1/cdp/events", _SHORT),
    }


def _post_batch() -> Json:
    limits = Limits()
    return {
        **_operation(
            "cdp_batch",
            EVENTS,
            resultfly.EVENTS_WRITE,
            "Many events of customers",
            f"Up to {limits.batch_items_max} events, each with a result of its own in its place; one of over "
            f"{size(limits.item_bytes_max)} fails alone. Of two with the same source and externalEventId the second is "
            "a duplicate of the first. A batch costs one request of the rate limit.",
        ),
        "parameters": parameters("ContentEncoding", "RequestId"),
        "requestBody": json_body("CdpBatch", {"items": [EVENT]}, limits.batch_bytes_max),
        "responses": {
            "200": {
                "description": "A result for each item. With `Retry-After`: some could not be made durable now "
                "(`unavailable`); send them again.",
                "headers": headers(("X-Headgate-Durability", "Retry-After")),
                "content": {
                    "application/json": {
                        "schema": ref("CdpBatchAnswer"),
                        "example": {"results": [_ACCEPTED, _DUPLICATE, _INVALID]},
                    }
                },
            },
            **_references("CdpBatch"),
        },
        "x-codeSamples": _line(
            "/v1/cdp/events/batch", {"items": [_SHORT, {**_SHORT, "externalEventId": "ORD-2026-002"}]}
        ),
    }


_EVENT_TYPE: Json = {
    "name": "eventType",
    "in": "path",
    "required": True,
    "description": "Any characters, percent-encoded (a slash may stand as it is). Case-sensitive.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": definition.EVENT_TYPE_CHARS_MAX,
        # "." and ".." are parts of a path to most clients
        "pattern": r"^[^\s\u0000\uFFFD.][^\u0000\uFFFD]*$",
    },
}
_VERSION: Json = {
    "name": "version",
    "in": "query",
    "description": "An older version; without it the one in force.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
}
_FORMAT: Json = {
    "name": "format",
    "in": "query",
    "description": f"`json-schema` gives the contract as JSON Schema, as `Accept: {MEDIA_TYPE}` does.",
    "schema": {"type": "string", "enum": ["json", "json-schema"]},
}


def _stored(text: str) -> Json:
    return {
        "description": text,
        "content": {"application/json": {"schema": ref("CdpStoredContract"), "example": _STORED}},
    }


def _list() -> Json:
    return {
        **_operation(
            "cdp_contracts",
            CONTRACTS,
            resultfly.CONTRACTS_READ,
            "All contracts",
            "Those in force, by event type.",
        ),
        "parameters": parameters("RequestId"),
        "responses": {
            "200": {
                "description": "All of them.",
                "headers": headers(("Cache-Control",)),
                "content": {
                    "application/json": {
                        "schema": ref("CdpContractList"),
                        "example": {"contracts": [_STORED]},
                    }
                },
            },
            **_references("CdpContracts"),
        },
        "x-codeSamples": _line("/v1/cdp/contracts"),
    }


def _get() -> Json:
    good = _stored("The contract.")
    good["headers"] = headers(("Cache-Control", "Vary"))
    good["content"][MEDIA_TYPE] = {
        "schema": {"type": "object"},
        "example": json_schema("purchase_completed", definition.contract_of(CONTRACT)),
    }
    return {
        **_operation(
            "cdp_contract",
            CONTRACTS,
            resultfly.CONTRACTS_READ,
            "One contract",
            "The version in force, or an older one; also as JSON Schema.",
        ),
        "parameters": [_EVENT_TYPE, _VERSION, _FORMAT, *parameters("RequestId")],
        "responses": {"200": good, **_references("CdpRead")},
        "x-codeSamples": _line("/v1/cdp/contracts/purchase_completed"),
    }


def _put() -> Json:
    return {
        **_operation(
            "cdp_put_contract",
            CONTRACTS,
            resultfly.CONTRACTS_WRITE,
            "Put a contract into force",
            "It replaces the one before, whose version stays readable. What says the same as before changes nothing. A "
            f"tenant has at most {definition.CONTRACTS_MAX:,} event types, each of at most {definition.PROPERTIES_MAX} "
            "properties.",
        ),
        "parameters": [_EVENT_TYPE, *parameters("ContentEncoding", "RequestId")],
        "requestBody": json_body("CdpContract", CONTRACT, definition.CONTRACT_BYTES_MAX),
        "responses": {"200": _stored("The contract as it is in force now."), **_references("CdpWrite")},
        "x-codeSamples": _line("/v1/cdp/contracts/purchase_completed", CONTRACT, "PUT"),
    }


def _delete() -> Json:
    line = _line("/v1/cdp/contracts/cart_abandoned", method="DELETE")
    line[0]["source"] = line[0]["source"].replace("curl -sS", "curl -sS -i")
    return {
        **_operation(
            "cdp_delete_contract",
            CONTRACTS,
            resultfly.CONTRACTS_WRITE,
            "Delete a contract",
            "Events of the type are refused from now on. Its versions stay readable, and go on where it is put again.",
        ),
        "parameters": [_EVENT_TYPE, *parameters("RequestId")],
        "responses": {"204": {"description": "It is no longer in force."}, **_references("CdpDelete")},
        "x-codeSamples": line,
    }


# --- answers ----------------------------------------------------------------------------------------


def _statuses(codes: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for code in codes:
        status = resultfly.STATUSES[code]
        found[status] = (*found.get(status, ()), code)
    return dict(sorted(found.items()))


def _references(family: str) -> dict[str, Json]:
    return {
        str(status): {"$ref": f"#/components/responses/{family}{status}"}
        for status in _statuses(FAMILIES[family])
    }


def responses() -> dict[str, Json]:
    """All shared answers by name."""
    return {
        f"{family}{status}": _refusal(status, found)
        for family, codes in FAMILIES.items()
        for status, found in _statuses(codes).items()
    }


def _refusal(status: int, codes: tuple[str, ...]) -> Json:
    names = ["X-Request-Id"]
    if status in (429, 503):
        names.append("Retry-After")
    if status == 429:
        names += ["RateLimit", "RateLimit-Policy"]
    return {
        "description": "\n".join(f"`{code}`: {MEANINGS[code]}" for code in codes),
        "headers": headers(names, required=("Retry-After",)),
        "content": {
            "application/json": {
                "schema": {"allOf": [ref("CdpError"), {"properties": {"error_code": {"enum": list(codes)}}}]},
                "examples": {
                    code: {
                        "value": {
                            "status": "error",
                            "error_code": code,
                            "message": _MESSAGES.get(code, MEANINGS[code]),
                        }
                    }
                    for code in codes
                },
            }
        },
    }
