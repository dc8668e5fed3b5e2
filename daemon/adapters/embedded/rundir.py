"""
The folder for Unix sockets that belongs to a data folder.

A socket's path is limited to 107 bytes, a data folder's is not: so the sockets live in the data folder when its
path is short enough, and elsewhere when not. Standard library only; used by every process.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import urllib.parse
from pathlib import Path

from daemon.errors import SettingsError

#: sockaddr_un.sun_path holds 108 bytes, the last one a zero (unix(7)).
SOCKET_PATH_BYTES_MAX = 107

#: Room for the names of sockets below the run folder; "/pg/.s.PGSQL.5432" is the longest one fixed by others.
SOCKET_NAME_BYTES_MAX = 32

#: Characters that some client or server reads as syntax in the path of a socket: Postgres clients take a comma
#: for a list of hosts, configuration files mind quotes and line ends.
UNSAFE = re.compile(r"""[,"'\\\x00-\x1f\x7f\ud800-\udfff]""")


#: Inside the run folder, a folder of its own: it belongs to the server's user when that is another one.
POSTGRES_FOLDER = "pg"
POSTGRES_PORT = 5432
POSTGRES_USER = "headgate"
POSTGRES_DATABASE = "headgate"
VALKEY_SOCKET = "valkey.sock"


def postgres_dsn(run_dir: Path) -> str:
    """Return the DSN of the embedded Postgres that listens in `run_dir`, whether it runs yet or not."""
    host = urllib.parse.quote(os.fsencode(run_dir / POSTGRES_FOLDER), safe="")
    return f"postgresql://{POSTGRES_USER}@/{POSTGRES_DATABASE}?host={host}&port={POSTGRES_PORT}"


def redis_url(run_dir: Path) -> str:
    """Return the URL of the embedded Valkey that listens in `run_dir`, whether it runs yet or not."""
    return f"unix://{urllib.parse.quote(os.fsencode(run_dir / VALKEY_SOCKET))}"


def run_dir_for(data_dir: Path) -> Path:
    """
    Return the run folder of `data_dir`, made with mode 0700 if it was missing.

    `$RUNTIME_DIRECTORY/<hash>` under systemd, else `<data>/run` if that is short and plain enough, else
    `/tmp/headgate-<uid>-<hash>`. The same data folder gets the same answer in every process with the same
    environment. Raises SettingsError when the folder is somebody else's or cannot be made.
    """
    data_dir = data_dir.resolve()
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    candidates = [data_dir / "run", Path("/tmp") / f"headgate-{os.geteuid()}-{digest}"]  # noqa: S108  checked below
    # systemd separates several folders by colons; the first is the unit's own.
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":", 1)[0]
    if runtime.startswith("/"):
        candidates.insert(0, Path(runtime) / digest[:8])
    for path in candidates:
        if (
            UNSAFE.search(str(path)) is None
            and len(os.fsencode(path)) + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX
        ):
            return _own(path)
    raise SettingsError(f"no folder for sockets of {data_dir} has a path short enough", "data_dir")


def _own(path: Path) -> Path:
    """Make `path` if needed, and be sure that it is a folder of ours that nobody else can enter."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        # In /tmp anybody could have made it first, as a link to elsewhere or with open permissions.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise SettingsError(
                f"{path} belongs to user {found.st_uid} or is no folder; remove it, or choose another data folder",
                "data_dir",
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        raise SettingsError(
            f"the folder for sockets, {path}, cannot be made: {error.strerror or error}", "data_dir"
        ) from error
    return path
