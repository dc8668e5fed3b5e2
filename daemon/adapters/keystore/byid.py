"""Rows by their id, kept in memory until the change feed names them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Generic, TypeVar

from daemon.config.schema import Keys
from daemon.errors import StoreUnavailable

T = TypeVar("T")
V = TypeVar("V")

#: Tries for a row that changes while it is being read.
_TRIES = 3
#: Absent rows remembered: a flood of random ids must not push the known ones out, nor grow without end.
ABSENT_MAX = 65_536
#: Rows being read at a time; beyond, a caller is told to come back (a flood of random ids).
LOADS_MAX = 1024


class CachedById(Generic[T]):
    """
    Reads through `load` (id → row or None; raises StoreUnavailable), single flight per id.

    A row is believed for `ttl_s`, and for `last_good_s` while it can't be read again. Absent rows are
    remembered too, as briefly as `negative_ttl_s`, and apart from the others: ids come from callers, whoever they
    are.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[T | None]],
        *,
        ttl_s: float,
        negative_ttl_s: float,
        last_good_s: float,
        entries_max: int,
    ) -> None:
        self._load = load
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._last_good_s = last_good_s
        self._entries_max = entries_max
        self._rows: dict[str, tuple[T, float]] = {}
        #: id -> until when it is believed to be of no row
        self._absent: dict[str, float] = {}
        self._loading: dict[str, asyncio.Task[T | None]] = {}
        self._generation = 0

    @classmethod
    def of(cls, load: Callable[[str], Awaitable[T | None]], keys: Keys) -> CachedById[T]:
        """With the times of the settings' section `[keys]`."""
        return cls(
            load,
            ttl_s=keys.memory_ttl_s,
            negative_ttl_s=keys.negative_ttl_s,
            last_good_s=keys.last_good_s,
            entries_max=keys.entries_max,
        )

    async def get(self, row_id: str) -> T | None:
        """The row, or None where there is none. Raises StoreUnavailable when nobody knows."""
        now = monotonic()
        known = self._rows.get(row_id)
        if known is not None:
            if now - known[1] < self._ttl_s:
                return known[0]
        elif self._absent.get(row_id, 0.0) > now:
            return None
        try:
            return await asyncio.shield(self._wanted(row_id))
        except StoreUnavailable:
            if known is not None and now - known[1] < self._last_good_s:
                return known[0]
            raise

    def forget(self, ids: Iterable[str] | None) -> None:
        """These rows changed (None: any may have); what is being read now is read again."""
        self._generation += 1
        if ids is None:
            self._rows.clear()
            self._absent.clear()
        else:
            for row_id in ids:
                self._rows.pop(row_id, None)
                self._absent.pop(row_id, None)

    def _wanted(self, row_id: str) -> asyncio.Task[T | None]:
        task = self._loading.get(row_id)
        if task is None:
            if len(self._loading) >= LOADS_MAX:
                raise StoreUnavailable("too many unknown ids are being looked up")
            task = self._loading[row_id] = asyncio.create_task(self._read(row_id))
            task.add_done_callback(lambda _: self._loading.pop(row_id, None))
        return task

    async def _read(self, row_id: str) -> T | None:
        row: T | None = None
        for _ in range(_TRIES):
            generation = self._generation
            row = await self._load(row_id)
            if generation == self._generation:
                self._keep(row_id, row)
                return row
        return row

    def _keep(self, row_id: str, row: T | None) -> None:
        if row is None:
            self._rows.pop(row_id, None)
            _bounded(self._absent, ABSENT_MAX)[row_id] = monotonic() + self._negative_ttl_s
        else:
            self._absent.pop(row_id, None)
            _bounded(self._rows, self._entries_max)[row_id] = (row, monotonic())


def _bounded(entries: dict[str, V], entries_max: int) -> dict[str, V]:
    """`entries` with room for one more; the oldest go."""
    while len(entries) >= entries_max:
        del entries[next(iter(entries))]
    return entries
