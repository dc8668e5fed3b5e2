"""
JSON that came from outside: what every contract asks of it, before its own rules.

msgspec checks the syntax of everything, passed-through parts included. What it leaves open is closed
here: bytes that are no UTF-8 inside parts that pass through, and nesting so deep that a reader further
down would fail on it. A failure names the field.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from daemon.errors import HeadgateError

T = TypeVar("T")

#: Deepest nesting that is taken. msgspec gives up at about 1,000 (Python's recursion limit), a reader
#: further down perhaps sooner; real events have a depth of ten.
DEPTH_MAX = 256

#: Longest id (messageId, userId, groupId, anonymousId) and event name, in characters.
ID_CHARS_MAX = 512
NAME_CHARS_MAX = 1024


class InvalidPayload(HeadgateError):
    """The body is not what the contract asks for. `field` is its path (empty: the body as a whole)."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotJson(InvalidPayload):
    """The body can't be read as JSON at all: broken syntax, bad UTF-8, a lone surrogate, or nothing there."""


class JsonReader(Struct, frozen=True):
    """Decodes bodies to one type and says what is wrong in words for the caller."""

    decoder: Any
    depth_max: int

    @classmethod
    def of(cls, kind: Any, depth_max: int = DEPTH_MAX) -> JsonReader:
        """A reader of bodies of type `kind`; `depth_max` 0 leaves the depth to msgspec (items are read again)."""
        return cls(msgspec.json.Decoder(kind), depth_max)

    def read(self, body: bytes) -> Any:
        """The decoded body. Raises InvalidPayload."""
        if not body.isascii():
            try:
                body.decode()  # msgspec does not look at the bytes of what it only passes through
            except UnicodeDecodeError as error:
                raise NotJson(f"the body is not UTF-8: invalid byte at position {error.start}") from None
        return self.read_part(body)

    def read_part(self, body: bytes) -> Any:
        """The same for a part of a body that was read: it is known to be UTF-8. Raises InvalidPayload."""
        try:
            found = self.decoder.decode(body)
            # After the decoder: in what is no JSON, looking for the end of each string could take for ever.
            # A level takes two bytes at least; the brackets of a large body are counted before they are matched.
            depth_max = self.depth_max
            if depth_max and len(body) > 2 * depth_max and body.count(b"{") + body.count(b"[") > depth_max:
                _check_depth(body)
            return found
        except msgspec.ValidationError as error:
            raise _explained(error) from None
        except msgspec.DecodeError as error:
            raise NotJson(_syntax(body, str(error))) from None
        except RecursionError:
            raise InvalidPayload(f"the body is nested deeper than {DEPTH_MAX} levels") from None


_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _check_depth(body: bytes) -> None:
    """`body` is known to be JSON."""
    depth = 0
    for match in _TOKENS.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > DEPTH_MAX:
                raise InvalidPayload(f"the body is nested deeper than {DEPTH_MAX} levels")
        elif token in (b"]", b"}"):
            depth -= 1


_TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_EXPECTED = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")


def _explained(error: msgspec.ValidationError) -> InvalidPayload:
    """`Expected `str | null`, got `int` - at `$.userId`` → `userId must be a string, not an integer`."""
    text, _, where = str(error).partition(" - at `")
    path = where.rstrip("`").removeprefix("$").lstrip(".")
    if (missing := _MISSING.match(text)) is not None:
        name = f"{path}.{missing[1]}" if path else missing[1]
        return InvalidPayload(f"{name} is required", name)
    if (types := _EXPECTED.match(text)) is not None:
        wanted = [_TYPE_NAMES.get(one, one) for one in types[1].split(" | ") if one != "null"]
        found = _TYPE_NAMES.get(types[2], types[2])
        return InvalidPayload(f"{path or 'the body'} must be {' or '.join(wanted)}, not {found}", path)
    return InvalidPayload(f"{path or 'the body'}: {text[:1].lower()}{text[1:]}", path)


def _syntax(body: bytes, text: str) -> str:
    if not body.strip():
        return "the body is empty; send one JSON object"
    if b"\\u" in body and re.search(rb"\\u[dD][89a-fA-F]", body):
        # msgspec words a lone surrogate as truncated input, which would mislead
        return "the body is not valid JSON: a broken \\u escape (a lone surrogate?) or cut short"
    return f"the body is not valid JSON: {text.removeprefix('JSON is malformed: ')}"


def optional_object(value: Raw, field: str) -> Raw | None:
    """`value` if it is an object; None if absent or null. Raises InvalidPayload for anything else."""
    data = bytes(value)
    if data[:1] == b"{":
        return value
    if not data or data == b"null":
        return None
    raise InvalidPayload(f"{field} must be an object", field)


def optional_text(value: str | None, field: str, chars_max: int) -> str | None:
    """`value`, or None where it is absent, null or empty. Raises InvalidPayload when it is too long."""
    if not value:
        return None
    if len(value) > chars_max:
        raise InvalidPayload(f"{field} is longer than {chars_max} characters", field)
    return value


def required_text(value: str | None, field: str, chars_max: int, why: str = "") -> str:
    """`value`. Raises InvalidPayload when it is absent, null, blank or too long; `why` says when it is needed."""
    if value is None or not value.strip():
        raise InvalidPayload(f"{field} is required{why}", field)
    if len(value) > chars_max:
        raise InvalidPayload(f"{field} is longer than {chars_max} characters", field)
    return value


#: ISO 8601 calendar dates with an optional time and zone, extended or basic; the numbers are checked after.
_ISO = re.compile(
    r"\d{4}-?\d{2}-?\d{2}"
    r"(?:[Tt ]\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d{1,9})?)?)?(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?)?"
)


def optional_time(value: str | None, field: str) -> str | None:
    """`value` as it is if it is ISO 8601; None where absent, null or empty. Raises InvalidPayload."""
    if not value:
        return None
    if len(value) <= 48 and _ISO.fullmatch(value) is not None:
        try:
            datetime.fromisoformat(value.upper())
            return value
        except ValueError:
            pass
    raise InvalidPayload(f"{field} must be an ISO 8601 time such as 2026-02-25T14:30:00.000Z", field)
