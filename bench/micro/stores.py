"""Claims and leases against a Valkey of the bench's own: our CPU and the server's, per event and per name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec

from daemon.adapters.embedded.valkey import start_valkey
from daemon.adapters.redis.leases import LeasedRateLimiter
from daemon.adapters.redis.visits import RedisVisitStore
from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Settings
from daemon.observe.catalog import StoreMetrics
from daemon.ports import Visit

ROUNDS = 7
#: Events of one trip to Redis: a quiet tick, and busy ones.
TICKS = (1, 16, 100)
#: Limits' names, each taken from once per round.
NAMES = 1000
RATE_PER_S, BURST = 1e6, 1_000_000


class StoreCost(NamedTuple):
    """Microseconds of CPU per event, the least of the rounds."""

    step: str
    events: int
    ours_us: float
    server_us: float


async def measure(folder: Path, seconds: float) -> list[StoreCost]:
    """All of them, each for about `seconds`."""
    server = await start_valkey(folder / "valkey", folder)
    settings = msgspec.convert({"data_dir": str(folder / "data"), "redis": {"url": server.url}}, Settings)
    metrics = StoreMetrics()
    wire = RedisWire(settings.redis, metrics)
    visits = RedisVisitStore(wire, settings, metrics)
    limiter = LeasedRateLimiter(wire, settings, metrics, 1)
    meter = _Meter(wire, seconds)
    found: list[StoreCost] = []
    try:
        await wire.start()
        await visits.start()
        await limiter.start()
        for events in TICKS:

            async def tick(events: int = events) -> None:
                asked = [Visit(claim_id=uuid4().hex) for _ in range(events)]
                await visits.visit(asked)
                assert all(one.claim == "new" for one in asked), asked[0].claim
                visits.confirm(asked)

            found.append(await meter.of(f"claim and confirm, {events} per trip", events, tick))

        async def known(events: int = 16) -> None:
            asked = [
                Visit(visitor=f"v{number}", learn={"userId": "u"}, claim_id=uuid4().hex)
                for number in range(events)
            ]
            await visits.visit(asked)

        found.append(await meter.of("claim and look a visitor up, 16 per trip", 16, known))

        names = [f"k{number}" for number in range(NAMES)]

        async def take() -> None:
            unknown = [name for name in names if limiter.take(name, RATE_PER_S, BURST) is None]
            # Whoever finds none in memory waits for Redis, all in one call; the others leave time for renewals.
            await asyncio.gather(*(limiter.acquire(name, RATE_PER_S, BURST) for name in unknown))
            await asyncio.sleep(0.001)

        found.append(await meter.of(f"take a token, {NAMES} names, renewals included", NAMES, take))
    finally:
        await limiter.stop()
        await visits.stop()
        await wire.stop()
        await server.stop()
    return found


class _Meter:
    def __init__(self, wire: RedisWire, seconds: float) -> None:
        self._wire = wire
        self._seconds = seconds

    async def of(self, step: str, events: int, call: Callable[[], Awaitable[None]]) -> StoreCost:
        await call()
        best: tuple[float, float] | None = None
        for _ in range(ROUNDS):
            calls = 0
            theirs, ours = await self._used_s(), time.process_time()
            ends = time.perf_counter() + self._seconds / ROUNDS
            while time.perf_counter() < ends:
                await call()
                calls += 1
            ours = time.process_time() - ours
            theirs = await self._used_s() - theirs
            per = 1e6 / (calls * events)
            best = (
                (ours * per, theirs * per)
                if best is None
                else (min(best[0], ours * per), min(best[1], theirs * per))
            )
        assert best is not None
        return StoreCost(step, events, *best)

    async def _used_s(self) -> float:
        """The server's CPU so far; it tells microseconds, the operating system hundredths."""
        said = await self._wire.command("INFO", "cpu")
        text = said.decode() if isinstance(said, bytes) else str(said)
        told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])
