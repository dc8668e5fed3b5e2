"""
Connections to PostgreSQL: few, with a time limit on everything, and back by themselves after an outage.

A statement that was not answered in time takes its connection with it: whatever that connection was
doing can't be known, and a stopped server would otherwise keep the pool's places for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, TypeAlias

import asyncpg

from daemon.config.schema import Postgres
from daemon.errors import HeadgateError, SettingsError, StoreUnavailable
from daemon.observe.catalog import StoreMetrics

log = logging.getLogger(__name__)

Row: TypeAlias = "asyncpg.Record"
#: A connection lent by the pool, or one of its own.
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"

#: Errors of a server that can't serve now: connection exceptions (08), operator intervention (57, but not
#: a cancelled statement), insufficient resources (53), a start-up or shutdown in progress.
_NOT_NOW = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
#: Errors that no amount of waiting heals.
_NEVER = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class _UnreadableDsnError(SettingsError):
    """A DSN that no server needs to be asked about."""


class PostgresPool:
    """A pool on `settings.dsn`; `up` says whether the last statement was answered."""

    def __init__(self, settings: Postgres, metrics: StoreMetrics | None = None) -> None:
        """Connects on first use. `settings.dsn` is that of the embedded server where it was empty."""
        self.up = False
        self.settings = settings
        self._metrics = metrics
        self._pool: asyncpg.Pool[Any] | None = None
        self._out_since: float | None = None

    async def start(self) -> None:
        """
        Open the pool and try it once; a server that is away is noted, not raised (see `check`).

        Raises SettingsError for a DSN that can't be read.
        """
        if self._pool is not None:
            return
        settings = self.settings
        self._pool = await asyncpg.create_pool(
            settings.dsn,
            min_size=0,
            max_size=settings.pool_max,
            timeout=settings.timeout_s,
            command_timeout=settings.timeout_s,
            reset=_no_reset,
            server_settings={"application_name": "headgate"},
        )
        try:
            await self.fetch("SELECT 1")
        except _UnreadableDsnError:
            await self.stop()
            raise
        except (StoreUnavailable, SettingsError) as error:
            log.debug("PostgreSQL at the start: %s", error)

    async def stop(self) -> None:
        """Close all connections; those in use get a moment."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(1.0):
                await pool.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    async def check(self) -> str:
        """The server's version. Raises StoreUnavailable, or SettingsError for a DSN that can't work."""
        rows = await self.fetch("SHOW server_version")
        return str(rows[0][0])

    async def fetch(self, statement: str, *args: object, timeout_s: float | None = None) -> list[Row]:
        """The rows of one statement. Raises StoreUnavailable after `timeout_s` (default: the setting)."""
        async with self.connection(timeout_s) as connection:
            rows: list[Row] = await connection.fetch(statement, *args)
            return rows

    @asynccontextmanager
    async def transaction(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A transaction; it ends with the block, well or badly."""
        async with self.connection(timeout_s) as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """
        A connection for the block, which gets `timeout_s` in all.

        Raises StoreUnavailable when the server is away, stops or does not answer in time, SettingsError
        when it turns the DSN down. Errors of a statement come through as they are.
        """
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("PostgreSQL: the pool is not open")
        limit_s = timeout_s or self.settings.timeout_s
        lent: Any = None
        failed = True
        try:
            async with asyncio.timeout(limit_s):
                try:
                    lent = await pool.acquire()
                except ValueError as error:  # asyncpg reads the DSN when it connects
                    raise _UnreadableDsnError(
                        f"postgres.dsn can't be used: {error}", "postgres.dsn"
                    ) from None
                yield lent
            failed = False
        except (HeadgateError, asyncpg.DataError):
            failed = False  # of the block's own: the connection is in order
            raise
        except _NEVER as error:
            self._went_away(str(error))
            raise SettingsError(f"PostgreSQL turns postgres.dsn down: {error}", "postgres.dsn") from None
        except TimeoutError:
            self._went_away(f"no answer within {limit_s:g} s")
            raise StoreUnavailable(f"PostgreSQL does not answer within {limit_s:g} s") from None
        except (OSError, *_NOT_NOW, asyncpg.InterfaceError) as error:
            self._went_away(str(error) or type(error).__name__)
            raise StoreUnavailable(f"PostgreSQL is away: {error}") from error
        except asyncpg.PostgresError:
            failed = False  # the server answered, if with a no
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if lent is not None:
                await _given_back(pool, lent, broken=failed)

    # --- outages ------------------------------------------------------------------------------------

    def _answered(self) -> None:
        self.up = True
        if self._metrics is not None:
            self._metrics.up.at("postgres").n = 1
        if self._out_since is not None:
            seconds, self._out_since = monotonic() - self._out_since, None
            log.warning("PostgreSQL is back after %.1f s", seconds)

    def _went_away(self, reason: str) -> None:
        self.up = False
        if self._metrics is not None:
            self._metrics.up.at("postgres").n = 0
        if self._out_since is None:
            self._out_since = monotonic()
            if self._metrics is not None:
                self._metrics.outages.at("postgres").n += 1
            log.warning("PostgreSQL is away: %s", reason)


async def _no_reset(_: object) -> None:
    """
    In place of asyncpg's reset on every release, a round trip.

    Nothing here leaves session state behind: locks are taken for transactions, nothing listens.
    """


async def _given_back(pool: asyncpg.Pool[Any], lent: Any, *, broken: bool) -> None:
    try:
        if broken:
            lent.terminate()
        await pool.release(lent, timeout=1.0)
    except asyncpg.InterfaceError:
        return  # the server closed it, by which it went back to the pool
    except (OSError, asyncpg.PostgresError):
        lent.terminate()
