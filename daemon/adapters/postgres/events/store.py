"""
Batches of events into PostgreSQL: all of a batch in one transaction, each event exactly once.

    positions ──▶ ids ──▶ profiles ──▶ events
    (local log)   new?    whose?       COPY

The ids decide: who inserts an id stores its event, and who finds it there drops a copy. They go in in the
order of their keys, and profiles are locked after them, so that processors that store at the same time wait
for each other in one direction only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from msgspec import Struct

from daemon.adapters.postgres.events.days import Days
from daemon.adapters.postgres.events.trouble import DayMissing, PositionMoved, RowsRefused, meaning
from daemon.adapters.postgres.pool import Connection, PostgresPool
from daemon.adapters.postgres.profiles.book import Changes, resolve
from daemon.errors import SettingsError, Unavailable
from daemon.events.stored import StoredEvent
from daemon.ports import Move, Position

_IDS = """
INSERT INTO {table} (key, received_at) SELECT * FROM unnest($1::uuid[], $2::timestamptz[])
ON CONFLICT DO NOTHING RETURNING key
"""
_WINDOWED = _IDS.format(table="event_ids")
_LASTING = _IDS.format(table="event_ids_lasting")

_COLUMNS = (
    "received_at", "occurred_at", "id", "tenant", "contract", "channel", "source", "type", "name", "message_id",
    "user_id", "anonymous_id", "profile_id", "envelope",
)  # fmt: skip

_FIRST_MOVE = """
INSERT INTO log_positions (reader, log, position, mark) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_MOVE = """
UPDATE log_positions SET position = $3, mark = $4, updated_at = now()
WHERE reader = $1 AND log = $2 AND position = $5
"""


class Stored(Struct, frozen=True):
    """What became of a batch: rows that are new, copies that were dropped, and what changed of profiles."""

    rows: int
    copies: int
    profiles: Changes


class EventStore:
    """Stores events; `reader` names whose positions move with them."""

    def __init__(self, pool: PostgresPool, reader: str) -> None:
        self._pool = pool
        self._reader = reader
        # The server's own limits, a little before ours: a connection that we give up while it waits for a lock would
        # go on waiting, one more with each try; and a processor that is cut off must not keep its locks.
        limit_ms = max(1, int(pool.settings.timeout_s * 900))
        self._limits = (
            f"SET LOCAL statement_timeout = {limit_ms}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}"
        )
        self.days = Days(pool)

    async def answers(self, timeout_s: float) -> bool:
        """Whether PostgreSQL says anything within `timeout_s`; the pool's `up` knows then, too. Never raises."""
        try:
            await self._pool.fetch("SELECT 1", timeout_s=timeout_s)
        except (Unavailable, SettingsError, asyncpg.PostgresError):
            return False
        return True

    async def positions(self, prefix: str) -> list[Position]:
        """The positions on the logs whose name begins with `prefix`. Raises StoreUnavailable."""
        try:
            rows = await self._pool.fetch(
                "SELECT log, position, mark FROM log_positions WHERE reader = $1 AND starts_with(log, $2)",
                self._reader,
                prefix,
            )
        except asyncpg.PostgresError as error:
            raise meaning(error) from error
        return [Position(row["log"], row["position"], row["mark"]) for row in rows]

    async def store(self, events: Sequence[StoredEvent], moves: Sequence[Move] = ()) -> Stored:
        """
        Make the events durable, in their order, each one that is not there yet, and move the positions.

        All or nothing. Raises RowsRefused when PostgreSQL does not take these events, PositionMoved when
        another reader was faster, StoreUnavailable for everything that may be over later.
        """
        await self.days.ensure({event.received_at.date() for event in events})
        try:
            async with self._pool.transaction() as connection:
                await connection.execute(self._limits)
                await self._move(connection, moves)
                new = await _remember(connection, events)
                profiles, changes = await resolve(connection, new)
                if new:
                    await _copy(connection, new, profiles)
        except asyncpg.PostgresError as error:
            reason = meaning(error)
            if isinstance(reason, DayMissing):
                self.days.forget()
            raise reason from error
        except (ValueError, TypeError, OverflowError) as error:
            # asyncpg could not encode a value.
            raise RowsRefused(f"{type(error).__name__}: {error}") from error
        return Stored(len(new), len(events) - len(new), changes)

    async def _move(self, connection: Connection, moves: Iterable[Move]) -> None:
        for move in sorted(moves, key=lambda one: one.log):
            values: list[Any] = [self._reader, move.log, move.after, move.mark]
            if move.before is None:
                done = await connection.execute(_FIRST_MOVE, *values)
            else:
                done = await connection.execute(_MOVE, *values, move.before)
            if done.rpartition(" ")[2] != "1":
                raise PositionMoved(f"the position on {move.log} is no longer {move.before}")


async def _remember(connection: Connection, events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """Take the events' ids; gives the events whose ids were not there, in their order, each once."""
    first: dict[str, StoredEvent] = {}
    for event in events:
        first.setdefault(event.key, event)
    taken: set[str] = set()
    for statement, lasting in ((_WINDOWED, False), (_LASTING, True)):
        part = sorted((event.key, event.received_at) for event in first.values() if event.lasting is lasting)
        if part:
            rows = await connection.fetch(statement, [key for key, _ in part], [at for _, at in part])
            taken.update(row[0].hex for row in rows)
    if len(taken) == len(first):
        return list(first.values())
    return [event for key, event in first.items() if key in taken]


async def _copy(
    connection: Connection, events: Sequence[StoredEvent], profiles: Sequence[str | None]
) -> None:
    await connection.copy_records_to_table(
        "events",
        columns=_COLUMNS,
        records=[
            (
                event.received_at,
                event.occurred_at,
                event.id,
                event.tenant,
                event.contract,
                event.channel,
                event.source,
                event.type,
                event.name,
                event.message_id,
                event.user_id,
                event.anonymous_id,
                profile,
                event.envelope,
            )
            for event, profile in zip(events, profiles, strict=True)
        ],
    )
