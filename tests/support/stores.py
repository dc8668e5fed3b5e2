"""What the tests of the stores share: made stores that end with the test, and waiting with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import msgspec

from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Settings
from daemon.observe.catalog import StoreMetrics


def settings_for(redis_url: str = "unix:///nowhere", postgres_dsn: str = "", **sections: object) -> Settings:
    """Settings for these servers; `section__key=value` changes one more."""
    values: dict[str, dict[str, object]] = {
        "redis": {"url": redis_url, "retry_s": 0.05},
        "postgres": {"dsn": postgres_dsn, "timeout_s": 2.0},
    }
    top: dict[str, object] = {}
    for name, value in sections.items():
        section, _, key = name.partition("__")
        if key:
            values.setdefault(section, {})[key] = value
        else:
            top[section] = value
    return msgspec.convert({**values, **top}, Settings)


@asynccontextmanager
async def running_wire(settings: Settings, metrics: StoreMetrics | None = None) -> AsyncIterator[RedisWire]:
    """A wire that was started; stopped with the block."""
    wire = RedisWire(settings.redis, metrics or StoreMetrics())
    await wire.start()
    try:
        yield wire
    finally:
        await wire.stop()


async def until(happens: Callable[[], bool | Awaitable[bool]], deadline_s: float = 10.0) -> None:
    """Look again and again until it happens; fails after the deadline."""
    end = monotonic() + deadline_s
    while True:
        found = happens()
        if not isinstance(found, bool):
            found = await found
        if found:
            return
        assert monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.005)
