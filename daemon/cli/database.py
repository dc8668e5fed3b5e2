"""PostgreSQL for one command: the server found or started, the schema brought up to date, a pool opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from daemon.adapters.embedded.session import embedded_session
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.cli.background import run_async
from daemon.config.schema import Settings
from daemon.errors import UsageError

T = TypeVar("T")


def checked(text: str, what: str) -> str:
    """`text` from the command line. Raises UsageError for bytes that are no text, which no row can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8: {text!a}") from None
    return text


def with_database(settings: Settings, work: Callable[[PostgresPool], Awaitable[T]]) -> T:
    """The result of `work` on a pool. Raises StoreUnavailable, SettingsError, and what `work` raises."""

    async def go() -> T:
        async with open_database(settings) as pool:
            return await work(pool)

    return run_async(go)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[PostgresPool]:
    """
    A pool on the server that the settings name, or on the embedded one, running already or started for this.

    Raises StoreUnavailable when PostgreSQL is away, SettingsError for settings that can't be used.
    """
    async with embedded_session(settings, postgres=True, redis=False) as found:
        pool = PostgresPool(found.postgres)
        try:
            await pool.start()
            await migrate(pool)
            yield pool
        finally:
            await pool.stop()
