"""ResultFly: single events, batches, and the contracts that they have to satisfy."""

from __future__ import annotations

from msgspec import Raw

from daemon.events import resultfly
from daemon.events.contract import definition
from daemon.events.contract.definition import Contract
from daemon.events.contract.difference import differences
from daemon.events.contract.schema import json_schema
from daemon.events.contract.validator import Validator
from daemon.events.payload import InvalidPayload, JsonReader
from daemon.events.profiles import Book, handles
from daemon.events.resultfly import Event, Identity
from tests.fuzz.inputs.grammar import Grammar, split
from tests.fuzz.targets.common import NOW_TEXT, written
from tests.fuzz.targets.target import Target, refused

NAMES = (*Event.__struct_fields__, *Identity.__struct_fields__, "order_id", "total", "count", "paid", "at", "extra", "list",
         "items")  # fmt: skip

VALUES = (
    '"purchase"', '"anything"', '"unknown"', '{"email":"A@Example.com "}', '{"phone":"030 123456"}', '{"externalUserId":"u1"}',
    '{"deviceKey":"d"}', '{"email":"none","phone":"-"}', '{"order_id":"o1","total":19.9,"count":1.0,"paid":true}',
    '{"order_id":1}', '{"at":"2026-02-25T14:30:00Z"}', '{"extra":{},"list":[]}',
)  # fmt: skip
EVENT = Grammar("json", NAMES, VALUES)

TENANT, REGION = "acme", "DE"

CONTRACTS = {
    "purchase": definition.contract_of(
        {
            "properties": {
                "order_id": {"type": "string", "required": True},
                "total": {"type": "number"},
                "count": {"type": "integer"},
                "paid": {"type": "boolean"},
                "at": {"type": "datetime"},
                "extra": {"type": "object"},
                "list": {"type": "array"},
            }
        }
    ),
    "anything": definition.contract_of({"properties": {}, "additionalProperties": "allow"}),
}
_VALIDATORS = {name: Validator(name, contract) for name, contract in CONTRACTS.items()}


def _accepted(event: Event, body_bytes: int) -> None:
    """All that follows decoding: the contract, the person, the envelope, the profile."""
    resultfly.check_contract(event, _VALIDATORS)
    identity = resultfly.identifiers(event, REGION)
    assert identity
    event_id = resultfly.event_id(TENANT, event.source, event.externalEventId)
    assert len(event_id) == 30
    received = resultfly.Received(event_id, TENANT, "server", NOW_TEXT, identity)
    row = written(resultfly.to_envelope(event, received), body_bytes)
    assert [(one.type, one.value) for one in row.identity] == [(one.type, one.value) for one in identity]
    book = Book({}, {})
    assert book.resolve(row) is not None
    assert len(book.links) == len(handles(row)) == len(identity)


def event(data: bytes) -> str:
    """One event, from its bytes to its profile."""
    try:
        _accepted(resultfly.decode(data), len(data))
    except InvalidPayload as error:
        assert resultfly.code_of(error) in resultfly.STATUSES
        return refused(error, error.message)
    return "accepted"


ITEMS_MAX, ITEM_BYTES_MAX = 500, 8 * 1024


def batch(data: bytes) -> str:
    """A batch: refused as a whole, or each item an event or an error."""
    try:
        items = resultfly.decode_batch(data, ITEMS_MAX)
    except InvalidPayload as error:
        return refused(error, error.message)
    good = 0
    for item in items:
        try:
            _accepted(resultfly.decode_item(item, ITEM_BYTES_MAX), len(bytes(item)))
        except InvalidPayload as error:
            refused(error, error.message)
        else:
            good += 1
    return "all accepted" if good == len(items) else "some accepted" if good else "none accepted"


_objects = JsonReader.of(dict[str, object])


def contract(data: bytes) -> str:
    """A contract, and properties that shall satisfy it: the fast answer and the slow one are the same."""
    body, properties = split(data, 2)
    try:
        found = definition.read(body)
    except InvalidPayload as error:
        return refused(error, error.message)
    encoded = definition.encode(found)
    assert definition.decode(encoded) == found
    assert definition.encode(definition.decode(encoded)) == encoded
    json_schema("purchase", found)
    differences(found, CONTRACTS["purchase"])
    assert not differences(found, found)
    return _satisfied(found, properties)


def _satisfied(found: Contract, properties: bytes) -> str:
    try:
        _objects.read(properties)
    except InvalidPayload:
        return "a contract"
    validator = Validator("x", found)
    try:
        validator.check(Raw(properties.strip()))
    except InvalidPayload as error:
        refused(error, error.message)
        return "a contract, and properties that do not satisfy it"
    return "a contract, and properties that satisfy it"


_CONTRACT_NAMES = ("properties", "additionalProperties", "type", "required", *NAMES)
_CONTRACT_VALUES = (
    *(f'"{kind}"' for kind in definition.TYPES), '"reject"', '"allow"', "true", '{"type":"string"}',
    '{"type":"integer","required":true}', '{"a":{"type":"datetime"}}',
)  # fmt: skip

CONTRACT = Grammar("json", _CONTRACT_NAMES, _CONTRACT_VALUES)

TARGETS = (
    Target("resultfly-event", "a ResultFly event, to its profile", event, (EVENT,), 32 * 1024, share=3),
    Target("resultfly-batch", "a ResultFly batch", batch, (EVENT,), 64 * 1024, share=1.5),
    Target(
        "resultfly-contract", "a contract, and properties against it", contract,
        (CONTRACT, EVENT), 32 * 1024, share=2,
    ),
)  # fmt: skip
