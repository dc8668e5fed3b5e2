"""
What has to be done beside storing: days made ahead, days past their retention dropped, old ids forgotten.

An id is forgotten only when the day of its row is gone: as long as the row is there, a copy of it is known.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, date, datetime, time, timedelta

import asyncpg

from daemon.adapters.postgres.events.days import Days
from daemon.adapters.postgres.events.trouble import meaning
from daemon.adapters.postgres.pool import PostgresPool
from daemon.config.schema import Processor
from daemon.observe.catalog import ProcessorMetrics

log = logging.getLogger(__name__)

#: Days that are made before they begin: time enough for an operator who finds that they can't be made.
DAYS_AHEAD = 2

#: Ids that go in one statement, and the share of the time in which that is done.
BITE_IDS = 2000
BITE_SHARE = 0.25

_PARTS = """
SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'event_ids'::regclass ORDER BY 1
"""
# By the rows' places, each part by itself: a look-up of every id in every part would cost eight times as much.
_FORGET = """
DELETE FROM {part} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {part} WHERE received_at < $1 ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""


class Tidier:
    """Keeps the tables of one database in order; several may do it at the same time."""

    def __init__(
        self, pool: PostgresPool, days: Days, settings: Processor, metrics: ProcessorMetrics
    ) -> None:
        self._pool = pool
        self._days = days
        self._retention = timedelta(seconds=settings.retention_s) if settings.retention_s else None
        # The ids of events that are kept for ever are kept for ever.
        self._id_retention = (
            timedelta(seconds=max(settings.id_retention_s, settings.retention_s))
            if settings.id_retention_s and settings.retention_s
            else None
        )
        self._metrics = metrics

    async def tidy(self, now: datetime) -> None:
        """Once: make days, drop days, forget ids. Raises StoreUnavailable."""
        today = now.astimezone(UTC).date()
        self._days.forget()
        await self._days.ensure(today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1))
        if self._retention is not None:
            # A day is over its retention when its last moment is.
            dropped = await self._days.drop_before((now - self._retention).astimezone(UTC).date())
            self._metrics.tidied.at("day").n += len(dropped)
        await self._forget_ids(now)

    async def _forget_ids(self, now: datetime) -> None:
        if self._id_retention is None:
            return
        try:
            oldest = min(await self._days.all(), default=date.max)
            before = min(_begin(oldest), now - self._id_retention)
            for (part,) in await self._pool.fetch(_PARTS):
                while forgotten := await self._bite(part, before):
                    self._metrics.tidied.at("id").n += forgotten
        except asyncpg.PostgresError as error:
            raise meaning(error) from error

    async def _bite(self, part: str, before: datetime) -> int:
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self._pool.connection() as connection:
            done = await connection.execute(_FORGET.format(part=part), before, BITE_IDS)
        await asyncio.sleep((clock() - began) * (1 / BITE_SHARE - 1))
        return int(done.rpartition(" ")[2])


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
