"""Where the publishers' files are, and which process may drain one."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from daemon.config.schema import Settings

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


def open_lock(path: Path, suffix: str) -> int:
    """
    Open the lock file `suffix` of the file at `path`, and make it if it is not there. Raises OSError.

    Made by root it belongs to the owner of the file, as SQLite does with its own: the publisher has to open it too.
    """
    descriptor = os.open(path.with_suffix(suffix), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0 and path.exists():
            owner = path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class DrainLock:
    """
    The right to drain the file at `path`; the kernel takes it back when the process ends.

    A living publisher holds its own file's for good, so whoever gets another slot's knows that nobody works there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor >= 0

    def take(self) -> bool:
        """Take it if nobody has it; whether it is held now."""
        if self.held:
            return True
        try:
            descriptor = open_lock(self._path, ".lock")
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def let_go(self) -> None:
        """Give it back."""
        if self.held:
            os.close(self._descriptor)
            self._descriptor = -1
