"""
A file that SQLite can't read any more is moved aside, so that its slot begins a new one at once.

    publisher-0.db                          the file in use
    publisher-0.db.salvage-<time>[-wal]     was moved aside; its good rows are on their way into the file in use
    publisher-0.db.corrupt-<time>[-wal]     the same once that is done: kept for an operator, read by nobody

Two processes may have a slot's file open for a moment. What one of them wrote after the other had moved the
file would be lost, so whoever writes holds a shared lock (`publisher-0.open`), and moving takes it exclusively.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from daemon.adapters.local.places import open_lock

SALVAGE, CORRUPT = ".salvage-", ".corrupt-"

#: How long opening waits for one who is just moving the file: three renames.
GUARD_S = 5.0
#: Files of one name that lie aside. A disk that spoils every file must not be filled with them.
FILES_MAX = 50
_LOOK_S = 0.002


def guard(path: Path) -> int:
    """
    Hold the shared lock of the file at `path` and give its descriptor; closing that lets go.

    Raises OSError.
    """
    descriptor = open_lock(path, ".open")
    deadline = time.monotonic() + GUARD_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
            time.sleep(_LOOK_S)
        except OSError:
            os.close(descriptor)
            raise
        else:
            return descriptor


def move_aside(path: Path) -> Path | None:
    """
    Move the file at `path`, which nobody may have open in this process; gives where it is now.

    None: another process has it open still, and has to find out by itself that it is of no use.
    Raises OSError.
    """
    descriptor = open_lock(path, ".open")
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if len(to_salvage(path)) + len(corrupt(path)) >= FILES_MAX:
            raise OSError(
                f"{FILES_MAX} corrupt files of {path.name} lie aside already: look at the disk, then remove them"
            )
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target, number = path.with_name(f"{path.name}{SALVAGE}{stamp}"), 0
        while target.exists() or wal_of(target).exists():
            number += 1
            target = path.with_name(f"{path.name}{SALVAGE}{stamp}-{number}")
        # The WAL first: SQLite would throw away one that stands beside no file.
        for old, new in ((wal_of(path), wal_of(target)), (path, target)):
            if old.exists():
                old.rename(new)
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        _sync(path.parent)
        return target
    finally:
        os.close(descriptor)


def to_salvage(path: Path) -> list[Path]:
    """The files of this name that were moved aside and whose rows are not all in the file in use yet."""
    prefix = path.name + SALVAGE
    found = {
        entry.with_name(entry.name.removesuffix("-wal"))
        for entry in path.parent.glob(f"{prefix}*")
        if not entry.name.endswith("-shm")
    }
    return sorted(found)


def corrupt(path: Path) -> list[Path]:
    """The files of this name that were moved aside and have been gone through."""
    return sorted(
        entry for entry in path.parent.glob(f"{path.name}{CORRUPT}*") if not entry.name.endswith("-wal")
    )


def claim(aside: Path) -> int | None:
    """Lock a file that is to be salvaged, for this process alone; None when another one is at it, or it is gone."""
    try:
        descriptor = os.open(aside if aside.exists() else wal_of(aside), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def finish(aside: Path) -> Path:
    """All that can be had of the file is in the file in use: give it its last name. Raises OSError."""
    final = aside.with_name(aside.name.replace(SALVAGE, CORRUPT, 1))
    if aside.exists():
        aside.rename(final)
    if wal_of(aside).exists():
        wal_of(aside).rename(wal_of(final))
    _sync(aside.parent)
    return final


def wal_of(path: Path) -> Path:
    """The write-ahead log that belongs to a file."""
    return path.with_name(path.name + "-wal")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
