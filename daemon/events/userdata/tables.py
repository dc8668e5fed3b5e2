"""
What becomes of `user_data` at a destination: a table of its keys, and one function that fills them.

A destination is a `Table`: for each of its keys the input fields it is made of (contracts C.3), the rule for
one value, and what is done with the result. A new destination is a new table over the rules of `fields.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from hashlib import md5

from msgspec import Struct

from daemon.events.userdata import fields
from daemon.events.userdata.fields import is_md5, is_sha256, sha256_hex, text_of
from daemon.events.userdata.places import COUNTRY_CODES

#: Of a longer list the rest is left out: each value costs a hash, and nobody has as many.
VALUES_MAX = 100

#: Integers from here on are text: not every JSON reader takes them.
_NUMBER_MAX = 2**63

#: What the input's country is called where it is a hash that no country's code has: none in particular.
OTHER_COUNTRY = "zz"


class Form(Enum):
    """What is done with a value."""

    HASHED = "hashed"  #: normalised, then SHA-256; what is a hash already is kept
    PLAIN = "plain"  #: normalised, readable; what is a hash already is left out
    RAW = "raw"  #: as it came


class Key(Struct, frozen=True, kw_only=True):
    """One key of a destination."""

    name: str
    #: Fields of the input; `browser_ids.fbp` is inside of another. The first is first in a list.
    sources: tuple[str, ...]
    form: Form
    #: One value's rule; with `by_country` it takes the customer's country as its second argument.
    normalise: Callable[..., str | None] = text_of
    by_country: bool = False
    #: A list with every value, each once and in the order they came; else the first value alone.
    many: bool = True
    #: An id of any form: 32 hex digits are one, not the MD5 of one.
    any_id: bool = False
    #: Numbers stay numbers.
    number: bool = False


class Table(Struct, frozen=True):
    """The keys of a destination; `takes_md5` when it leaves MD5 hashes as they are."""

    keys: tuple[Key, ...]
    takes_md5: bool = False


Filled = dict[str, list[str] | str | int]


def fill(table: Table, user_data: Mapping[str, object]) -> Filled:
    """`user_data`, as events have it (raw or hashed, C.3's names), under the keys of `table`; never raises."""
    filled: Filled = {}
    country = country_of(user_data)
    for key in table.keys:
        found: dict[str, None] = {}
        for value in _values(user_data, key.sources):
            if key.number and type(value) is int and abs(value) < _NUMBER_MAX:
                filled[key.name] = value
                break
            result = convert(key, value, country, takes_md5=table.takes_md5)
            if result is not None:
                found[result] = None
                if not key.many:
                    filled[key.name] = result
                    break
        if found and key.many:
            filled[key.name] = list(found)
    return filled


def convert(key: Key, value: object, country: str, *, takes_md5: bool) -> str | None:
    """One value as `key` has it; None when nothing of it can be sent."""
    text = text_of(value)
    if text is None:
        return None
    if key.form is not Form.RAW:
        if is_sha256(text):
            return text.lower() if key.form is Form.HASHED else None
        if not key.any_id and is_md5(text):
            return text.lower() if takes_md5 and key.form is Form.HASHED else None
    normal = key.normalise(text, country) if key.by_country else key.normalise(text)
    return sha256_hex(normal) if normal is not None and key.form is Form.HASHED else normal


def country_of(user_data: Mapping[str, object]) -> str:
    """The customer's country as an alpha-2 code, also when it is hashed; "" when it is not known."""
    for value in _values(user_data, ("country",)):
        text = text_of(value)
        if text is None:
            continue
        if is_sha256(text) or is_md5(text):
            return _hashed_countries().get(text.lower(), OTHER_COUNTRY)
        code = fields.normalise_country(text)
        if code is not None:
            return code
    return ""


@cache
def _hashed_countries() -> dict[str, str]:
    codes = {sha256_hex(code): code for code in COUNTRY_CODES}
    return codes | {md5(code.encode(), usedforsecurity=False).hexdigest(): code for code in COUNTRY_CODES}


def _values(user_data: Mapping[str, object], sources: tuple[str, ...]) -> Iterator[object]:
    for source in sources:
        outer, _, inner = source.partition(".")
        value = user_data.get(outer)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        if isinstance(value, list):
            yield from value[:VALUES_MAX]
        elif value is not None:
            yield value
