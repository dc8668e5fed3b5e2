"""Reading what is stored, for commands."""

from __future__ import annotations

from daemon.adapters.postgres.pool import PostgresPool

#: Counting goes over all rows.
COUNT_TIMEOUT_S = 600.0


async def count_events(pool: PostgresPool, tenant: str | None) -> int:
    """How many events are stored, of one tenant or of all. Raises StoreUnavailable."""
    async with pool.connection(COUNT_TIMEOUT_S) as connection:
        if tenant is None:
            found = await connection.fetchval("SELECT count(*) FROM events", timeout=COUNT_TIMEOUT_S)
        else:
            found = await connection.fetchval(
                "SELECT count(*) FROM events WHERE tenant = $1", tenant, timeout=COUNT_TIMEOUT_S
            )
    return int(found)
