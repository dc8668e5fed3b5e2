"""What a target is: a room of the product that reads what strangers wrote, and what it promises for any input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from daemon.errors import HeadgateError
from tests.fuzz.inputs.grammar import Grammar

#: Longest message of a refusal, in characters: it goes into an answer and a log, whatever the input was.
MESSAGE_CHARS_MAX = 8192


class Target(NamedTuple):
    """
    One room.

    `run` takes an input and gives its outcome in a word or two; it raises for what must not happen, and only
    then. `parts` say how inputs look (several are split by `grammar.MARK`). `bytes_max` bounds those that are
    made. `share` is its part of a run's inputs, in relation to the others'. `floods` False: its inputs are its
    operator's own, who may wait for them.
    """

    name: str
    about: str
    run: Callable[[bytes], str]
    parts: tuple[Grammar, ...]
    bytes_max: int = 16 * 1024
    share: float = 1.0
    floods: bool = True


def refused(error: HeadgateError, message: str | None = None) -> str:
    """
    The outcome of a refusal, which is the name of its type; what it says has to fit into an answer.

    Fails on an empty message, one that is longer than whoever caused it should be able to make it, and one
    that no UTF-8 can hold.
    """
    text = str(error) if message is None else message
    assert text, f"{type(error).__name__} without a word"
    assert len(text) <= MESSAGE_CHARS_MAX, f"a message of {len(text)} characters: {text[:200]!r}…"
    msgspec.json.encode(text)
    return type(error).__name__


class HeaderMap(dict[str, str]):
    """Request headers by lower-case name, as RSGI has them."""

    def get_all(self, key: str) -> list[str]:
        """All values of a header; here there is one at the most."""
        return [self[key]] if key in self else []


def headers_of(text: str) -> HeaderMap:
    """`Name: value` lines as headers; the first of a name counts, and no value has control characters or blanks around."""
    found = HeaderMap()
    for line in text.splitlines():
        name, mark, value = line.partition(":")
        if mark and name.strip():
            found.setdefault(name.strip().lower(), "".join(filter(_fit, value)).strip())
    return found


def _fit(character: str) -> bool:
    # what granian lets through: no control characters but the tab
    return character == "\t" or (character >= " " and character != "\x7f")


def lines(headers: Mapping[str, str]) -> bytes:
    """Headers as the lines that `headers_of` reads."""
    return "\n".join(f"{name}: {value}" for name, value in headers.items()).encode()
