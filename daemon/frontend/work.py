"""One event on its way through the frontend, from its request to its outcome."""

from __future__ import annotations

import os
from typing import Protocol

from daemon.events.outcome import Outcome
from daemon.ports import Durability, Record, Visit


class Work(Protocol):
    """
    An event that waits for its tick.

    The tick asks Redis what `visit` wants, calls `record` for the events that are to be published, and
    sets `outcome` (and `durability`, when accepted). An `outcome` of None means that the event's id is
    claimed by somebody who has not finished: ask again.
    """

    visit: Visit
    outcome: Outcome | None
    durability: Durability | None
    retry_after_s: float

    @property
    def id(self) -> str:
        """The envelope's id: copies of one request are told by it."""
        ...

    def record(self) -> Record:
        """The finished record; called once the visit is answered."""
        ...


class RandomPool:
    """Random bytes from the system, fetched in blocks: a system call for each event would cost as much as its decoding."""

    def __init__(self, block_bytes: int = 4096) -> None:
        self._block_bytes = block_bytes
        self._block = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` random bytes, `count` ≤ the block."""
        if self._at + count > len(self._block):
            self._block = os.urandom(self._block_bytes)
            self._at = 0
        self._at += count
        return self._block[self._at - count : self._at]
