"""
The layout of a publisher's file: its tables, what their columns mean, and what files of earlier versions lack.

Versions may share a file while a new one takes over: what is added must not stand in the way of those before.
"""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

from daemon.adapters.local.rows import Row

#: What a row is for. KEPT: this is the whole log. SPOOLED: Kafka has not got it yet. REFUSED: Kafka never will.
#: DAMAGED: it is not what was written, and stays for an operator.
KEPT, SPOOLED, REFUSED, DAMAGED = 0, 1, 2, 3

#: Layout of the file (PRAGMA user_version).
LAYOUT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    state    INTEGER NOT NULL,
    topic    TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    records  INTEGER NOT NULL,
    body     BLOB NOT NULL,
    sum      INTEGER
);
CREATE INDEX IF NOT EXISTS batch_time ON batch (last_ms);
CREATE INDEX IF NOT EXISTS batch_spooled ON batch (id, records) WHERE state = 1;
CREATE TABLE IF NOT EXISTS topic (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID;
"""

#: What came later; files of before get it when they are opened, and versions of before take no harm from it.
_ADDED = """
CREATE INDEX IF NOT EXISTS batch_aside ON batch (state, records) WHERE state >= 2;
CREATE TABLE IF NOT EXISTS salvage (file TEXT PRIMARY KEY, page INTEGER NOT NULL) WITHOUT ROWID;
"""

#: SQLite's primary codes for a file that is none, or not whole.
_CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Spooled(NamedTuple):
    """What a file holds for Kafka, and what lies there because it can't go."""

    records: int
    #: receipt of the oldest record, Unix milliseconds; 0: none
    oldest_ms: int
    #: rows that Kafka takes at no price, and rows that are damaged
    refused_rows: int
    damaged_rows: int


def is_corrupt(error: Exception) -> bool:
    """Whether `error` says that the file itself is no good, and not that it could not be used now."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and code is not None and code & 0xFF in _CORRUPT_CODES


def spooled(db: sqlite3.Connection) -> Spooled:
    """What the file of this connection holds for Kafka."""
    (records,) = db.execute("SELECT total(records) FROM batch WHERE state = 1").fetchone()
    aside_rows = dict(
        db.execute("SELECT state, count(*) FROM batch WHERE state >= 2 GROUP BY state").fetchall()
    )
    return Spooled(int(records), oldest_ms(db), aside_rows.get(REFUSED, 0), aside_rows.get(DAMAGED, 0))


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, unless the slot's other process just did. Ids begin at the present time."""
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {_ADDED} PRAGMA user_version = {LAYOUT};")
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'batch', ?"
        " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'batch')",
        (int(time.time() * 1000),),
    )
    connection.execute("COMMIT")


def oldest_ms(db: sqlite3.Connection) -> int:
    """Receipt of the oldest record for Kafka, Unix milliseconds; 0: there is none."""
    found = db.execute(
        "SELECT first_ms FROM batch INDEXED BY batch_spooled WHERE state = 1 ORDER BY id LIMIT 1"
    ).fetchone()
    return int(found[0]) if found else 0


def bring_up(connection: sqlite3.Connection) -> None:
    """Add what a file of an earlier version lacks."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(batch)")}
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    if "sum" in columns and {"batch_aside", "salvage"} <= names:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Again, as the slot's other process may have been faster.
        if "sum" not in {row[1] for row in connection.execute("PRAGMA table_info(batch)")}:
            connection.execute("ALTER TABLE batch ADD COLUMN sum INTEGER")
        for statement in filter(str.strip, _ADDED.split(";")):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


INSERT = (
    "INSERT INTO batch (state, topic, first_ms, last_ms, records, body, sum) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def values(state: int, row: Row) -> tuple[object, ...]:
    """The parameters of INSERT."""
    return (state, row.topic, row.first_ms, row.last_ms, row.records, row.body, row.checksum)
