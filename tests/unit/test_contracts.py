"""Contracts of event types: what changed in words, what is compiled, and the tables of answers."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from daemon.adapters.postgres.apikeys import SCOPES
from daemon.events import resultfly
from daemon.events.contract.definition import Contract, contract_of
from daemon.events.contract.difference import differences
from daemon.events.contract.validator import Validator, compiled
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload, NotJson
from daemon.frontend.openapi import resultfly as document
from tests.support.cdp import purchase

DOCS = Path(__file__).resolve().parents[2] / "docs"


def of(others: str = "reject", **properties: str) -> Contract:
    """`name="integer!"` is required, without the mark it is optional."""
    listed = {
        name: {"type": kind.rstrip("!"), "required": kind.endswith("!")} for name, kind in properties.items()
    }
    return contract_of({"properties": listed, "additionalProperties": others})


@pytest.mark.parametrize(
    ("old", "new", "text", "breaking"),
    [
        (None, of(a="string"), "event type with 1 property", False),
        (of(), None, "event type with 0 properties", True),
        (of(), of(a="string"), "properties.a (string, optional)", False),
        (of(), of(a="string!"), "properties.a (string, required)", True),
        (of("allow"), of("allow", a="string"), "properties.a (string, optional)", True),
        (of(a="string"), of(), "properties.a (string, optional)", True),
        (of("allow", a="string"), of("allow"), "properties.a (string, optional)", False),
        (of(a="integer"), of(a="number"), "properties.a: integer → number", False),
        (of(a="number"), of(a="integer"), "properties.a: number → integer", True),
        (of(a="datetime"), of(a="string"), "properties.a: datetime → string", False),
        (of(a="string"), of(a="string!"), "properties.a: optional → required", True),
        (of(a="string!"), of(a="string"), "properties.a: required → optional", False),
        (of(), of("allow"), "additionalProperties: reject → allow", False),
        (of("allow"), of(), "additionalProperties: allow → reject", True),
    ],
)
def test_a_difference_in_words(old: Contract | None, new: Contract | None, text: str, breaking: bool) -> None:
    [change] = differences(old, new)
    assert (change.text, change.breaking) == (text, breaking)


def test_without_a_difference() -> None:
    assert differences(None, None) == differences(of(a="string", b="array"), of(b="array", a="string")) == []


def test_good_properties_do_not_take_the_slow_way() -> None:
    """Of all types and of any names that msgspec can have; the slow way alone decides on the others."""
    names = ["", "a.b", "class", "__class__", "é", "_0", "x" * 200, "\x7f", "\u2028"]
    decode = compiled(contract_of({"properties": {name: {"type": "string"} for name in names}}))
    assert decode(Raw(msgspec.json.encode(dict.fromkeys(names, "x"))))
    with pytest.raises(msgspec.ValidationError):
        decode(Raw(b'{"b":1}'))
    odd = compiled(contract_of({"properties": {'"': {"type": "string"}}}))
    with pytest.raises(msgspec.ValidationError):
        odd(Raw(b'{"\\"":"good"}'))
    Validator("t", contract_of({"properties": {'"': {"type": "string"}}})).check(Raw(b'{"\\"":"good"}'))


def test_a_contract_is_compiled_once_and_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Contract] = []

    def counted(contract: Contract) -> Any:
        made.append(contract)
        return compiled(contract)

    monkeypatch.setattr("daemon.events.contract.validator.compiled", counted)
    validator = Validator("t", of(a="string!"))
    with pytest.raises(InvalidPayload, match=r"properties\.a is required"):
        validator.check(None)
    assert not made
    for _ in range(3):
        validator.check(Raw(b'{"a":"x"}'))
        with pytest.raises(InvalidPayload):
            validator.check(Raw(b'{"a":1}'))
    assert len(made) == 1


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", ["0", "-0", "1.0", "-1e3", "1E+2", "100e-2", "9" * 400], ["0.5", "1e-1", "1e400", "1.0000001"]),
        ("number", ["0", "1.5", "-1e308", "9" * 400, "1e-400"], ["1e309", "-1e309", '"1"', "true"]),
        ("datetime", ['"2026-02-28"', '"20260228"', '"2026-02-28t10:00:00z"',
                      '"2026-02-28T10:00:00.123456789Z"', '"2026-02-28 10:00:00+02:00"', '"2026-02-28T10:00"'],
         ['"2026-02-29"', '"2026-02-28T25:00:00Z"', '"28.02.2026"', '"now"', '""', '" 2026-02-28"', "1772029800",
          '"2026-02-28T10:00:00 Europe/Berlin"']),
        ("object", ["{}", '{"a":[1]}'], ["[]", '"{}"', "0"]),
        ("array", ["[]", "[1,[2]]"], ["{}", '"[]"', "false"]),
        ("boolean", ["true", "false"], ["0", '"true"', "[]"]),
        ("string", ['""', '"x"', '"\\u00e9"'], ["1", "true", "{}"]),
    ],
)  # fmt: skip
def test_values_of_a_type(kind: str, good: list[str], bad: list[str]) -> None:
    for required in ("", "!"):
        validator = Validator("t", of(a=kind + required))
        for value in good:
            validator.check(Raw(b'{"a":%b}' % value.encode()))
        for value in bad:
            with pytest.raises(InvalidPayload, match=r"^properties\.a "):
                validator.check(Raw(b'{"a":%b}' % value.encode()))
    Validator("t", of(a=kind)).check(Raw(b'{"a":null}'))


def test_ids_are_what_the_contract_says() -> None:
    """0.3.26, by other means: `evt_` and the first 26 characters of RFC 4648's base32, in lower case."""
    for parts in (
        ("acme", "brand.pos", "order-1"),
        ("ä", "a|b", "c"),
        ("t", "", "😀"),
        ("t", "x" * 512, "y"),
    ):
        joined = b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in parts)
        wanted = base64.b32encode(hashlib.sha256(joined).digest()).decode()[:26].lower()
        assert resultfly.event_id(*parts) == f"evt_{wanted}"
    # for ever: this one is written down
    assert resultfly.event_id("acme", "brand.pos", "order-1") == "evt_lbhbwqtosnd6hehzd4rbty43sb"


