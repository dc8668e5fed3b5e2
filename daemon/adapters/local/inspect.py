"""
Looking at a publisher's file from outside, without changing anything and without standing in the publisher's way.

Every look is one short transaction on a read-only connection, as a reader's: works beside a running instance and
without one. Every method blocks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from daemon.adapters.local import aside
from daemon.adapters.local.layout import DAMAGED, KEPT, REFUSED, SPOOLED
from daemon.adapters.local.places import DrainLock, file_of, folder_of, slots_on_disk
from daemon.adapters.local.rows import DamagedRow, read_row
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.ports import PartitionBatch

#: State as it stands in the file → as people read it.
STATES = {KEPT: "kept", SPOOLED: "waiting", REFUSED: "refused", DAMAGED: "damaged"}

#: Rows per look; with 512 KiB each they bound what is held.
ROWS_PER_LOOK = 32
BUSY_S = 5.0
#: Faults that SQLite's check of a file names before it stops.
FAULTS_MAX = 100

_COUNTS = "SELECT state, count(*), total(records), min(first_ms) FROM batch GROUP BY state"
_ROWS = """
    SELECT id, state, topic, first_ms, last_ms, records, body, {sum} FROM batch
    WHERE id > ? AND state IN ({states}) ORDER BY id LIMIT ?
"""


class SlotState(Struct, frozen=True):
    """What lies in one slot's file. Times are Unix milliseconds; `error` says why nothing else is known."""

    slot: int
    file: str
    #: whether a living publisher (or a `spool drain`) has the right to drain it
    in_hand: bool
    bytes: int
    waiting_records: int = 0
    oldest_ms: int = 0
    refused_rows: int = 0
    damaged_rows: int = 0
    kept_records: int = 0
    #: files that were moved aside as corrupt: still to be gone through, and done
    to_salvage: list[str] = []
    corrupt: list[str] = []
    error: str = ""


class StoredRow(Struct, frozen=True):
    """A row; `batches` is what it holds, or `fault` says why that is not known (`batches` may be there all the same)."""

    id: int
    state: int
    topic: str
    first_ms: int
    last_ms: int
    records: int
    batches: list[PartitionBatch]
    fault: str = ""
    #: whether it has a checksum at all: those of early versions had none
    checked: bool = True


def states(settings: Settings, slots: Sequence[int] = ()) -> list[SlotState]:
    """The state of every slot that has a file, or of `slots`."""
    return [_state(settings, slot) for slot in slots or slots_on_disk(folder_of(settings))]


def rows(path: Path, wanted: Sequence[int]) -> Iterator[StoredRow]:
    """The rows of `path` in the states `wanted`, oldest first. Raises LogUnavailable for a file that can't be read."""
    position = 0
    while True:
        found = _look(path, position, wanted)
        for number, state, topic, first_ms, last_ms, records, body, checksum in found:
            yield _row(number, state, topic, first_ms, last_ms, records, body, checksum)
            position = number
        if len(found) < ROWS_PER_LOOK:
            return


def faults(path: Path) -> list[str]:
    """What SQLite's own check of the whole file finds wrong. Raises LogUnavailable when it can't be opened at all."""
    try:
        with closing(_connect(path)) as db:
            said = [str(text) for (text,) in db.execute(f"PRAGMA integrity_check({FAULTS_MAX})")]
    except sqlite3.Error as error:
        return [str(error)]
    return [] if said == ["ok"] else said


def _state(settings: Settings, slot: int) -> SlotState:
    path = file_of(settings, slot)
    known = {
        "slot": slot,
        "file": str(path),
        "in_hand": _in_hand(path),
        "bytes": sum(one.stat().st_size for one in (path, aside.wal_of(path)) if one.exists()),
        "to_salvage": [str(one) for one in aside.to_salvage(path)],
        "corrupt": [str(one) for one in aside.corrupt(path)],
    }
    try:
        with closing(_connect(path)) as db:
            by_state = {state: rest for state, *rest in db.execute(_COUNTS)}
    except sqlite3.Error as error:
        if "no such table" in str(error):
            by_state = {}  # its publisher is just making it
        else:
            return SlotState(**known, error=str(error))  # type: ignore[arg-type]
    nothing = [0, 0, 0]
    return SlotState(
        **known,  # type: ignore[arg-type]
        waiting_records=int(by_state.get(SPOOLED, nothing)[1]),
        oldest_ms=int(by_state.get(SPOOLED, nothing)[2]),
        refused_rows=by_state.get(REFUSED, nothing)[0],
        damaged_rows=by_state.get(DAMAGED, nothing)[0],
        kept_records=int(by_state.get(KEPT, nothing)[1]),
    )


def _in_hand(path: Path) -> bool:
    if not path.with_suffix(".lock").exists():
        return False
    lock = DrainLock(path)
    try:
        return not lock.take()
    finally:
        lock.let_go()


def _look(
    path: Path, position: int, wanted: Sequence[int]
) -> list[tuple[int, int, str, int, int, int, bytes, int | None]]:
    marks = ", ".join("?" * len(wanted))
    try:
        with closing(_connect(path)) as db:
            has_sum = any(row[1] == "sum" for row in db.execute("PRAGMA table_info(batch)"))
            statement = _ROWS.format(sum="sum" if has_sum else "NULL", states=marks)
            return db.execute(statement, (position, *wanted, ROWS_PER_LOOK)).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []
        raise LogUnavailable(f"{path} can't be read: {error}") from error


def _row(
    number: int,
    state: int,
    topic: str,
    first_ms: int,
    last_ms: int,
    records: int,
    body: bytes,
    checksum: int | None,
) -> StoredRow:
    batches: list[PartitionBatch] = []
    fault = ""
    try:
        batches = read_row(topic, body, checksum)
        held = sum(len(batch.records) for batch in batches)
        if held != records:
            fault = f"it holds {held} records, and should hold {records}"
    except DamagedRow as error:
        fault = str(error)
        if checksum is not None:
            try:
                batches = read_row(topic, body, None)
            except DamagedRow:
                batches = []
    return StoredRow(number, state, topic, first_ms, last_ms, records, batches, fault, checksum is not None)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
