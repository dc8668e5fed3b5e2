"""The catalog of sources, keys and merchants on a test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres.catalog import SourceCatalog
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.sealing import Sealer
from daemon.observe.catalog import StoreMetrics
from tests.support.stores import running_wire, settings_for

#: What seals the secrets of sources.
KEY = bytes(range(32))


@asynccontextmanager
async def running_catalog(dsn: str, redis_url: str = "unix:///nowhere") -> AsyncIterator[SourceCatalog]:
    """A catalog in production mode; the schema is brought up to date."""
    settings = settings_for(redis_url, dsn)
    pool = PostgresPool(settings.postgres, StoreMetrics())
    await pool.start()
    try:
        async with running_wire(settings) as wire:
            await migrate(pool)
            yield SourceCatalog(pool, SharedKeys(wire, settings), Sealer(KEY), "production")
    finally:
        await pool.stop()
