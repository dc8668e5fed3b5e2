"""Sources and keys for one command: the stores found or started, the schema brought up to date, the catalog opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.adapters.embedded.session import embedded_session
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres.catalog import SourceCatalog
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.redis.wire import RedisWire
from daemon.adapters.sealing import load_sealer
from daemon.config.schema import Settings
from daemon.observe.catalog import StoreMetrics


@asynccontextmanager
async def open_catalog(settings: Settings) -> AsyncIterator[SourceCatalog]:
    """
    The catalog on the servers that the settings name, or on the embedded ones, running already or started for this.

    Redis is needed for telling frontends of a change at once; when it is away they learn it a little later.
    Raises StoreUnavailable when PostgreSQL is away, SettingsError for settings that can't be used.
    """
    async with (
        embedded_session(settings, postgres=True, redis=True, redis_answers=False) as found,
        catalog_on(found) as catalog,
    ):
        yield catalog


@asynccontextmanager
async def catalog_on(settings: Settings) -> AsyncIterator[SourceCatalog]:
    """The catalog on the servers that the settings name, with the newest schema. Raises as `open_catalog`."""
    metrics = StoreMetrics()
    pool = PostgresPool(settings.postgres, metrics)
    wire = RedisWire(settings.redis, metrics)
    try:
        await pool.start()
        await migrate(pool)
        await wire.start()
        yield SourceCatalog(pool, SharedKeys(wire, settings), load_sealer(settings), settings.mode)
    finally:
        await wire.stop()
        await pool.stop()
