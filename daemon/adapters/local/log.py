"""
The write side of the local log.

Appends that come in while a commit is under way go into the next one together, so an fsync is shared
by all who wait for it. Encoding and SQLite run in one thread of their own; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from daemon.adapters.local.file import KEPT, SPOOLED, Full, LogFile
from daemon.adapters.local.rows import Row, batches_of, to_rows
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.ports import Durability, EventLog, PartitionBatch

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What the caller is told to wait when the disk is full or failing, seconds.
RETRY_AFTER_S = 5.0

#: Bytes of records that go into one commit; the rest waits for the next. Bounds memory and the WAL's steps.
COMMIT_BYTES = 16 * 1024 * 1024

#: Between looks for rows that are past their retention, seconds, and how many go at once.
TIDY_S = 30.0
EXPIRE_ROWS = 200

#: Less room than this and the log is called full, though a small append might still fit.
ROOM_BYTES = 128 * 1024

_NAME = re.compile(r"^publisher-(\d+)\.db$")


def folder_of(settings: Settings) -> Path:
    """Where all publishers' files are."""
    return Path(settings.data_dir) / "log"


def file_of(settings: Settings, slot: int) -> Path:
    """The file of the publisher in `slot`."""
    return folder_of(settings) / f"publisher-{slot}.db"


def slots_on_disk(folder: Path) -> list[int]:
    """The slots that have a file in `folder`, in order."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.match(name)))


class LocalLog:
    """
    The local log of one publisher slot.

    With `spool` the records are for Kafka: they stay until `remove` takes them away. Without, this is
    the whole log, and they stay for log.retention_s. What a file holds of the other kind, because there
    was no Kafka before, or is none any more, is treated as what it is.
    """

    def __init__(self, settings: Settings, slot: int, *, spool: bool) -> None:
        self._settings = settings
        self._state = SPOOLED if spool else KEPT
        self.path = file_of(settings, slot)
        self._file = LogFile(self.path, settings.log.bytes_max, settings.log.headroom_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-log")
        self._waiting: list[tuple[str, Sequence[PartitionBatch], asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None
        self._lock_fd = -1
        #: whether the latest append failed
        self._failed = False
        self._stopped = False
        #: Records that Kafka has not got yet, as far as this process knows (see `count`).
        self.spooled_records = 0
        #: Bytes of the file that hold something, when it was looked at last.
        self.used_bytes = 0

    async def start(self) -> None:
        """Open the file. Raises LogUnavailable when the disk does not let us; a later append tries again."""
        if self._settings.log.retention_s > 0:
            self._tidier = asyncio.create_task(self._tidy_for_ever())
        await self.count()

    async def stop(self) -> None:
        if self._stopped:
            return
        if self._tidier is not None:
            self._tidier.cancel()
            await asyncio.gather(self._tidier, return_exceptions=True)
        if self._committer is not None:
            await self._committer
        self._stopped = True
        self.unlock_drain()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def partitions(self, topic: str) -> int:  # noqa: ARG002  all topics have as many
        return self._settings.kafka.partitions

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((topic, batches, future))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_while_needed())
        await future
        return "local"

    async def trouble(self) -> str:
        """Why nothing can be written now, or "". After a failed append it takes a trial write to clear it."""
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
        """Count `spooled_records` and `used_bytes` anew; the slot's other process may have changed them."""
        self.spooled_records, self.used_bytes = await self._in_thread(
            lambda: (self._file.spooled_records(), self._file.used_bytes())
        )
        return self.spooled_records

    async def oldest(self, bytes_max: int) -> list[tuple[int, str, list[PartitionBatch]]]:
        """
        The oldest rows that Kafka has not got, up to `bytes_max` bytes: (id, topic, batches).

        A row that can't be decoded is put aside and logged: it must not hold up those behind it.
        """
        rows = await self._in_thread(lambda: self._file.oldest(bytes_max))
        found = []
        for number, topic, _, body in rows:
            try:
                found.append((number, topic, batches_of(body)))
            except msgspec.DecodeError as error:
                log.error("row %d of %s can't be read and is put aside: %s", number, self.path, error)  # noqa: TRY400
                await self.refuse([number])
        return found

    async def remove(self, ids: Sequence[int], records: int) -> None:
        """Kafka has these rows, with `records` records in them."""
        await self._in_thread(lambda: self._file.remove(ids))
        self.spooled_records = max(0, self.spooled_records - records)

    async def refuse(self, ids: Sequence[int]) -> None:
        """Kafka will never take these rows; they stay in the file, marked, for an operator."""
        await self._in_thread(lambda: self._file.refuse(ids))

    def lock_drain(self) -> bool:
        """Whether this process alone may drain the file now: the old publisher of a slot and the new one take turns."""
        if self._lock_fd >= 0:
            return True
        try:
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock_fd = descriptor
        return True

    def unlock_drain(self) -> None:
        """Let the slot's other process drain."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

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
                            self.spooled_records += sum(len(batch.records) for batch in batches)
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

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """`work` in the file's thread; what SQLite and the disk raise becomes LogUnavailable."""
        if self._stopped:
            raise LogUnavailable(f"the local log {self.path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Full as error:
            raise LogUnavailable(str(error), RETRY_AFTER_S) from error
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailable(f"the local log {self.path} fails: {error}", RETRY_AFTER_S) from error

    async def _tidy_for_ever(self) -> None:
        while True:
            before_ms = int((time.time() - self._settings.log.retention_s) * 1000)
            try:
                # In small steps: appends of the same thread go in between.
                while await self._in_thread(partial(self._file.expire, before_ms, EXPIRE_ROWS)):
                    pass
                await self.count()
            except LogUnavailable as error:
                log.warning("old records could not be removed: %s", error)
            await asyncio.sleep(TIDY_S)


if TYPE_CHECKING:
    _: type[EventLog] = LocalLog
