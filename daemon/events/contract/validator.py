"""
Whether an event's properties satisfy a contract.

A contract is compiled into a msgspec type, which reads good properties at the speed of decoding. What it
does not take is looked at once more, slowly: that names every violation, and it is what decides. So the
type only has to take nothing that is bad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from daemon.events.contract.definition import Contract, Property, member
from daemon.events.payload import InvalidPayload, optional_time

#: Violations that one message names.
NAMED_MAX = 5


class _AnyObject(Struct, gc=False):
    """An object, whatever is in it: its members are passed over without being made."""


class _AnyArray(Struct, array_like=True, gc=False):
    """An array, likewise."""


_COMPILED: dict[str, Any] = {
    "string": str,
    "number": float,
    "integer": int,
    "boolean": bool,
    "datetime": datetime,
    "object": _AnyObject,
    "array": _AnyArray,
}

#: What msgspec can't have in the name of a member.
_UNNAMEABLE = re.compile(r'[\\"\x00-\x1f]')

_members: Callable[[Raw], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
_integer = msgspec.json.Decoder(int).decode
_float = msgspec.json.Decoder(float).decode
_datetime = msgspec.json.Decoder(datetime).decode
_text = msgspec.json.Decoder(str).decode


class Validator:
    """
    A contract, ready for events. It is compiled when the first event comes.

    Properties are JSON objects that were read before as a part of a body: their syntax is known to be good.
    """

    __slots__ = ("_decode", "_needs", "contract", "event_type")

    def __init__(self, event_type: str, contract: Contract) -> None:
        self.event_type = event_type
        self.contract = contract
        self._needs = any(one.required for one in contract.properties.values())
        self._decode: Callable[[Raw], Any] | None = None

    def check(self, properties: Raw | None) -> None:
        """Raise InvalidPayload unless `properties` (None: there are none) satisfy the contract."""
        if properties is None:
            if self._needs:
                self._explain({})
            return
        try:
            (self._decode or self._compile())(properties)
        except msgspec.ValidationError:
            self._explain(_members(properties))

    def _compile(self) -> Callable[[Raw], Any]:
        self._decode = compiled(self.contract)
        return self._decode

    def _explain(self, found: dict[str, Raw]) -> None:
        """Raise for the first violations of all; none of them, and the properties are good."""
        named: list[tuple[str, str]] = []
        more = 0
        for violation in self._violations(found):
            if len(named) < NAMED_MAX:
                named.append(violation)
            else:
                more += 1
        if named:
            text = "; ".join(message for _, message in named)
            raise InvalidPayload(f"{text}; and {more} more" if more else text, named[0][0])

    def _violations(self, found: dict[str, Raw]) -> Iterator[tuple[str, str]]:
        """Path and message of each."""
        properties = self.contract.properties
        for name, one in properties.items():
            value = found.get(name)
            if value is None:
                if one.required:
                    path = member("properties", name)
                    yield path, f"{path} is required"
            elif (wrong := _wrong(bytes(value), one)) is not None:
                path = member("properties", name)
                yield path, f"{path} {wrong}"
        if self.contract.additionalProperties == "reject":
            for name in found:
                if name not in properties:
                    path = member("properties", name)
                    yield path, f"{path} is not a property of {self.event_type}"


def compiled(contract: Contract) -> Callable[[Raw], Any]:
    """
    A decoder that takes only objects that satisfy `contract`, and nearly all of those; it fails with ValidationError.

    Names are given to msgspec apart from the attributes', so that any will do: "", "a.b", "class", "__class__".
    """
    if any(_UNNAMEABLE.search(name) for name in contract.properties):
        return _refuse
    fields: list[Any] = []
    names: dict[str, str] = {}
    for number, (name, one) in enumerate(contract.properties.items()):
        attribute = f"_{number}"
        names[attribute] = name
        kind = _COMPILED[one.type]
        fields.append((attribute, kind) if one.required else (attribute, kind | None, None))
    fields.sort(key=len)  # those without a default stand first
    made = msgspec.defstruct(
        "Properties",
        fields,
        rename=names,
        forbid_unknown_fields=contract.additionalProperties == "reject",
        gc=False,
    )
    return msgspec.json.Decoder(made).decode


def _refuse(_: Raw) -> Any:
    raise msgspec.ValidationError("to be looked at slowly")


_STARTS = {
    ord('"'): "a string",
    ord("{"): "an object",
    ord("["): "an array",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
    ord("n"): "null",
}
_NAMES = {
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "a boolean",
    "datetime": "an ISO 8601 string",
    "object": "an object",
    "array": "an array",
}
_NEEDED = {**_NAMES, "integer": "a number", "datetime": "a string"}


def _wrong(value: bytes, wanted: Property) -> str | None:
    """What is wrong with a value, in words that stand behind its name; None: nothing."""
    found = _STARTS.get(value[0], "a number")
    if found == "null" and not wanted.required:
        return None
    kind = wanted.type
    if found != _NEEDED[kind]:
        return f"must be {_NAMES[kind]}, not {found}"
    if found == "a number":
        return _wrong_number(value, kind)
    return _wrong_time(value) if kind == "datetime" else None


def _wrong_number(value: bytes, kind: str) -> str | None:
    try:
        _integer(value)
    except msgspec.ValidationError:
        try:
            number = _float(value)
        except msgspec.ValidationError:
            return "is out of range: no 64-bit float holds it"
        if kind == "integer" and not number.is_integer():
            return "must be an integer, not a number with a fraction"
    return None


def _wrong_time(value: bytes) -> str | None:
    try:
        _datetime(value)
    except msgspec.ValidationError:
        text = _text(value)
        try:
            if optional_time(text, "x") is not None:
                return None
        except InvalidPayload:
            pass
        return "must be an ISO 8601 time such as 2026-02-25T14:30:00.000Z"
    return None
