"""What the processor's tests share: envelopes, a store on a database of its own, looking into its tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.events.stored import StoredEvent, read
from tests.support.stores import settings_for

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


def stamp(at: datetime) -> str:
    """As the frontends write it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def envelope(number: int | str, *, at: datetime = NOON, **changes: Any) -> bytes:
    """An envelope with the id `evt_<number>`."""
    found = {
        "id": f"evt_{number}",
        "schema": 1,
        "contract": "datafly",
        "channel": "server",
        "tenant": "acme",
        "source": "src_1",
        "type": "track",
        "event": "Order Completed",
        "timestamp": stamp(at),
        "receivedAt": stamp(at),
        **changes,
    }
    return json.dumps(found).encode()


def cdp(number: int | str, identity: dict[str, str], **changes: Any) -> bytes:
    """An envelope of ResultFly with these identifiers."""
    entries = [{"type": kind, "value": value} for kind, value in identity.items()]
    return envelope(number, contract="resultfly", source="brand.pos", identity=entries, **changes)


def events(values: Iterable[bytes], now: datetime = NOON) -> list[StoredEvent]:
    """The values as the processor reads them."""
    return [read(value, NOON_MS, now) for value in values]


@asynccontextmanager
async def event_store(
    dsn: str, *, reader: str = "test", timeout_s: float = 20.0
) -> AsyncIterator[EventStore]:
    """A store on the database, which gets the newest schema."""
    async with running_pool(dsn, timeout_s) as pool:
        await migrate(pool)
        yield EventStore(pool, reader)


@asynccontextmanager
async def running_pool(dsn: str, timeout_s: float = 20.0) -> AsyncIterator[PostgresPool]:
    """A pool on the database."""
    pool = PostgresPool(settings_for(postgres_dsn=dsn, postgres__timeout_s=timeout_s).postgres)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def pool_of(store: EventStore) -> PostgresPool:
    """The store's own pool."""
    return store._pool


async def rows(store: EventStore, columns: str = "id", rest: str = "ORDER BY id") -> list[tuple[Any, ...]]:
    """Rows of `events`."""
    found = await pool_of(store).fetch(f"SELECT {columns} FROM events {rest}")
    return [tuple(row) for row in found]


async def ids(store: EventStore) -> list[str]:
    """The ids of all stored events, each as often as it is there."""
    return [row[0] for row in await rows(store)]


async def one_number(store: EventStore, statement: str, *args: Sequence[Any]) -> int:
    """What a statement counts."""
    found = await pool_of(store).fetch(statement, *args)
    return int(found[0][0])
