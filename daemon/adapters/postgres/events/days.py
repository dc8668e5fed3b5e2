"""
The partitions of `events`: one for each day of receipt (UTC), made before they are needed, dropped whole.

A partition is made beside the table and then attached, which stops nobody; dropping one needs the table for
itself, so it is given up for now when somebody has been reading it for longer than a moment.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import date, timedelta

import asyncpg

from daemon.adapters.postgres.events.trouble import meaning
from daemon.adapters.postgres.pool import Connection, PostgresPool

log = logging.getLogger(__name__)

#: "hgdays" as a number: two processors must not make the same day at once.
_LOCK = 0x6867_6461_7973
#: How long a drop may keep all others waiting, and how long making a day waits for others, milliseconds.
_DROP_WAIT_MS = 1000
_MAKE_WAIT_MS = 5000

_NAME = re.compile(r"^events_(\d{4})_(\d\d)_(\d\d)$")

_DAYS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'events'::regclass
"""


class Days:
    """The days that have a partition."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._known: set[date] = set()

    def forget(self) -> None:
        """Look again: another process may have dropped some."""
        self._known.clear()

    async def ensure(self, days: Iterable[date]) -> None:
        """See that each of `days` has its partition. Raises StoreUnavailable."""
        missing = set(days) - self._known
        if not missing:
            return
        try:
            self._known = await self.all()
            for day in sorted(missing - self._known):
                await self._make(day)
                self._known.add(day)
        except asyncpg.PostgresError as error:
            raise meaning(error) from error

    async def all(self) -> set[date]:
        """The days that have a partition now. Raises StoreUnavailable, asyncpg.PostgresError."""
        return {day for (name,) in await self._pool.fetch(_DAYS) if (day := day_of(name)) is not None}

    async def drop_before(self, day: date) -> list[date]:
        """
        Drop all days before `day`, the oldest first; gives those that are gone.

        What somebody reads just now is left for the next time. Raises StoreUnavailable.
        """
        dropped = []
        try:
            for old in sorted(one for one in await self.all() if one < day):
                if not await self._drop(old):
                    break
                self._known.discard(old)
                dropped.append(old)
        except asyncpg.PostgresError as error:
            raise meaning(error) from error
        return dropped

    async def _make(self, day: date) -> None:
        name = name_of(day)
        async with self._pool.transaction() as connection:
            await connection.execute(f"SET LOCAL lock_timeout = {_MAKE_WAIT_MS}")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await _attached(connection, name):
                return
            # Not PARTITION OF: that would lock the table against those who write other days.
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )
            await connection.execute(
                f"ALTER TABLE events ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"
            )
        log.info("made the partition %s", name)

    async def _drop(self, day: date) -> bool:
        name = name_of(day)
        try:
            async with self._pool.transaction() as connection:
                await connection.execute(f"SET LOCAL lock_timeout = {_DROP_WAIT_MS}")
                await connection.execute(f"DROP TABLE IF EXISTS {name}")
        except asyncpg.LockNotAvailableError:
            log.info("the partition %s is being read: it is dropped later", name)
            return False
        log.info("dropped the partition %s: it is past processor.retention_s", name)
        return True


async def _attached(connection: Connection, name: str) -> bool:
    return name in {row[0] for row in await connection.fetch(_DAYS)}


def name_of(day: date) -> str:
    """The partition of a day."""
    return f"events_{day.year:04}_{day.month:02}_{day.day:02}"


def day_of(name: str) -> date | None:
    """The day of a partition; None for a table that is none of ours."""
    match = _NAME.match(name)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None
