"""
One publisher's file as the processor follows it: rows behind a position, and whether it still is that file.

A position outlives the process, the publisher, and sometimes the file: it may have been moved aside because
it was damaged, restored from a backup, or removed with its numbering starting again. So beside the number
of the last stored row its mark is kept (the file's inode and what that row looked like), by which the next
reader can tell. Where it can't, it reads more than it has to: copies are dropped.

Every method blocks and belongs to one thread.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from daemon.adapters.local.layout import KEPT
from daemon.adapters.local.rows import OFFSET_PLACES, DamagedRow, read_row
from daemon.ports import Fetched

log = logging.getLogger(__name__)

#: How long a look waits for a writer that is just opening the file, seconds.
BUSY_S = 5.0

_ROWS = (
    "SELECT id, first_ms, last_ms, records, body, sum FROM batch WHERE id > ? AND topic = ?{kept} ORDER BY id"
)
_SHAPE = "SELECT first_ms, last_ms, records, length(body) FROM batch WHERE id = ?"
_OTHERS = "SELECT count(*) FROM batch WHERE id > ? AND id < ?"
_NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'batch'"
_COUNT = "SELECT total(records), max(id) FROM batch WHERE id > ? AND topic = ?{kept}"
_KEPT = f" AND state = {KEPT}"


class FollowedRow(Struct, frozen=True, gc=False):
    """A row that was read; times are Unix milliseconds. `mark` goes with its number as a position."""

    id: int
    first_ms: int
    records: list[Fetched]
    mark: str


class FollowedFile:
    """
    The file at `path`, read from behind the row `position` on (None: from its beginning).

    `missed` is told how many rows were gone before they were read. `retention_s` is log.retention_s. With
    `kept_only`, rows that are for Kafka are left to it.
    """

    def __init__(
        self,
        path: Path,
        topic: str,
        position: int | None,
        mark: str,
        *,
        kept_only: bool,
        retention_s: float,
        now_s: Callable[[], float],
        missed: Callable[[int], None],
    ) -> None:
        self.name = path.stem
        #: the last stored row, as the store knows it
        self.position = position
        self.mark = mark
        #: records behind the position, as far as they were counted
        self.backlog = 0
        self._path = path
        self._topic = topic
        self._rows = _ROWS.format(kept=_KEPT if kept_only else "")
        self._count = _COUNT.format(kept=_KEPT if kept_only else "")
        self._retention_s = retention_s
        self._now_s = now_s
        self._missed = missed
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        #: where to read on: the position, unless it is one of another file
        self._at = position or 0
        self._counted_to = 0
        #: whether ids behind the position can be compared with it
        self._same = False

    def rows(self, records_max: int, bytes_max: int) -> list[FollowedRow]:
        """
        The next rows, in order, until they have `records_max` records or `bytes_max` bytes; one at least.

        Raises sqlite3.Error or OSError where the file can't be read now.
        """
        db = self._open()
        if db is None:
            return []
        found: list[FollowedRow] = []
        previous, comparable = self._at, self._same
        records = size = 0
        cursor = db.execute(self._rows, (previous, self._topic))
        try:
            for number, first_ms, last_ms, count, body, checksum in cursor:
                if comparable and number > previous + 1:
                    self._look_for_gap(db, previous, number, found[-1].mark if found else self.mark)
                mark = f"{self._inode}:{_shape(first_ms, last_ms, count, len(body))}"
                found.append(
                    FollowedRow(number, first_ms, self._records(number, last_ms, body, checksum), mark)
                )
                previous, comparable = number, True
                records += count
                size += len(body)
                if records >= records_max or size >= bytes_max:
                    break
        finally:
            # The read transaction ends with the cursor: it must not keep the writer from starting its WAL over.
            cursor.close()
        return found

    def stored(self, rows: list[FollowedRow]) -> None:
        """These rows are durable elsewhere: the position is behind the last of them."""
        for row in rows:
            if row.id <= self._counted_to:
                self.backlog = max(0, self.backlog - len(row.records))
        self.position = self._at = rows[-1].id
        self.mark, self._same = rows[-1].mark, True
        self._counted_to = max(self._counted_to, self._at)

    def count(self) -> None:
        """Bring `backlog` up to date. Raises as `rows`."""
        db = self._open()
        if db is None:
            return
        self._counted_to = max(self._counted_to, self._at)
        records, newest = db.execute(self._count, (self._counted_to, self._topic)).fetchone()
        if newest is not None:
            self.backlog += int(records)
            self._counted_to = newest

    def close(self) -> None:
        """Close the file; the next call that needs it opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # --- the file

    def _open(self) -> sqlite3.Connection | None:
        """The connection to the file that has our name now; None while there is none."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            self.close()
            return None
        if self._connection is not None and inode == self._inode:
            return self._connection
        self.close()
        connection = sqlite3.connect(
            f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
        try:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(batch)")}
            if "sum" not in columns:
                # A publisher is just making the file, or bringing one of an earlier version up.
                connection.close()
                return None
            self._inode = inode
            self._recognise(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.backlog, self._counted_to = 0, self._at
        return connection

    def _recognise(self, db: sqlite3.Connection) -> None:
        """Find out whether the position is one of this very file; else read it from its beginning, if need be."""
        self._at, self._same = self.position or 0, False
        if self.position is None:
            return
        inode, _, shape = self.mark.partition(":")
        there = db.execute(_SHAPE, (self.position,)).fetchone()
        newest = db.execute(_NEWEST).fetchone()
        if there is not None:
            self._same = _shape(*there) == shape
            restart = not self._same
        else:
            self._same = inode == str(self._inode)
            restart = newest is None or newest[0] < self.position
        if restart:
            log.warning("%s is another file than before: it is read from its beginning", self._path)
            self._at, self._same = 0, False
        elif not self._same:
            log.info("%s is a new file: it is read on behind row %d", self._path, self.position)

    def _look_for_gap(self, db: sqlite3.Connection, previous: int, number: int, mark: str) -> None:
        """Rows between two that follow each other: of other topics, drained to Kafka, or lost to us."""
        gone = number - previous - 1 - db.execute(_OTHERS, (previous, number)).fetchone()[0]
        last_ms = int(mark.split(":")[1].split(".")[1])
        # Retention takes no row that is younger; what is missing then had been for Kafka.
        if gone > 0 and self._retention_s > 0 and last_ms < (self._now_s() - self._retention_s) * 1000:
            self._missed(gone)
            log.error(
                "%d rows of %s were removed before they were read: the processor was away for longer than "
                "log.retention_s",
                gone,
                self._path,
            )

    def _records(self, number: int, last_ms: int, body: bytes, checksum: int | None) -> list[Fetched]:
        try:
            batches = read_row(self._topic, body, checksum)
        except DamagedRow as error:
            return [Fetched(self.name, 0, number * OFFSET_PLACES, body, last_ms, str(error))]
        return [
            Fetched(self.name, partition, number * OFFSET_PLACES + place, record.value, record.timestamp_ms)
            for place, (partition, record) in enumerate(
                (batch.partition, record) for batch in batches for record in batch.records
            )
        ]


def _shape(first_ms: int, last_ms: int, records: int, size: int) -> str:
    """What a row looks like from outside."""
    return f"{first_ms}.{last_ms}.{records}.{size}"
