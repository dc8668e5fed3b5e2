"""
Kafka, and what the local log still has of a time without it, as one feed.

Events that were accepted before there was a Kafka are on the local log alone: they are stored from there,
beside those of Kafka, until there are no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from daemon.ports import Feed, Lag, Reading

#: Between looks at a local log in which there was nothing, seconds.
LOOK_S = 5.0


class KafkaAndRest:
    """Reads from `rest` while there is something, and from `kafka`, in turns."""

    def __init__(self, kafka: Feed, rest: Feed, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._kafka = kafka
        self._rest = rest
        self._clock = clock
        self._look_at = clock()
        self._kafkas_turn = False

    async def start(self) -> None:
        await self._kafka.start()
        await self._rest.start()

    async def read(self, wait_s: float) -> Reading | None:
        if not self._kafkas_turn and self._clock() >= self._look_at:
            reading = await self._rest.read(0.0)
            if reading is not None:
                self._kafkas_turn = True
                return replace(reading, token=(self._rest, reading))
            self._look_at = self._clock() + LOOK_S
        # While there is more of the rest, Kafka is not waited for.
        reading = await self._kafka.read(0.0 if self._kafkas_turn else wait_s)
        self._kafkas_turn = False
        return None if reading is None else replace(reading, token=(self._kafka, reading))

    async def done(self, reading: Reading) -> None:
        feed, inner = _taken_apart(reading)
        await feed.done(inner)

    def stale(self, reading: Reading) -> bool:
        feed, inner = _taken_apart(reading)
        return feed.stale(inner)

    async def reset(self) -> None:
        await self._kafka.reset()
        await self._rest.reset()

    def lag(self) -> Lag:
        lags = [self._kafka.lag(), self._rest.lag()]
        known = [lag.oldest_ms for lag in lags if lag.oldest_ms]
        return Lag(sum(lag.records for lag in lags), min(known, default=0))

    async def stop(self) -> None:
        await self._kafka.stop()
        await self._rest.stop()


def _taken_apart(reading: Reading) -> tuple[Feed, Reading]:
    return cast("tuple[Feed, Reading]", reading.token)


if TYPE_CHECKING:
    _: type[Feed] = KafkaAndRest