def test_every_way_to_end_has_a_code_and_every_code_a_status_and_a_meaning() -> None:
    ends = set(Outcome) - {Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.BOT, Outcome.INTERRUPTED}
    assert resultfly.CODES.keys() == ends
    assert set(resultfly.CODES.values()) <= resultfly.STATUSES.keys() == document.MEANINGS.keys()
    told = {code for codes in document.FAMILIES.values() for code in codes}
    assert told | {"method_not_allowed"} == resultfly.STATUSES.keys()
    table = (DOCS / "contracts.md").read_text("utf-8").partition("## B.6")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", table, re.MULTILINE)) == {
        code: str(status) for code, status in resultfly.STATUSES.items()
    }


def test_the_examples_of_the_document_are_right() -> None:
    event = resultfly.decode(msgspec.json.encode(document.EVENT))
    contract = contract_of(document.CONTRACT)
    resultfly.check_contract(event, {"purchase_completed": Validator("purchase_completed", contract)})
    assert [one.type for one in resultfly.identifiers(event, "")] == ["EXTERNAL", "EMAIL", "PHONE"]


def test_codes_of_what_is_wrong_with_a_body() -> None:
    assert [resultfly.code_of(error) for error in (
        NotJson("x"), InvalidPayload("x"), resultfly.UnknownEventType("x"), resultfly.ItemTooLarge("x")
    )] == ["malformed_json", "validation_failed", "unknown_event_type", "payload_too_large"]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "region", "value"),
    [
        ("+49 30 901820", "", "+4930901820"),
        ("030 901820", "DE", "+4930901820"),
        ("030 901820", "", "030901820"),
        ("(650) 253-0000", "US", "+16502530000"),
        ("0049 30 901820", "", "+4930901820"),
    ],
)
def test_phones_are_of_the_tenants_country(given: str, region: str, value: str) -> None:
    event = resultfly.decode(msgspec.json.encode(purchase(identity={"phone": given})))
    [only] = resultfly.identifiers(event, region)
    assert (only.type, only.value) == ("PHONE", value)


def test_keys_are_made_with_the_scopes_that_are_asked_for() -> None:
    assert set(SCOPES["cdp"]) == set(resultfly.SCOPES)
