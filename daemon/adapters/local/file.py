"""
One publisher's file: SQLite in WAL mode, where a commit returns after fsync (synchronous=FULL).

Every method blocks and belongs to one thread. Two processes may have the file open for a moment,
the old publisher of a slot and its successor: SQLite's own locks keep their commits apart, and row
ids only grow (AUTOINCREMENT), so a reader that follows by id misses nothing. They begin at the
Unix time in milliseconds at which the file was made: also in a file that takes the place of one that
was lost or moved aside, they are higher than any that a reader has seen.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.adapters.local import aside
from daemon.adapters.local.layout import (
    INSERT,
    LAYOUT,
    REFUSED,
    SPOOLED,
    Spooled,
    bring_up,
    create,
    oldest_ms,
    spooled,
    values,
)  # fmt: skip
from daemon.adapters.local.rows import Row

#: How long a commit waits for the other process of the slot, seconds.
BUSY_S = 5.0

#: Pages of WAL after which it is copied into the file. The default (1000) would do it several times a second.
CHECKPOINT_PAGES = 4000
#: Size to which the WAL is cut back after a burst.
WAL_BYTES_MAX = 64 * 1024 * 1024

#: Bytes that a row takes beside its body: its columns, the indexes, half a page at its end.
ROW_OVERHEAD_BYTES = 4096


class Full(Exception):
    """There is no room for more: the file's bound is reached, or the disk's headroom is."""


class LogFile:
    """The file at `path`; `bytes_max` bounds it, `headroom_bytes` stay free on its disk."""

    def __init__(self, path: Path, bytes_max: int, headroom_bytes: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._headroom_bytes = headroom_bytes
        self._connection: sqlite3.Connection | None = None
        self._guard_fd = -1

    def open(self) -> None:
        """Open the file, and make it if it is not there. Raises sqlite3.Error or OSError."""
        if self._connection is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._guard_fd = aside.guard(self.path)
        try:
            self._connection = self._opened()
        except BaseException:
            self._abandon()
            raise

    def _opened(self) -> sqlite3.Connection:
        size = self.path.stat().st_size if self.path.exists() else -1
        if size <= 0 and self._wal_bytes() > 0:
            # SQLite would throw the WAL away, and what was acknowledged last is nowhere else.
            error = sqlite3.DatabaseError("the file is empty or gone, but its WAL is there")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        if size < 0:
            # Before SQLite does, so that envelopes are for our eyes only whatever the umask is.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # First of all, or it does not take; pages of drained rows go back to the disk by it.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # Some builds overwrite what is deleted: every drained row would go through the WAL once more.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            if layout not in (0, LAYOUT):
                raise sqlite3.DatabaseError(
                    f"{self.path} has layout {layout}, which a newer Headgate wrote; this one knows {LAYOUT}"
                )
            if layout == 0:
                create(connection)
            else:
                bring_up(connection)
            # Each time: whoever made the file, or its folder, may have died before it could do this.
            for folder in self.path.parents[:2]:
                _sync_folder(folder)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the file; the next call that needs it opens it again."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._let_go()

    def move_aside(self) -> Path | None:
        """
        The file is no good: move it out of the way; the next call that needs it makes a new one.

        None: another process still has it open. Raises OSError.
        """
        self._abandon()
        return aside.move_aside(self.path)

    def restore(self, rows: Sequence[tuple[int, Row]], file: str, page: int) -> None:
        """
        Add salvaged rows (state, row) and remember that `file` was gone through up to `page`; raises as `write`.

        Together, so that a crash neither leaves rows out nor brings them twice.
        """
        self.check_room(sum(len(row.body) + ROW_OVERHEAD_BYTES for _, row in rows))
        db = self._db()
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, [values(state, row) for state, row in rows])
            db.execute("INSERT OR REPLACE INTO salvage (file, page) VALUES (?, ?)", (file, page))
            db.execute("COMMIT")
        except BaseException:
            self._abandon()
            raise

    def salvaged_up_to(self, file: str) -> int:
        """The page up to which `file` was gone through; 0 before the first."""
        found = self._db().execute("SELECT page FROM salvage WHERE file = ?", (file,)).fetchone()
        return int(found[0]) if found else 0

    def write(self, rows: Sequence[Row], state: int) -> None:
        """
        Make `rows` durable, all or none.

        Raises Full when there is no room, sqlite3.Error or OSError when the disk fails; the file is then
        closed, so that the next call starts clean.
        """
        incoming = sum(len(row.body) + ROW_OVERHEAD_BYTES for row in rows)
        self.check_room(incoming)
        self._change(INSERT, [values(state, row) for row in rows])

    def oldest(self, bytes_max: int) -> list[tuple[int, str, int, bytes, int | None]]:
        """The oldest spooled rows, at least one if there is one: (id, topic, records, body, checksum)."""
        found: list[tuple[int, str, int, bytes, int | None]] = []
        size = 0
        cursor = self._db().execute(
            "SELECT id, topic, records, body, sum FROM batch INDEXED BY batch_spooled WHERE state = 1 ORDER BY id"
        )
        try:
            for row in cursor:
                size += len(row[3])
                if found and size > bytes_max:
                    break
                found.append(row)
        finally:
            cursor.close()
        return found

    def remove(self, ids: Sequence[int]) -> None:
        """Kafka has these rows: they go, and their pages back to the disk."""
        tight = self._free_bytes() < self._headroom_bytes
        if tight:
            self._empty_wal()
        self._change("DELETE FROM batch WHERE id = ?", [(one,) for one in ids])
        self._shrink()
        if tight:
            self._empty_wal()

    def put_aside(self, ids: Sequence[int], state: int) -> None:
        """These rows can't go to Kafka (REFUSED, DAMAGED): they stay, out of the drain's way."""
        self._change("UPDATE batch SET state = ? WHERE id = ?", [(state, one) for one in ids])

    def retry_refused(self) -> None:
        """What Kafka has refused is tried again: its limit may have been raised."""
        self._change("UPDATE batch SET state = ? WHERE state = ?", [(SPOOLED, REFUSED)])

    def expire(self, before_ms: int, rows_max: int) -> int:
        """Remove up to `rows_max` kept rows whose newest record is older than `before_ms`; gives how many."""
        ids = self._db().execute(
            "SELECT id FROM batch INDEXED BY batch_time WHERE last_ms < ? AND state = 0 LIMIT ?", (before_ms, rows_max)
        ).fetchall()  # fmt: skip
        if ids:
            self.remove([one for (one,) in ids])
        return len(ids)

    def spooled(self) -> Spooled:
        """What is there for Kafka."""
        return spooled(self._db())

    def oldest_ms(self) -> int:
        """Receipt of the oldest record for Kafka, Unix milliseconds; 0: there is none."""
        return oldest_ms(self._db())

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        db = self._db()
        (page,) = db.execute("PRAGMA page_size").fetchone()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        return int(page * (pages - free))

    def remember_partitions(self, partitions: dict[str, int]) -> None:
        """Keep what Kafka said about its topics, for a start without Kafka."""
        self._change(
            "INSERT OR REPLACE INTO topic (name, partitions) VALUES (?, ?)", list(partitions.items())
        )

    def remembered_partitions(self) -> dict[str, int]:
        """What `remember_partitions` kept."""
        return dict(self._db().execute("SELECT name, partitions FROM topic").fetchall())

    def check_room(self, incoming: int = 0) -> None:
        """Raise Full when `incoming` bytes more don't fit; sqlite3.Error or OSError when the disk fails."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Twice: what is written stands in the WAL and in the file until the WAL starts over.
        needed = self._headroom_bytes + 2 * incoming
        free = self._free_bytes()
        if free < needed and self._wal_bytes() > 0:
            # The WAL and free pages are room that we hold without need.
            self._shrink()
            self._empty_wal()
            free = self._free_bytes()
        if free < needed:
            raise Full(f"the disk of {self.path.parent} has {free} bytes left: below log.headroom_bytes")
        used = self.used_bytes()
        if used + incoming > self._bytes_max:
            raise Full(f"{self.path} holds {used} bytes: log.bytes_max is reached")

    def try_write(self) -> None:
        """A commit that changes nothing; raises sqlite3.Error or OSError when the disk fails."""
        self._change(f"PRAGMA user_version = {LAYOUT}", None)

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize

    def _wal_bytes(self) -> int:
        """Bytes of the WAL; 0 when it was just emptied."""
        try:
            return aside.wal_of(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def _empty_wal(self) -> None:
        """On a full disk even a deletion needs room for its WAL: the headroom covers one emptying of it."""
        self._db().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _db(self) -> sqlite3.Connection:
        self.open()
        assert self._connection is not None
        return self._connection

    def _change(self, statement: str, values: Sequence[Sequence[Any]] | None) -> None:
        db = self._db()
        try:
            db.execute("BEGIN IMMEDIATE")
            if values is None:
                db.execute(statement)
            else:
                db.executemany(statement, values)
            db.execute("COMMIT")
        except BaseException:
            # After a failed write or fsync nothing that this connection holds in memory can be relied on.
            self._abandon()
            raise

    def _shrink(self) -> None:
        """Give free pages back, a bounded number at a time: 16 MiB with pages of 4 KiB."""
        db = self._db()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        if free > 256:
            # A script, because it goes on until the statement is done; execute() would free a single page.
            db.executescript("PRAGMA incremental_vacuum(4096);")

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                try:
                    if connection.in_transaction:
                        connection.rollback()
                except sqlite3.Error:
                    pass
                connection.close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._guard_fd >= 0:
            os.close(self._guard_fd)
            self._guard_fd = -1


def _sync_folder(folder: Path) -> None:
    """What stands in `folder` is durable by name too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
