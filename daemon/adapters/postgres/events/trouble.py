"""What a failed statement of the event store means: these rows, or the store as a whole."""

from __future__ import annotations

import asyncpg

from daemon.errors import HeadgateError, StoreUnavailable

#: SQLSTATE classes that speak of the values given: data exceptions, broken constraints, limits of the program.
_OF_THE_ROWS = ("22", "23", "54")

#: Told when a row belongs to no partition (ExecFindPartition); there is no code of its own for it.
_NO_PARTITION = "no partition of relation"


class RowsRefused(HeadgateError):
    """PostgreSQL does not take these rows, for something that is in at least one of them."""


class DayMissing(StoreUnavailable):
    """A partition was dropped that was there a moment ago: once it is made again, the rows go in."""


class PositionMoved(HeadgateError):
    """Another reader has stored these records: the position is not where it was."""


def meaning(error: asyncpg.PostgresError) -> HeadgateError:
    """
    What `error` says: RowsRefused, DayMissing, or StoreUnavailable for all that may be over later.

    A missing table, a deadlock or an internal error is no reason to give an event up.
    """
    state = error.sqlstate or ""
    if isinstance(error, asyncpg.CheckViolationError) and _NO_PARTITION in str(error):
        return DayMissing(f"PostgreSQL: {error}")
    if state[:2] in _OF_THE_ROWS:
        return RowsRefused(f"{type(error).__name__} {state}: {error}")
    return StoreUnavailable(f"PostgreSQL can't store events now: {type(error).__name__} {state}: {error}")
