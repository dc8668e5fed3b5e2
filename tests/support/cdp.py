"""ResultFly's events for tests: a contract, good events, and everything that can be wrong with one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from daemon.events.contract.definition import EVENT_TYPE_CHARS_MAX
from daemon.events.payload import DEPTH_MAX, ID_CHARS_MAX
from daemon.events.resultfly import NO_IDENTITY

#: The event type of the documents, with one property of every type.
PURCHASE: dict[str, Any] = {
    "properties": {
        "order_id": {"type": "string", "required": True},
        "amount": {"type": "number", "required": True},
        "currency": {"type": "string"},
        "store_id": {"type": "string"},
        "items": {"type": "array"},
        "count": {"type": "integer"},
        "gift": {"type": "boolean"},
        "shipped_at": {"type": "datetime"},
        "address": {"type": "object"},
    }
}
TYPE = "purchase_completed"
TIME = "must be an ISO 8601 time such as 2026-02-25T14:30:00.000Z"


def purchase(event_id: str = "order-1", **changes: Any) -> dict[str, Any]:
    """The documents' event; `changes` replace members, `...` takes one out."""
    made: dict[str, Any] = {
        "source": "brand.pos",
        "externalEventId": event_id,
        "eventType": TYPE,
        "occurredAt": "2026-02-25T14:30:00Z",
        "identity": {"externalUserId": "user_98765", "email": "jane@example.com"},
        "properties": {"order_id": "ORD-1", "amount": 129.99, "currency": "EUR", "store_id": "S1"},
    }
    made |= changes
    return {name: value for name, value in made.items() if value is not ...}


@dataclass(frozen=True)
class Bad:
    """A body with something wrong in it, and the exact message that says so."""

    message: str
    body: Any
    status: int = 422
    code: str = "validation_failed"

    @property
    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def _with(**properties: Any) -> dict[str, Any]:
    good = purchase()["properties"]
    kept = {name: value for name, value in {**good, **properties}.items() if value is not ...}
    return purchase(properties=kept)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _raw(members: bytes) -> bytes:
    return json.dumps(purchase()).encode()[:-1] + b"," + members + b"}"


_LONG = "x" * (ID_CHARS_MAX + 1)
_ID_LONG = f"is longer than {ID_CHARS_MAX} characters"

