"""
The local log as the processor reads it: all publishers' files, each from a position that PostgreSQL keeps.

The position moves in the transaction that stores the rows, so a crash at any moment neither leaves a row out
nor stores it twice. Positions are named by the folder's own id (`log.id`) and the file: two machines may
share a database. One processor reads at a time; a lock in the folder, which ends with its process, says who.

What was read and is not `done` is read again by the next `read`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import heapq
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from daemon.adapters.local.follow import FollowedFile, FollowedRow
from daemon.adapters.local.places import folder_of, slots_on_disk
from daemon.adapters.progress import Progress
from daemon.config.schema import Settings
from daemon.errors import Unavailable
from daemon.observe.metrics import Cell
from daemon.ports import Feed, Lag, Move, Position, Reading

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Between looks for news, seconds: as long as two transactions are apart.
LOOK_S = 0.1
#: Between tries to become the one who reads, and to learn the positions, seconds.
RETRY_S = 0.5
#: Between looks at how much waits, seconds.
COUNT_S = 2.0

#: What comes of a look at the files: rows by slot.
_Rows = dict[int, list[FollowedRow]]


class LocalFeed:
    """The raw topic of this machine's log. One reader."""

    def __init__(
        self,
        settings: Settings,
        positions: Callable[[str], Awaitable[Sequence[Position]]],
        missed: Cell,
        now_s: Callable[[], float] = time.time,
        *,
        kept_only: bool = False,
    ) -> None:
        """
        `kept_only` leaves out what is for Kafka: the rest of a log that was the whole log before there was one.

        `positions` gives those on logs whose name begins with its argument; it may raise StoreUnavailable.

        `missed` counts rows that were gone before they were read; `now_s` is the clock, Unix seconds.
        """
        self._settings = settings
        self._folder = folder_of(settings)
        self._topic = settings.kafka.topic_raw
        self._limits = settings.processor
        self._positions = positions
        self._missed = missed
        self._now_s = now_s
        self._kept_only = kept_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-feed")
        self._lock_fd = -1
        self._id = ""
        self._known: dict[str, Position] | None = None
        self._files: dict[int, FollowedFile] = {}
        self._unreadable: set[str] = set()
        self._counted_at = 0.0
        self._counter: asyncio.Task[None] | None = None
        self._stopped = False
        self._progress = Progress()

    async def start(self) -> None:
        self._counter = asyncio.create_task(self._count_for_ever())

    async def read(self, wait_s: float) -> Reading | None:
        self._progress.dropped()
        if not await self._take_over():
            await asyncio.sleep(min(wait_s, RETRY_S))
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            found = await self._in_thread(self._look)
            if found:
                reading = self._reading(found)
                self._progress.taken(reading.records)
                return reading
            self._progress.caught_up(int(self._now_s() * 1000))
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(LOOK_S)

    async def done(self, reading: Reading) -> None:
        self._progress.done(reading.records)
        await self._in_thread(partial(self._stored, cast("_Rows", reading.token)))

    def stale(self, reading: Reading) -> bool:  # noqa: ARG002  the lock sees to it
        return False

    async def reset(self) -> None:
        await self._in_thread(self._close_files)
        self._known = None

    def lag(self) -> Lag:
        records = sum(file.backlog for file in self._files.values())
        return Lag(records, self._progress.oldest_ms if records else 0)

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._counter is not None:
            self._counter.cancel()
            await asyncio.gather(self._counter, return_exceptions=True)
        await self._in_thread(self._close_files)
        self._thread.shutdown(wait=False)
        self._let_go()

    # --- who reads, and from where

    async def _take_over(self) -> bool:
        """Whether this process is the one who reads, and knows from where."""
        try:
            if self._lock_fd < 0 and not await self._in_thread(self._lock):
                return False
            if self._known is None:
                positions = await self._positions(f"{self._id}/")
                self._known = {position.log: position for position in positions}
        except OSError as error:
            self._tell(str(self._folder), error)
            return False
        except Unavailable as error:
            log.debug("positions are not known yet: %s", error)
            return False
        self._unreadable.discard(str(self._folder))
        return True

    def _lock(self) -> bool:
        if not slots_on_disk(self._folder):
            return False  # no publisher has written anything yet
        descriptor = os.open(self._folder / "processor.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._id = self._folder_id()
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._lock_fd = descriptor
        return True

    def _let_go(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _folder_id(self) -> str:
        """The folder's name among all that share the database; made once. The lock is held."""
        path = self._folder / "log.id"
        with contextlib.suppress(FileNotFoundError):
            found = path.read_text(encoding="ascii", errors="replace").strip()
            if found:
                return found
        made = uuid.uuid4().hex
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123  the mode is set above
            file.write(made + "\n")
            file.flush()
            os.fsync(file.fileno())
        return made

    # --- in the thread

    def _look(self) -> _Rows:
        """The next rows of all files; every file gets its share, so that none waits for another one's backlog."""
        self._find_files()
        share = max(1, len(self._files))
        found: _Rows = {}
        for slot, file in self._files.items():
            try:
                rows = file.rows(
                    max(1, self._limits.batch_records_max // share),
                    max(1, self._limits.batch_bytes_max // share),
                )
            except (sqlite3.Error, OSError) as error:
                file.close()
                self._tell(file.name, error)
                continue
            self._unreadable.discard(file.name)
            if rows:
                found[slot] = rows
        self._count()
        return found

    def _find_files(self) -> None:
        assert self._known is not None
        for slot in slots_on_disk(self._folder):
            if slot not in self._files:
                self._counted_at = 0.0  # what waits in a file that was just found is known at once
                name = f"publisher-{slot}"
                known = self._known.get(f"{self._id}/{name}")
                self._files[slot] = FollowedFile(
                    self._folder / f"{name}.db",
                    self._topic,
                    known.position if known is not None else None,
                    known.mark if known is not None else "",
                    kept_only=self._kept_only,
                    retention_s=self._settings.log.retention_s,
                    now_s=self._now_s,
                    missed=self._count_missed,
                )

    def _stored(self, found: _Rows) -> None:
        for slot, rows in found.items():
            self._files[slot].stored(rows)

    async def _count_for_ever(self) -> None:
        """Beside the reading: what waits grows, too, while what is in hand can't be stored."""
        while True:
            await asyncio.sleep(COUNT_S)
            await self._in_thread(self._count)

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted_at < COUNT_S / 2:
            return
        self._counted_at = now
        for file in self._files.values():
            with contextlib.suppress(sqlite3.Error, OSError):
                file.count()

    def _count_missed(self, rows: int) -> None:
        self._missed.n += rows

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _tell(self, name: str, error: Exception) -> None:
        """Once, until it can be read again: the publisher moves a damaged file aside, and a full disk gets room."""
        if name not in self._unreadable:
            self._unreadable.add(name)
            log.warning("%s in %s can't be read now, the others go on: %s", name, self._folder, error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- what was read

    def _reading(self, found: _Rows) -> Reading:
        """Rows of all files by time; the order within a file is kept."""
        merged = heapq.merge(*found.values(), key=lambda row: row.first_ms)
        moves = [
            Move(f"{self._id}/{file.name}", file.position, rows[-1].id, rows[-1].mark)
            for slot, rows in found.items()
            for file in (self._files[slot],)
        ]
        return Reading([record for row in merged for record in row.records], moves, found)


if TYPE_CHECKING:
    _: type[Feed] = LocalFeed
