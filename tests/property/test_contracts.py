"""Contracts of event types: whatever satisfies one is taken, and any single violation is named."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from daemon.events.contract.definition import (
    PROPERTY_CHARS_MAX,
    TYPES,
    Contract,
    Property,
    contract_of,
    decode,
    encode,
    member,
    read,
)
from daemon.events.contract.difference import differences
from daemon.events.contract.schema import json_schema
from daemon.events.contract.validator import Validator
from daemon.events.payload import InvalidPayload

#: Never wall time: the machine may be busy.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
#: Names that people use, and names that trip over something: attributes, keywords, paths, quotes, controls.
names = (
    st.sampled_from(
        ["order_id", "a", "b", "", "a.b", "class", "__class__", "__struct_fields__", "_0", "_1", "self", '"',
         "\\", "\n", "\0", "é", "e\u0301", "\u2028", "x" * PROPERTY_CHARS_MAX, "properties", " ", "1", "type"]
    )
    | text
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
integers = st.integers() | st.integers(-(2**300), 2**300) | st.integers(-(2**53), 2**53).map(float)
times = st.datetimes()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": text,
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**300), 2**300),
    "integer": integers,
    "boolean": st.booleans(),
    "datetime": times.map(lambda time: f"{time.isoformat(timespec='milliseconds')}Z")
    | times.map(lambda time: time.isoformat(timespec="seconds"))
    | times.map(lambda time: f"{time.isoformat(timespec='microseconds')}+02:00")
    | st.dates().map(str),
    "object": st.dictionaries(names, anything, max_size=3),
    "array": st.lists(anything, max_size=3),
}
#: What is of no type but its own; a number with a fraction stands for itself.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "string": text.filter(lambda one: not one[:4].isdigit()),
    "number": st.floats(0.01, 0.99),
    "boolean": st.booleans(),
    "object": VALUES["object"],
    "array": VALUES["array"],
}

properties = st.builds(Property, st.sampled_from(TYPES), st.booleans())
contracts = st.builds(
    Contract, st.dictionaries(names, properties, max_size=6), st.sampled_from(["reject", "allow"])
)


@st.composite
def satisfying(draw: st.DrawFn, contract: Contract) -> dict[str, Any]:
    """Properties that satisfy `contract`, in any order."""
    found: dict[str, Any] = {}
    for name, one in contract.properties.items():
        if one.required or draw(st.booleans()):
            optional = st.none() if not one.required else st.nothing()
            found[name] = draw(VALUES[one.type] | optional)
    if contract.additionalProperties == "allow":
        found |= draw(
            st.dictionaries(names.filter(lambda name: name not in contract.properties), anything, max_size=3)
        )
    return dict(draw(st.permutations(list(found.items()))))


@st.composite
def contract_and_good(draw: st.DrawFn) -> tuple[Contract, dict[str, Any]]:
    contract = draw(contracts)
    return contract, draw(satisfying(contract))


def refused(contract: Contract, found: str | dict[str, Any]) -> str | None:
    """Why the properties are refused; None: they are not."""
    body = found if isinstance(found, str) else json.dumps(found)
    try:
        Validator("purchase", contract).check(Raw(body.encode()))
    except InvalidPayload as error:
        return error.message
    return None


@PATIENT
@given(contract_and_good())
def test_what_satisfies_a_contract_is_taken(given_: tuple[Contract, dict[str, Any]]) -> None:
    contract, good = given_
    assert refused(contract, good) is None
    assert refused(contract, json.dumps(good, ensure_ascii=False)) is None
    # a value that a later one of the same name replaces is not looked at
    for name in good:
        body = json.dumps(good)[1:-1]
        assert refused(contract, f"{{{json.dumps(name)}:[{{}}],{json.dumps(name)}:1,{body}}}") is None


@PATIENT
@given(contract_and_good(), st.data())
def test_any_single_violation_is_named(given_: tuple[Contract, dict[str, Any]], data: st.DataObject) -> None:
    contract, good = given_
    ways = []
    required = [name for name, one in contract.properties.items() if one.required]
    if required:
        ways += ["missing", "null"]
    if contract.properties:
        ways.append("type")
    if contract.additionalProperties == "reject":
        ways.append("unknown")
    assume(ways)
    way = data.draw(st.sampled_from(ways))
    bad = dict(good)
    if way == "unknown":
        name = data.draw(names.filter(lambda one: one not in contract.properties))
        bad[name] = data.draw(anything)
        says = f"{member('properties', name)} is not a property of purchase"
    elif way == "missing":
        name = data.draw(st.sampled_from(required))
        del bad[name]
        says = f"{member('properties', name)} is required"
    elif way == "null":
        name = data.draw(st.sampled_from(required))
        bad[name] = None
        says = f"{member('properties', name)} must be a"
    else:
        name = data.draw(st.sampled_from(list(contract.properties)))
        wanted = contract.properties[name].type
        other = data.draw(st.sampled_from([kind for kind in KINDS if kind != wanted]))
        bad[name] = data.draw(KINDS[other])
        says = f"{member('properties', name)} must be a"
    message = refused(contract, bad)
    assert message is not None
    assert message.startswith(says)
    assert ";" not in message.removeprefix(says) or way == "unknown", "and nothing else is"


@PATIENT
@given(contract_and_good(), contracts)
def test_a_change_that_breaks_nobody_breaks_nobody(
    given_: tuple[Contract, dict[str, Any]], new: Contract
) -> None:
    """What was good stays good unless a difference says `breaking`; without any difference the two are equal."""
    old, good = given_
    changes = differences(old, new)
    assert bool(changes) == (old != new)
    if not any(change.breaking for change in changes):
        assert refused(new, good) is None


@PATIENT
@given(contract_and_good(), st.data())
def test_small_changes_are_judged_rightly(
    given_: tuple[Contract, dict[str, Any]], data: st.DataObject
) -> None:
    """The same where the two have much in common."""
    old, good = given_
    listed = dict(old.properties)
    for name in data.draw(st.lists(st.sampled_from([*listed, "new"]), max_size=3)):
        listed.pop(name, None)
        if data.draw(st.booleans()):
            listed[name] = data.draw(properties)
    new = Contract(listed, data.draw(st.sampled_from(["reject", "allow"])))
    if not any(change.breaking for change in differences(old, new)):
        assert refused(new, good) is None


@PATIENT
@given(contracts)
def test_a_contract_is_read_as_it_was_written(contract: Contract) -> None:
    assert (
        read(encode(contract))
        == decode(encode(contract))
        == contract_of(json.loads(encode(contract)))
        == contract
    )


@PATIENT
@given(contract_and_good(), st.dictionaries(names, anything, max_size=4))
def test_json_schema_says_the_same(given_: tuple[Contract, dict[str, Any]], other: dict[str, Any]) -> None:
    contract, good = given_
    schema = json_schema("purchase", contract)
    assert jsonschema_rs.meta.is_valid(schema)
    validator = jsonschema_rs.Draft202012Validator(schema)
    # (formats are not looked at without a checker, so that what is no time is good for it)
    assert validator.is_valid(good)
    if validator.is_valid(other) and not any(one.type == "datetime" for one in contract.properties.values()):
        assert refused(contract, other) is None
    if refused(contract, other) is None:
        assert validator.is_valid(other)


@PATIENT
@given(contracts, anything)
def test_a_contract_of_anything_is_read_or_refused(contract: Contract, value: Any) -> None:
    """Never fails with anything but InvalidPayload."""
    for given_ in (
        value,
        {"properties": value},
        {"properties": {"a": value}},
        {"properties": {}, "x": value},
    ):
        with contextlib.suppress(InvalidPayload):
            contract_of(given_)
    assert contract_of({"properties": {"a": {"type": "string"}}}) != contract or len(contract.properties) == 1