#: Well-formed JSON that no event is: each fails by itself, alone and in a batch.
INVALID: list[Bad] = [
    # the members
    Bad("source is required", {}),
    Bad("source is required", purchase(source=...)),
    Bad("source is required", purchase(source="")),
    Bad("source is required", purchase(source=" \t")),
    Bad("source must be a string, not null", purchase(source=None)),
    Bad("source must be a string, not an integer", purchase(source=7)),
    Bad("source must be a string, not an array", purchase(source=["brand.pos"])),
    Bad(f"source {_ID_LONG}", purchase(source=_LONG)),
    Bad("source must not hold a NUL character", purchase(source="a\0b")),
    Bad("externalEventId is required", purchase(externalEventId=...)),
    Bad("externalEventId is required", purchase(externalEventId="")),
    Bad("externalEventId must be a string, not null", purchase(externalEventId=None)),
    Bad("externalEventId must be a string, not an integer", purchase(externalEventId=1)),
    Bad(f"externalEventId {_ID_LONG}", purchase(externalEventId=_LONG)),
    Bad("externalEventId must not hold a NUL character", purchase(externalEventId="\0")),
    Bad("eventType is required", purchase(eventType=...)),
    Bad("eventType is required", purchase(eventType="")),
    Bad("eventType must be a string, not null", purchase(eventType=None)),
    Bad("eventType must be a string, not true or false", purchase(eventType=True)),
    Bad("eventType must be a string, not an object", purchase(eventType={"a": 1})),
    Bad(
        f"eventType is longer than {EVENT_TYPE_CHARS_MAX} characters",
        purchase(eventType="x" * (EVENT_TYPE_CHARS_MAX + 1)),
    ),
    Bad(
        "eventType 'unheard_of' is not registered; put a contract at /v1/cdp/contracts/{eventType} first",
        purchase(eventType="unheard_of"),
        code="unknown_event_type",
    ),
    Bad(
        "eventType 'Purchase_Completed' is not registered; put a contract at /v1/cdp/contracts/{eventType} first",
        purchase(eventType="Purchase_Completed"),
        code="unknown_event_type",
    ),
    Bad(f"occurredAt {TIME}", purchase(occurredAt="yesterday")),
    Bad(f"occurredAt {TIME}", purchase(occurredAt="2026-02-30T14:30:00Z")),
    Bad(f"occurredAt {TIME}", purchase(occurredAt="25.02.2026")),
    Bad("occurredAt must be a string, not an integer", purchase(occurredAt=1772029800)),
    # who it is
    Bad(NO_IDENTITY, purchase(identity=...)),
    Bad(NO_IDENTITY, purchase(identity={})),
    Bad(NO_IDENTITY, purchase(identity={"userId": "u", "sessionId": "s"})),
    Bad(NO_IDENTITY, purchase(identity={"externalUserId": "", "email": " ", "phone": "", "deviceKey": "\n"})),
    Bad("identity must be an object, not null", purchase(identity=None)),
    Bad("identity must be an object, not an array", purchase(identity=[])),
    Bad("identity must be an object, not a string", purchase(identity="jane@example.com")),
    Bad("identity.externalUserId must be a string, not null", purchase(identity={"externalUserId": None})),
    Bad("identity.externalUserId must be a string, not an integer", purchase(identity={"externalUserId": 7})),
    Bad("identity.email must be a string, not null", purchase(identity={"externalUserId": "u", "email": None})),
    Bad("identity.email must be a string, not an array", purchase(identity={"email": ["a@example.com"]})),
    Bad("identity.email must be an e-mail address", purchase(identity={"email": "none"})),
    Bad("identity.email must be an e-mail address", purchase(identity={"email": "jane@"})),
    Bad("identity.email must be an e-mail address", purchase(identity={"email": "jane doe@example.com"})),
    Bad("identity.phone must be a string, not null", purchase(identity={"externalUserId": "u", "phone": None})),
    Bad("identity.phone must be a string, not an integer", purchase(identity={"phone": 4930123456})),
    Bad("identity.phone must hold the digits of a phone number", purchase(identity={"phone": "n/a"})),
    Bad("identity.deviceKey must be a string, not null", purchase(identity={"email": "a@b.c", "deviceKey": None})),
    Bad("identity.deviceKey must be a string, not true or false", purchase(identity={"deviceKey": False})),
    Bad(f"identity.externalUserId {_ID_LONG}", purchase(identity={"externalUserId": _LONG})),
    Bad(f"identity.deviceKey {_ID_LONG}", purchase(identity={"externalUserId": "u", "deviceKey": _LONG})),
    Bad("identity.externalUserId must not hold a NUL character", purchase(identity={"externalUserId": "u\0"})),
    # the contract
    Bad("properties must be an object", purchase(properties=[])),
    Bad("properties must be an object", purchase(properties="order")),
    Bad("properties must be an object", purchase(properties=1)),
    Bad("properties.order_id is required; properties.amount is required", purchase(properties=...)),
    Bad("properties.order_id is required; properties.amount is required", purchase(properties=None)),
    Bad("properties.order_id is required; properties.amount is required", purchase(properties={})),
    Bad("properties.order_id is required", _with(order_id=...)),
    Bad("properties.order_id must be a string, not null", _with(order_id=None)),
    Bad("properties.order_id must be a string, not a number", _with(order_id=1)),
    Bad("properties.order_id must be a string, not a boolean", _with(order_id=True)),
    Bad("properties.order_id must be a string, not an object", _with(order_id={})),
    Bad("properties.order_id must be a string, not an array", _with(order_id=["ORD-1"])),
    Bad("properties.amount is required", _with(amount=...)),
    Bad("properties.amount must be a number, not a string", _with(amount="129.99")),
    Bad("properties.amount must be a number, not a boolean", _with(amount=True)),
    Bad("properties.amount must be a number, not null", _with(amount=None)),
    Bad("properties.currency must be a string, not a number", _with(currency=978)),
    Bad("properties.items must be an array, not an object", _with(items={"0": "A"})),
    Bad("properties.items must be an array, not a string", _with(items="A")),
    Bad("properties.count must be an integer, not a number with a fraction", _with(count=1.5)),
    Bad("properties.count must be an integer, not a string", _with(count="1")),
    Bad("properties.count must be an integer, not a boolean", _with(count=False)),
    Bad("properties.gift must be a boolean, not a number", _with(gift=1)),
    Bad("properties.gift must be a boolean, not a string", _with(gift="true")),
    Bad("properties.shipped_at must be an ISO 8601 string, not a number", _with(shipped_at=1772029800)),
    Bad(f"properties.shipped_at {TIME}", _with(shipped_at="tomorrow")),
    Bad(f"properties.shipped_at {TIME}", _with(shipped_at="")),
    Bad(f"properties.shipped_at {TIME}", _with(shipped_at="2026-13-01")),
    Bad("properties.address must be an object, not an array", _with(address=[])),
    Bad("properties.address must be an object, not a string", _with(address="Main St")),
    Bad("properties.colour is not a property of purchase_completed", _with(colour="red")),
    Bad("properties.Order_Id is not a property of purchase_completed", _with(Order_Id="x")),
    Bad('properties[""] is not a property of purchase_completed', _with(**{"": 1})),
    Bad("properties.__class__ is not a property of purchase_completed", _with(__class__=1)),
    Bad(
        f"properties.{'x' * 200}… is not a property of purchase_completed",
        _with(**{"x" * 1000: 1}),
    ),
    Bad(
        "properties.amount must be a number, not a string; properties.count must be an integer, not a string; "
        "properties.colour is not a property of purchase_completed",
        _with(amount="1", count="1", colour="red"),
    ),
    Bad(
        "properties.a0 is not a property of purchase_completed; properties.a1 is not a property of purchase_completed; "
        "properties.a2 is not a property of purchase_completed; properties.a3 is not a property of purchase_completed; "
        "properties.a4 is not a property of purchase_completed; and 5 more",
        _with(**{f"a{number}": 1 for number in range(10)}),
    ),
    Bad("properties.amount is out of range: no 64-bit float holds it", _raw(b'"properties":{"order_id":"x","amount":1e999}')),
]  # fmt: skip

