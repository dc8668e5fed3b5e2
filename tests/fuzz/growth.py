"""
Whether memory grows: what the process holds after warming up and at the end.

Two questions. Does it grow with every new input (a cache without a bound)? That is asked over the run. Does it grow
with inputs that it has seen (a leak)? That is asked after it, by taking a sample of the run's inputs again and again.
"""

from __future__ import annotations

import gc
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()
MIB = 1024 * 1024

#: Address space that a target may take beyond what its process has when it begins: a bomb fails instead of being paid.
ROOM_BYTES = 1024 * MIB


@dataclass(frozen=True)
class Held:
    """What a process holds: resident bytes, and blocks of Python's own allocator."""

    rss_bytes: int
    blocks: int

    @classmethod
    def now(cls) -> Held:
        """After a collection."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * _PAGE_BYTES, sys.getallocatedblocks())


def limit_memory() -> None:
    """From now on an allocation beyond ROOM_BYTES more fails with MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE_BYTES + ROOM_BYTES, hard))


class Sample:
    """Some of a run's inputs, each as likely as any other, within bounds."""

    def __init__(self, rng: random.Random, inputs_max: int = 512, bytes_max: int = 4 * MIB) -> None:
        self.inputs: list[bytes] = []
        self._rng = rng
        self._inputs_max = inputs_max
        self._each_max = bytes_max // inputs_max
        self._seen = 0

    def see(self, data: bytes) -> None:
        """One of the run's inputs."""
        self._seen += 1
        if len(data) > self._each_max:
            return
        if len(self.inputs) < self._inputs_max:
            self.inputs.append(data)
        elif (place := self._rng.randrange(self._seen)) < self._inputs_max:
            self.inputs[place] = data


#: Rounds of a soak: the first ones fill what is kept of known inputs.
WARM_ROUNDS, ROUNDS = 3, 12


def soaked(run: Callable[[bytes], object], inputs: list[bytes]) -> tuple[Held, Held]:
    """What is held before and after taking the same inputs again and again; `run` may raise nothing."""
    for _ in range(WARM_ROUNDS):
        for data in inputs:
            run(data)
    before = Held.now()
    for _ in range(ROUNDS):
        for data in inputs:
            run(data)
    return before, Held.now()
