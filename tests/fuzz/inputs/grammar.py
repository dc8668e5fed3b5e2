"""How the parts of a target's inputs look: what is needed to make new ones that get somewhere."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal, NamedTuple

#: Stands between the parts of an input that has several; what follows the last one belongs to the last part.
MARK = b"\x1e"


class Grammar(NamedTuple):
    """
    One part of an input.

    `names` are the members that a JSON part's reader looks at, or what a text's reader looks for. `values` are
    whole values that belong there: JSON in a JSON part, else text. `made` makes a part anew where mutation alone
    would seldom get through (compressed bytes).
    """

    form: Literal["json", "text", "bytes"]
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    made: Callable[[Random], bytes] | None = None


def split(data: bytes, parts: int) -> list[bytes]:
    """The parts of an input; those that it does not have are empty."""
    found = data.split(MARK, parts - 1)
    return found + [b""] * (parts - len(found))


def join(*parts: bytes) -> bytes:
    """An input out of its parts."""
    return MARK.join(parts)


def text_of(part: bytes) -> str:
    """A part as the text that an HTTP server makes of it: UTF-8, else every byte its Latin-1 character."""
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part.decode("latin-1")
