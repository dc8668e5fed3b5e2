"""ResultFly's events: input that nobody foresaw, JSON that passes through, ids that differ where their parts do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.events import resultfly
from daemon.events.contract.definition import Contract
from daemon.events.contract.validator import Validator
from daemon.events.envelope import encode
from daemon.events.payload import InvalidPayload
from tests.support.cdp import PURCHASE, purchase

#: Never wall time: the machine may be busy.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
MEMBERS = ("source", "externalEventId", "eventType", "occurredAt", "identity", "properties")
IDENTITY = ("externalUserId", "email", "phone", "deviceKey")
ANY_PROPERTIES = {"t": Validator("t", Contract({}, "allow"))}

ids = text.filter(lambda one: bool(one.strip()) and "\0" not in one)
identities = st.fixed_dictionaries(
    {}, optional={"externalUserId": ids, "deviceKey": ids, "email": st.emails(), "phone": st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True)}
).filter(bool)  # fmt: skip


def whole_way(body: bytes) -> bytes | None:
    """The envelope of an event, or None where it is refused; any other failure is the test's."""
    try:
        event = resultfly.decode(body)
        identity = resultfly.identifiers(event, "DE")
        resultfly.check_contract(event, {event.eventType: ANY_PROPERTIES["t"]})
    except InvalidPayload:
        return None
    received = resultfly.Received("evt_x", "acme", "server", "now", identity)
    return encode(resultfly.to_envelope(event, received))


@PATIENT
@given(st.binary(max_size=200))
def test_bytes_are_taken_or_refused(body: bytes) -> None:
    whole_way(body)


@PATIENT
@given(st.dictionaries(st.sampled_from(MEMBERS) | text, anything, max_size=8))
def test_any_json_is_taken_or_refused(body: dict[str, Any]) -> None:
    whole_way(json.dumps(body).encode())


@PATIENT
@given(st.sampled_from(MEMBERS), st.sampled_from(IDENTITY), anything, anything)
def test_one_odd_member_is_taken_or_refused(member: str, identity: str, one: Any, other: Any) -> None:
    whole_way(json.dumps(purchase(**{member: one})).encode())
    whole_way(json.dumps(purchase(identity={"externalUserId": "u", identity: other})).encode())


@PATIENT
@given(ids, ids, ids, identities, st.dictionaries(text, anything, max_size=5))
def test_any_json_passes_through(
    source: str, told: str, event_type: str, identity: dict[str, str], properties: dict[str, Any]
) -> None:
    body = {
        "source": source,
        "externalEventId": told,
        "eventType": event_type,
        "identity": identity,
        "properties": properties,
    }
    envelope = whole_way(json.dumps(body).encode())
    assert envelope is not None
    found = json.loads(envelope)
    assert (found["source"], found["messageId"], found["event"]) == (source, told, event_type)
    assert found["properties"] == properties
    types = {"externalUserId": "EXTERNAL", "email": "EMAIL", "phone": "PHONE", "deviceKey": "DEVICE_KEY"}
    assert [one["type"] for one in found["identity"]] == [types[name] for name in types if name in identity]
    assert msgspec.json.decode(envelope) == found


@PATIENT
@given(st.tuples(text, text, text), st.tuples(text, text, text))
def test_ids_differ_where_their_parts_do(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (resultfly.event_id(*one) == resultfly.event_id(*other)) == (one == other)
    joined = "".join(one)
    assert resultfly.event_id(*one) == resultfly.event_id(joined[: len(one[0])], *one[1:])


@PATIENT
@given(st.dictionaries(st.sampled_from(list(PURCHASE["properties"])) | text, anything, max_size=6))
def test_properties_under_a_contract_are_taken_or_refused(properties: dict[str, Any]) -> None:
    event = resultfly.decode(json.dumps(purchase(properties=properties)).encode())
    validator = Validator("purchase_completed", msgspec.convert(PURCHASE, Contract))
    refused: InvalidPayload | None = None
    try:
        resultfly.check_contract(event, {"purchase_completed": validator})
    except InvalidPayload as error:
        refused = error
    if refused is not None:
        assert refused.field.startswith("properties")
    else:
        assert {"order_id", "amount"} <= properties.keys() <= PURCHASE["properties"].keys()
