"""
JSON as trees that can say what no JSON library would: names that come twice, numbers as text, bytes that are no JSON.

A tree is None, True, False, a `str`, `Bits` (written as they are), a `list` of trees, or an `Obj`.
"""

from __future__ import annotations

import json
import random
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

#: None, True, False, str, Bits, list or Obj; mypy has no words for it that help.
Tree = Any

#: What is deeper is not taken apart: mutating it needs no tree.
DEPTH_MAX = 200


class Obj(list[tuple[str, Tree]]):
    """An object: its members in order, as often as they come."""


class Bits(bytes):
    """Written as it is: a number's text, or something that is no JSON at all."""


def parse(data: bytes) -> tuple[Tree, bool]:
    """The tree in `data` and True; (None, False) where it is no JSON."""
    try:
        return json.loads(
            data,
            object_pairs_hook=Obj,
            parse_int=_bits,
            parse_float=_bits,
            parse_constant=_bits,
        ), True
    except (ValueError, RecursionError):
        return None, False


def _bits(text: str) -> Bits:
    return Bits(text.encode())


def write(tree: Tree, *, ascii_only: bool = True, blank: bytes = b"") -> bytes:
    """
    The tree as bytes.

    Without `ascii_only` characters stand for themselves, lone surrogates as the three bytes that UTF-8 forbids.
    `blank` stands wherever JSON allows white space.
    """
    parts: list[bytes] = []
    _write(tree, parts, ascii_only, blank)
    return b"".join(parts)


def _write(tree: Tree, parts: list[bytes], ascii_only: bool, blank: bytes) -> None:
    match tree:
        case Bits():
            parts.append(tree)
        case str():
            text = encode_basestring_ascii(tree) if ascii_only else encode_basestring(tree)
            parts.append(text.encode("utf-8", "surrogatepass"))
        case Obj():
            parts.append(b"{" + blank)
            for number, (name, value) in enumerate(tree):
                if number:
                    parts.append(b"," + blank)
                _write(name, parts, ascii_only, blank)
                parts.append(blank + b":" + blank)
                _write(value, parts, ascii_only, blank)
            parts.append(blank + b"}")
        case list():
            parts.append(b"[" + blank)
            for number, value in enumerate(tree):
                if number:
                    parts.append(b"," + blank)
                _write(value, parts, ascii_only, blank)
            parts.append(blank + b"]")
        case _:
            parts.append({None: b"null", True: b"true", False: b"false"}[tree])


class Spot:
    """A place in a tree: the value at `key` of `where` (a list's index, an object's member)."""

    __slots__ = ("depth", "key", "where")

    def __init__(self, where: list[Any], key: int, depth: int) -> None:
        self.where = where
        self.key = key
        self.depth = depth

    @property
    def name(self) -> str | None:
        """The member's name; None in an array."""
        return self.where[self.key][0] if isinstance(self.where, Obj) else None

    @property
    def value(self) -> Tree:
        """What stands there."""
        found = self.where[self.key]
        return found[1] if isinstance(self.where, Obj) else found

    def put(self, value: Tree) -> None:
        """Another value."""
        self.where[self.key] = (self.where[self.key][0], value) if isinstance(self.where, Obj) else value

    def rename(self, name: str) -> None:
        """Another name; in an array nothing happens."""
        if isinstance(self.where, Obj):
            self.where[self.key] = (name, self.where[self.key][1])

    def remove(self) -> None:
        """Nothing stands there any more."""
        del self.where[self.key]

    def twice(self, other: Tree) -> None:
        """A second value behind it, under the same name."""
        self.where.insert(self.key + 1, (self.name, other) if isinstance(self.where, Obj) else other)


def spots(root: list[Any]) -> list[Spot]:
    """Every place below `root` (an array or object), the shallow ones first."""
    found: list[Spot] = []
    level: list[tuple[list[Any], int]] = [(root, 1)]
    while level:
        deeper: list[tuple[list[Any], int]] = []
        for where, depth in level:
            for key in range(len(where)):
                spot = Spot(where, key, depth)
                found.append(spot)
                if isinstance(spot.value, list) and depth < DEPTH_MAX:
                    deeper.append((spot.value, depth + 1))
        level = deeper
    return found


def nested(rng: random.Random, levels: int, inner: bytes) -> Bits:
    """`inner` below so many arrays or objects."""
    if rng.random() < 0.5:
        return Bits(b"[" * levels + inner + b"]" * levels)
    return Bits(b'{"a":' * levels + inner + b"}" * levels)