#: Of duplicate keys the last one wins, the wrong one too.
INVALID += [
    Bad("properties.amount must be a number, not a string",
        _raw(b'"properties":{"order_id":"x","amount":1,"amount":"1"}')),
    Bad("source must be a string, not null", _raw(b'"source":null')),
]  # fmt: skip

#: What is no event at all; in a batch it is "the event".
NO_OBJECT: list[Bad] = [
    Bad("the body must be an object, not null", None),
    Bad("the body must be an object, not an array", []),
    Bad("the body must be an object, not a string", "event"),
    Bad("the body must be an object, not an integer", 1),
    Bad("the body must be an object, not true or false", b"true"),
    Bad(f"the body is nested deeper than {DEPTH_MAX} levels", _with(address=_nested(300))),
]

#: What is no JSON: in a batch the whole of it.
MALFORMED: list[Bad] = [
    Bad("the body is empty; send one JSON object", b"", 400, "malformed_json"),
    Bad("the body is empty; send one JSON object", b" \n", 400, "malformed_json"),
    Bad("the body is not valid JSON: invalid character (byte 0)", b"hello", 400, "malformed_json"),
    Bad("the body is not valid JSON: invalid character (byte 39)", b'{"properties":{"order_id":"x","amount":NaN}}', 400, "malformed_json"),
    Bad("the body is not UTF-8: invalid byte at position 13", b'{"source": "a\xff"}', 400, "malformed_json"),
    Bad(
        "the body is not valid JSON: a broken \\u escape (a lone surrogate?) or cut short",
        _raw(b'"properties":{"order_id":"\\ud800","amount":1}'), 400, "malformed_json",
    ),
]  # fmt: skip

#: What may look wrong and is not.
VALID: list[Any] = [
    purchase(),
    purchase(occurredAt=...),
    purchase(occurredAt=None),
    purchase(occurredAt=""),
    purchase(occurredAt="2026-02-25"),
    purchase(occurredAt="20260225T143000+0200"),
    purchase(source=" brand.pos "),
    purchase(identity={"deviceKey": "d"}),
    purchase(identity={"phone": "030 123"}),
    purchase(identity={"email": "  JANE@Example.com "}),
    purchase(identity={"externalUserId": "", "email": "jane@example.com", "telegram": 7}),
    purchase(another="member", properties=purchase()["properties"]),
    _with(amount=0),
    _with(amount=-1e300),
    _with(amount=10**400),
    _with(order_id=""),
    _with(currency=None, store_id=...),
    _with(items=[], count=1.0, gift=False, shipped_at="2026-02-25", address={}),
    _with(items=[1, "a", {"b": None}], count=10**30, shipped_at="2026-02-25T14:30:00.123456+02:00"),
    _with(count=1e3, address=_nested(100)),
    _raw(b'"properties":{"order_id":7,"order_id":"x","amount":"1","amount":1}'),
    _raw(b'"properties":{"amount":1,"\\u006frder_id":"x"}'),
    purchase(externalEventId="\u00e9\U0001f600", source="m\u00fcnchen"),
]
