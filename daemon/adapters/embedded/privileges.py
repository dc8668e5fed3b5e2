"""
Who the embedded Postgres runs as.

An ordinary user: that user. Root, which Postgres refuses: an unprivileged user, with one capability if the way
to the files is closed to that user (a data folder below /root, say), because the alternative, opening up the
folders above it, is not ours to do.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from daemon.adapters.embedded.child import Identity
from daemon.errors import SettingsError

# linux/capability.h. The first reads and searches anything, the second also writes; containers often have only
# the second.
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

#: Tried in this order; the last resort is the kernel's overflow uid.
_USERS = ("headgate", "postgres", "nobody")
_OVERFLOW_ID = 65534


def identity_for(folder: Path, needed: Iterable[Path]) -> Identity | None:
    """
    Return who is to run a server on `folder` (which need not exist yet), or None for: as we are.

    `needed` are paths that the server has to reach. Raises SettingsError when `folder` is somebody else's and we
    are not root.
    """
    euid = os.geteuid()
    owner = folder.stat().st_uid if folder.exists() else None
    if euid != 0:
        if owner not in (None, euid):
            raise SettingsError(
                f"{folder} belongs to user {owner}, and this process is user {euid}: run it as that user or as root, "
                "or choose another data folder",
                "data_dir",
            )
        return None
    uid, gid = _ids(owner) if owner else _unprivileged()
    closed = not all(_reachable(path, uid, gid) for path in needed)
    return Identity(uid, gid, _capability() if closed else None)


def _unprivileged() -> tuple[int, int]:
    for name in _USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return found.pw_uid, found.pw_gid
    return _OVERFLOW_ID, _OVERFLOW_ID


def _ids(uid: int) -> tuple[int, int]:
    try:
        return uid, pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid, uid


def _reachable(path: Path, uid: int, gid: int) -> bool:
    """Say whether the user may search every folder on the way, and read and execute the end of it."""
    path = path.resolve()
    for step in (*reversed(path.parents), path):
        found = step.stat()
        wanted = stat.S_IXOTH if step != path or stat.S_ISDIR(found.st_mode) else stat.S_IXOTH | stat.S_IROTH
        if found.st_uid == uid:
            wanted <<= 6
        elif found.st_gid == gid:
            wanted <<= 3
        if found.st_mode & wanted != wanted:
            return False
    return True


def _capability() -> int | None:
    """Return the least capability that opens the way, of those that this process has."""
    held = 0
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if held >> cap & 1:
            return cap
    return None
