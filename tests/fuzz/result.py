"""What a job has found: written by its process, read by the run and by the report."""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MIB = 1024 * 1024


class Found(Struct, frozen=True):
    """A broken promise."""

    key: str
    about: str
    data: Annotated[str, Meta(description="The smallest input that showed it, in base64.")]
    times: int = 1

    @classmethod
    def of(cls, key: str, about: str, data: bytes, times: int = 1) -> Found:
        """With the input's bytes."""
        return cls(key, about, base64.b64encode(data).decode(), times)

    @property
    def input(self) -> bytes:
        """The input."""
        return base64.b64decode(self.data)


class Memory(Struct, frozen=True):
    """
    Growth in bytes (resident) and in blocks of Python's allocator.

    `run`: from the end of the warm-up to the end of the run, with inputs that were never seen before. `again`: from
    the third to the last round over the same inputs.
    """

    run_bytes: int
    run_blocks: int
    again_bytes: int
    again_blocks: int


class Result(Struct, frozen=True):
    """Of one job. `outcomes` is how many inputs ended so, `slowest_s` the CPU time of the one that took longest."""

    engine: str
    target: str
    seed: int
    inputs: int
    outcomes: dict[str, int]
    found: list[Found]
    slowest_s: float
    memory: Memory


#: How much is no growth: fragments, tables that were enlarged, caches with a bound that are not full yet.
RUN_BYTES_MAX = 48 * MIB
RUN_BLOCKS_MAX = 100_000
AGAIN_BYTES_MAX = 4 * MIB
AGAIN_BLOCKS_MAX = 5_000

#: Engines that keep what they have made, in native memory (guided: its corpus) or in Python's (drawn: all examples).
_KEEPS_BYTES = {"guided", "drawn"}
_KEEPS_BLOCKS = {"drawn"}


def growth(result: Result) -> list[str]:
    """What has grown too much, in words; nothing where all is well."""
    memory = result.memory
    found = []
    if result.engine not in _KEEPS_BYTES and memory.run_bytes > RUN_BYTES_MAX:
        found.append(f"{memory.run_bytes / MIB:.1f} MiB more after the warm-up")
    if result.engine not in _KEEPS_BLOCKS and memory.run_blocks > RUN_BLOCKS_MAX:
        found.append(f"{memory.run_blocks} blocks more after the warm-up")
    if memory.again_bytes > AGAIN_BYTES_MAX:
        found.append(f"{memory.again_bytes / MIB:.1f} MiB more for inputs that were all seen before")
    if memory.again_blocks > AGAIN_BLOCKS_MAX:
        found.append(f"{memory.again_blocks} blocks more for inputs that were all seen before")
    return found


decode = msgspec.json.Decoder(Result).decode
encode = msgspec.json.Encoder().encode
