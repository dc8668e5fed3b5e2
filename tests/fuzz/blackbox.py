"""
What a process was doing, for those who look at it from outside or after its death: how far it is, and with what.

A file in shared memory, written for each input: a crash of native code leaves no other trace.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<QI")
_BYTES_MAX = 512 * 1024


class Seen(NamedTuple):
    """How many inputs were begun, and the last of them."""

    inputs: int
    last: bytes


class BlackBox:
    """The writer's side."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_HEAD.size + _BYTES_MAX))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def note(self, inputs: int, data: bytes) -> None:
        """The input that is about to be tried."""
        size = min(len(data), _BYTES_MAX)
        _HEAD.pack_into(self._map, 0, inputs, size)
        self._map[_HEAD.size : _HEAD.size + size] = data[:size]


def read(path: Path) -> Seen:
    """The reader's side; nothing seen while there is no file yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Seen(0, b"")
    if len(data) < _HEAD.size:
        return Seen(0, b"")
    inputs, size = _HEAD.unpack_from(data)
    return Seen(inputs, data[_HEAD.size : _HEAD.size + size])
