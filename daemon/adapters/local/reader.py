"""
The read side of the local log: all publishers' files as one stream.

Every look at a file is one short transaction on a read-only connection, so that a reader that is
slow, or that follows for days, never keeps the writer from starting its WAL over.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.adapters.local.places import folder_of, slots_on_disk
from daemon.adapters.local.rows import OFFSET_PLACES, DamagedRow, read_row
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.ports import LogReader, Record, StoredRecord

log = logging.getLogger(__name__)

#: Between looks for news while following, seconds: a person who tails does not notice, a disk neither.
LOOK_S = 0.05

#: Rows per look; with ROW_BYTES each they bound what is held of a file.
ROWS_PER_LOOK = 32

#: How long a look waits for a writer that is just opening the file, seconds.
BUSY_S = 5.0


class LocalReader:
    """Reads the local log of this machine; any number may read while the publishers write."""

    def __init__(self, settings: Settings) -> None:
        self._folder = folder_of(settings)
        self._stopped = False

    async def read(self, topic: str, since_ms: int | None, follow: bool) -> AsyncIterator[StoredRecord]:
        """
        See LogReader.read. Records of all publishers in the order of time, as near as the rows allow.

        Raises LogUnavailable for a file that can't be read.
        """
        files = await self._look_for_files({}, topic, since_ms)
        ends = {slot: await file.end() for slot, file in files.items()}
        async for record in self._merged(files, ends):
            yield record
        while follow and not self._stopped:
            files = await self._look_for_files(files, topic, since_ms)
            news = False
            async for record in self._merged(files, dict.fromkeys(files)):
                news = True
                yield record
            if not news:
                await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        self._stopped = True

    async def _look_for_files(
        self, known: dict[int, _File], topic: str, since_ms: int | None
    ) -> dict[int, _File]:
        """The files that are there now: a publisher may have been added."""
        slots = await asyncio.to_thread(slots_on_disk, self._folder)
        return {
            slot: known.get(slot) or _File(self._folder / f"publisher-{slot}.db", topic, since_ms)
            for slot in slots
        }

    async def _merged(
        self, files: dict[int, _File], ends: Mapping[int, int | None]
    ) -> AsyncIterator[StoredRecord]:
        """All files up to their ends, by time; each file's own order is kept."""
        heap: list[tuple[int, int, Iterator[StoredRecord], StoredRecord]] = []

        async def refill(slot: int) -> None:
            records = await files[slot].more(ends[slot])
            first = next(records, None)
            if first is not None:
                heapq.heappush(heap, (first.record.timestamp_ms, slot, records, first))

        for slot in files:
            await refill(slot)
        while heap and not self._stopped:
            _, slot, records, record = heapq.heappop(heap)
            yield record
            following = next(records, None)
            if following is not None:
                heapq.heappush(heap, (following.record.timestamp_ms, slot, records, following))
            else:
                await refill(slot)


#: A row's id, its body and its checksum, if it has one.
_Row = tuple[int, bytes, int | None]


class _File:
    """One publisher's file, read from `position` on."""

    def __init__(self, path: Path, topic: str, since_ms: int | None) -> None:
        self._path = path
        self._name = path.stem
        self._topic = topic
        self._since_ms = since_ms if since_ms is not None else -1
        self._position = 0
        self._began = False

    async def end(self) -> int:
        """The id of the newest row."""
        return await asyncio.to_thread(self._end)

    async def more(self, end: int | None) -> Iterator[StoredRecord]:
        """The records of the next rows up to the row `end`; none when there are no more."""
        rows = await asyncio.to_thread(self._rows, end)
        return self._records(rows)

    def _end(self) -> int:
        found = self._query("SELECT coalesce(max(id), 0), x'', NULL FROM batch", ())
        return int(found[0][0]) if found else 0

    def _rows(self, end: int | None) -> list[_Row]:
        if not self._began and self._since_ms >= 0:
            # Found by the index: reading all of a long log for its last minute would take its time.
            found = self._query(
                "SELECT min(id), x'', NULL FROM batch INDEXED BY batch_time WHERE last_ms >= ?",
                (self._since_ms,),
            )
            if not found or found[0][0] is None:
                return []
            self._position = found[0][0] - 1
        self._began = True
        rows = self._query(
            "SELECT id, body, sum FROM batch WHERE id > ? AND id <= ? AND topic = ? AND last_ms >= ? ORDER BY id LIMIT ?",
            (self._position, end if end is not None else 1 << 62, self._topic, self._since_ms, ROWS_PER_LOOK),
        )
        if rows:
            self._position = rows[-1][0]
        return rows

    def _query(self, statement: str, values: tuple[object, ...]) -> list[_Row]:
        try:
            with closing(
                sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
            ) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such column: sum" in str(error):
                # A file that was last opened by a version that knew no checksums.
                return self._query(statement.replace(", sum ", ", NULL "), values)
            # A publisher that is just making its file: there is nothing in it yet.
            if "no such table" in str(error) or not self._path.exists():
                return []
            raise LogUnavailable(f"the local log {self._path} can't be read: {error}") from error
        except sqlite3.Error as error:
            raise LogUnavailable(f"the local log {self._path} can't be read: {error}") from error

    def _records(self, rows: list[_Row]) -> Iterator[StoredRecord]:
        for number, body, stored_checksum in rows:
            try:
                batches = read_row(self._topic, body, stored_checksum)
            except DamagedRow as error:
                # One bad block must not keep the readers from all that is behind it.
                log.error("row %d of %s can't be read and is left out: %s", number, self._path, error)  # noqa: TRY400
                continue
            partitions: dict[int, list[Record]] = {}
            for batch in batches:
                partitions.setdefault(batch.partition, []).extend(batch.records)
            # By time over the partitions, in order within each: merge keeps the order of each of its inputs.
            streams = [
                [
                    (record.timestamp_ms, partition, number * OFFSET_PLACES + place, record)
                    for place, record in enumerate(records)
                ]
                for partition, records in partitions.items()
            ]
            for _, partition, offset, record in heapq.merge(*streams, key=lambda one: one[0]):
                if record.timestamp_ms >= self._since_ms:
                    yield StoredRecord(self._name, partition, offset, record)


if TYPE_CHECKING:
    _: type[LogReader] = LocalReader
