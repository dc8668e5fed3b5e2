"""Transactions on the catalog that every frontend shall hear of."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.adapters.keystore.memory import CHANGES_MAX, Change
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres.pool import Connection, PostgresPool

log = logging.getLogger(__name__)


@asynccontextmanager
async def changing(pool: PostgresPool, shared: SharedKeys) -> AsyncIterator[Connection]:
    """A transaction whose changes are announced once they are committed. Raises StoreUnavailable."""
    async with pool.transaction() as connection:
        before = await connection.fetchval("SELECT seq FROM catalog_state")
        yield connection
        # Our own and, harmlessly, those that others committed meanwhile.
        rows = await connection.fetch(
            "SELECT seq, source_id, digests FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2",
            before,
            CHANGES_MAX,
        )
    changes = [Change(row["seq"], row["source_id"], tuple(row["digests"])) for row in rows]
    if changes and not await shared.announce(changes):
        log.warning("Redis is away: the frontends learn of the change from PostgreSQL, within a second")
