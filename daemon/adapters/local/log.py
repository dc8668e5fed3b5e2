"""
The write side of the local log.

Appends that come in while a commit is under way go into the next one together, so an fsync is shared
by all who wait for it. Encoding and SQLite run in one thread of their own; the event loop only waits.

A file that turns out to be corrupt is moved aside and a new one takes its place within the same call;
its good rows follow in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from daemon.adapters.local.file import Full, LogFile
from daemon.adapters.local.layout import DAMAGED, KEPT, REFUSED, SPOOLED, Spooled, is_corrupt
from daemon.adapters.local.places import DrainLock, file_of
from daemon.adapters.local.rescue import Rescue
from daemon.adapters.local.rows import DamagedRow, Row, read_row, to_rows
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.observe.catalog import LocalLogMetrics
from daemon.ports import Durability, EventLog, PartitionBatch

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What the caller is told to wait when the disk is full or failing, seconds.
RETRY_AFTER_S = 5.0

#: Bytes of records that go into one commit; the rest waits for the next. Bounds memory and the WAL's steps.
COMMIT_BYTES = 16 * 1024 * 1024

#: Between looks for rows that are past their retention and for files to salvage, seconds, and how many rows go at once.
TIDY_S = 30.0
EXPIRE_ROWS = 200

#: Less room than this and the log is called full, though a small append might still fit.
ROOM_BYTES = 128 * 1024


class LocalLog:
    """
    The local log of one publisher slot.

    With `spool` the records are for Kafka: they stay until `remove` takes them away. Without, this is
    the whole log, and they stay for log.retention_s. What a file holds of the other kind, because there
    was no Kafka before, or is none any more, is treated as what it is.
    """

    def __init__(
        self,
        settings: Settings,
        slot: int,
        *,
        spool: bool,
        guest: bool = False,
        metrics: LocalLogMetrics | None = None,
    ) -> None:
        """A `guest` is not the slot's own publisher: it drains, and leaves what is kept to whoever keeps it."""
        self._settings = settings
        self._state = SPOOLED if spool else KEPT
        self._guest = guest
        self._metrics = metrics or LocalLogMetrics()
        self.path = file_of(settings, slot)
        self.slot = slot
        self._file = LogFile(self.path, settings.log.bytes_max, settings.log.headroom_bytes)
        self._rescue = Rescue(self._file, self._state, self._in_thread, self._metrics)
        self._rescuing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-log")
        self._waiting: list[tuple[str, Sequence[PartitionBatch], asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None
        self._lock = DrainLock(self.path)
        #: whether the latest append failed
        self._failed = False
        self._stopped = False
        #: Records that Kafka has not got yet, as far as this process knows (see `count`).
        self.spooled_records = 0
        #: Receipt of the oldest of them, Unix milliseconds; 0: there is none.
        self.oldest_ms = 0
        #: Rows that stay for an operator.
        self.refused_rows = self.damaged_rows = 0
        #: Bytes of the file that hold something, when it was looked at last.
        self.used_bytes = 0

    @property
    def oldest_s(self) -> float:
        """Age of the oldest record that Kafka has not got yet, seconds; 0: there is none."""
        return (
            max(0.0, time.time() - self.oldest_ms / 1000) if self.oldest_ms and self.spooled_records else 0.0
        )

    async def start(self) -> None:
        """Open the file. Raises LogUnavailable when the disk does not let us; a later append tries again."""
        self._loop = asyncio.get_running_loop()
        if not self._guest:
            self._tidier = asyncio.create_task(self._tidy_for_ever())
        if self._rescue.due:
            self._salvage()
        await self.count()

    async def stop(self) -> None:
        if self._stopped:
            return
        for task in (self._tidier, self._rescuing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._committer is not None:
            await self._committer
        self._stopped = True
        self.unlock_drain()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def partitions(self, topic: str) -> int:  # noqa: ARG002  all topics have as many
        return self._settings.kafka.partitions

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        if too_old := self._too_old():
            raise LogUnavailable(too_old, RETRY_AFTER_S)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((topic, batches, future))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_while_needed())
        await future
        return "local"

    async def trouble(self) -> str:
        """Why nothing can be written now, or "". After a failed append it takes a trial write to clear it."""
        if too_old := self._too_old():
            return too_old
        try:
            await self._in_thread(partial(self._file.check_room, ROOM_BYTES))
            if self._failed:
                await self._in_thread(self._file.try_write)
        except LogUnavailable as error:
            return str(error)
        self._failed = False
        return ""

    # --- the spool

    async def count(self) -> int:
        """Count anew what is there; the slot's other process may have changed it. Gives `spooled_records`."""
        found, self.used_bytes = await self._in_thread(
            lambda: (self._file.spooled(), self._file.used_bytes())
        )
        self._know(found)
        return self.spooled_records

    async def oldest(self, bytes_max: int) -> list[tuple[int, str, list[PartitionBatch]]]:
        """
        The oldest rows that Kafka has not got, up to `bytes_max` bytes: (id, topic, batches).

        A row that is damaged is put aside and logged: it must not hold up those behind it.
        """
        rows = await self._in_thread(lambda: self._file.oldest(bytes_max))
        found = []
        for number, topic, _, body, stored_checksum in rows:
            try:
                found.append((number, topic, read_row(topic, body, stored_checksum)))
            except DamagedRow as error:
                log.error("row %d of %s can't be read and is put aside: %s", number, self.path, error)  # noqa: TRY400
                self._metrics.lost_rows.at().n += 1
                await self._in_thread(partial(self._file.put_aside, [number], DAMAGED))
                await self.count()
        return found

    async def remove(self, ids: Sequence[int], records: int) -> None:
        """Kafka has these rows, with `records` records in them."""

        def work() -> int:
            self._file.remove(ids)
            return self._file.oldest_ms()

        self.oldest_ms = await self._in_thread(work)
        self.spooled_records = max(0, self.spooled_records - records)

    async def refuse(self, ids: Sequence[int]) -> None:
        """Kafka will never take these rows; they stay in the file, marked, for an operator."""
        await self._in_thread(lambda: self._file.put_aside(ids, REFUSED))
        self.refused_rows += len(ids)

    async def retry_refused(self) -> None:
        """What Kafka has refused goes back to what waits for it."""
        await self._in_thread(self._file.retry_refused)
        await self.count()

    def lock_drain(self) -> bool:
        """Whether this process alone may drain the file now: the old publisher of a slot and the new one take turns."""
        return self._lock.take()

    @property
    def holds_drain(self) -> bool:
        """Whether `lock_drain` has taken it."""
        return self._lock.held

    def unlock_drain(self) -> None:
        """Let another process drain."""
        self._lock.let_go()

    async def remember_partitions(self, partitions: dict[str, int]) -> None:
        """Keep what Kafka said about its topics, for a start without Kafka."""
        await self._in_thread(lambda: self._file.remember_partitions(partitions))

    async def remembered_partitions(self) -> dict[str, int]:
        """What `remember_partitions` kept."""
        return await self._in_thread(self._file.remembered_partitions)

    # --- in the thread

    async def _commit_while_needed(self) -> None:
        try:
            while self._waiting:
                group = self._next_group()
                try:
                    await self._in_thread(partial(self._commit, group))
                except LogUnavailable as error:
                    self._fail(group, str(error), error.retry_after_s)
                except Exception as error:
                    # Whoever waits must get an answer, and those behind them their turn.
                    log.exception("a commit failed in an unforeseen way")
                    self._fail(group, f"the local log {self.path} fails: {error!r}", RETRY_AFTER_S)
                else:
                    self._failed = False
                    for _, batches, future in group:
                        if self._state == SPOOLED:
                            self._spooled_too(batches)
                        if not future.done():
                            future.set_result(None)
        finally:
            self._committer = None

    def _fail(
        self,
        group: Sequence[tuple[str, Sequence[PartitionBatch], asyncio.Future[None]]],
        why: str,
        retry_after_s: float,
    ) -> None:
        self._failed = True
        for _, _, future in group:
            if not future.done():
                future.set_exception(LogUnavailable(why, retry_after_s))

    def _next_group(self) -> list[tuple[str, Sequence[PartitionBatch], asyncio.Future[None]]]:
        """What goes into the next commit: all that waits, up to a bound, without what was given up."""
        size = taken = 0
        for _, batches, _ in self._waiting:
            size += sum(len(record.value) for batch in batches for record in batch.records)
            taken += 1
            if size >= COMMIT_BYTES:
                break
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return [one for one in group if not one[2].done()]

    def _commit(self, group: Sequence[tuple[str, Sequence[PartitionBatch], asyncio.Future[None]]]) -> None:
        rows: list[Row] = []
        for topic, batches, _ in group:
            rows += to_rows(topic, batches)
        if rows:
            self._file.write(rows, self._state)

    def _close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._file.close()

    def _know(self, found: Spooled) -> None:
        self.spooled_records, self.oldest_ms = found.records, found.oldest_ms
        self.refused_rows, self.damaged_rows = found.refused_rows, found.damaged_rows

    def _spooled_too(self, batches: Sequence[PartitionBatch]) -> None:
        self.spooled_records += sum(len(batch.records) for batch in batches)
        if not self.oldest_ms:
            self.oldest_ms = min(
                (record.timestamp_ms for batch in batches for record in batch.records), default=0
            )

    def _too_old(self) -> str:
        """Why no more is spooled though there is room, or ""."""
        age_max_s = self._settings.log.spool_age_max_s
        if self._state != SPOOLED or not age_max_s or self.oldest_s <= age_max_s:
            return ""
        return (
            f"the oldest record that waits for Kafka in {self.path.name} is {self.oldest_s:.0f} s old: "
            "log.spool_age_max_s is reached"
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """`work` in the file's thread; what SQLite and the disk raise becomes LogUnavailable."""
        if self._stopped:
            raise LogUnavailable(f"the local log {self.path} is closed")
        loop = self._loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, partial(self._on_a_good_file, work))
        except Full as error:
            raise LogUnavailable(str(error), RETRY_AFTER_S) from error
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailable(f"the local log {self.path} fails: {error}", RETRY_AFTER_S) from error

    def _on_a_good_file(self, work: Callable[[], T]) -> T:
        """`work`; if it finds the file corrupt, once more on a new one."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            moved = self._file.move_aside()
            if moved is None:
                # The slot's other process has it open; it will find out too, or end.
                raise
            log.error("%s is corrupt (%s): moved to %s, a new one takes its place", self.path, error, moved)  # noqa: TRY400
            self._metrics.corrupt_files.at().n += 1
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._salvage)
            return work()

    # --- in the background

    @property
    def salvaging(self) -> bool:
        """Whether rows of a corrupt file are being saved."""
        return self._rescuing is not None and not self._rescuing.done()

    def _salvage(self) -> None:
        """Begin to salvage what lies aside, unless that is on."""
        if not self._stopped and not self.salvaging:
            self._rescuing = asyncio.get_running_loop().create_task(self._salvage_all())

    async def _salvage_all(self) -> None:
        try:
            await self._rescue.run()
            await self.count()
        except LogUnavailable as error:
            log.warning("the rows of a corrupt file could not all be saved yet: %s", error)
        except Exception:
            log.exception("saving the rows of a corrupt file failed in an unforeseen way; it is tried again")

    async def _tidy_for_ever(self) -> None:
        while True:
            try:
                await self.tidy()
                if self._rescue.due:
                    self._salvage()
            except LogUnavailable as error:
                log.warning("old records could not be removed: %s", error)
            except Exception:
                log.exception("tidying the local log failed in an unforeseen way; it is tried again")
            await asyncio.sleep(TIDY_S)

    async def tidy(self, steps_max: int = 1_000_000) -> None:
        """Remove what is past its retention, in `steps_max` steps at most. Raises LogUnavailable."""
        retention_s = self._settings.log.retention_s
        if retention_s > 0:
            before_ms = int((time.time() - retention_s) * 1000)
            # In small steps: appends of the same thread go in between.
            for _ in range(steps_max):
                if not await self._in_thread(partial(self._file.expire, before_ms, EXPIRE_ROWS)):
                    break
        await self.count()


if TYPE_CHECKING:
    _: type[EventLog] = LocalLog
