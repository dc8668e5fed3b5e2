"""
Who runs on a data folder: the lock that only one `headgate run` holds, and where its embedded servers listen.

Standard library only; used by the supervisor, the command line and `workers.embedded`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.errors import AlreadyRunning, SettingsError

#: A server on this machine that does not answer within this is hung or gone.
PROBE_TIMEOUT_S = 2.0

_RUN_FILE = "run.json"
_LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """
    Where embedded servers listen: the pid of the process that runs them, and their addresses.

    An address is empty when the settings name another server in its place.
    """

    pid: int
    postgres_dsn: str
    redis_url: str


class DataDirLock:
    """The exclusive right to a data folder, held until `release` (or the end of the process)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the folder free; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_data_dir(data_dir: Path) -> DataDirLock:
    """
    Take a data folder for this process, making it (mode 0700) if it is missing.

    Not inherited by child processes. Raises AlreadyRunning when another process has it, SettingsError when the
    folder cannot be made or written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the data folder {data_dir} cannot be used: {error.strerror or error}; "
            "set HEADGATE_DATA_DIR to a folder that this user can write",
            "data_dir",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise AlreadyRunning(
            f"the data folder {data_dir} is in use by process {holder}; stop that one first, or run this one with "
            "another folder and other ports (HEADGATE_DATA_DIR, HEADGATE_INGEST_PORT, HEADGATE_ADMIN_PORT)"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return DataDirLock(descriptor)


def write_running(data_dir: Path, endpoints: Endpoints) -> None:
    """Publish where the servers of `data_dir` listen (mode 0600, replaced in one step)."""
    target = data_dir / _RUN_FILE
    draft = data_dir / f".{_RUN_FILE}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(endpoints), file)
    draft.replace(target)


def remove_running(data_dir: Path, pid: int) -> None:
    """Withdraw what `write_running` published, unless another process has published since."""
    found = _read(data_dir)
    if found is not None and found.pid == pid:
        with contextlib.suppress(FileNotFoundError):
            (data_dir / _RUN_FILE).unlink()


def find_running(data_dir: Path, *, redis_answers: bool = True) -> Endpoints | None:
    """
    Return where the embedded servers of `data_dir` listen, or None when they don't run.

    What the file says is proved by connecting: Postgres has to accept the user and the database, Valkey (unless
    `redis_answers` is False: then it may hang) has to answer a PING. Blocks for at most a few seconds.
    """
    found = _read(data_dir)
    if found is None:
        return None
    if found.postgres_dsn and not _postgres_answers(found.postgres_dsn):
        return None
    if redis_answers and found.redis_url and not _redis_answers(found.redis_url):
        return None
    return found


def _read(data_dir: Path) -> Endpoints | None:
    try:
        parsed = json.loads((data_dir / _RUN_FILE).read_text(encoding="utf-8"))
        return Endpoints(int(parsed["pid"]), str(parsed["postgres_dsn"]), str(parsed["redis_url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _postgres_answers(dsn: str) -> bool:
    """Open a session as far as AuthenticationOk (PostgreSQL protocol 3.0, message 'R'); an error is 'E'."""
    parts = urllib.parse.urlsplit(dsn)
    query = urllib.parse.parse_qs(parts.query)
    folder, port = query.get("host", [""])[0], query.get("port", ["5432"])[0]
    fields = ("user", parts.username or "", "database", parts.path.lstrip("/"))
    body = struct.pack("!i", 196608) + b"".join(field.encode() + b"\0" for field in fields) + b"\0"
    question = struct.pack("!i", len(body) + 4) + body
    answer = _ask(f"{folder}/.s.PGSQL.{port}", question, 9, goodbye=b"X" + struct.pack("!i", 4))
    return answer == b"R" + struct.pack("!ii", 8, 0)


def _redis_answers(url: str) -> bool:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return _ask(path, b"*1\r\n$4\r\nPING\r\n", 7) == b"+PONG\r\n"


def _ask(path: str, question: bytes, answer_bytes: int, goodbye: bytes = b"") -> bytes:
    """
    Send `question` to a Unix socket and return the first bytes of the answer; empty on any failure.

    With `goodbye`, that is sent afterwards and the rest is read until the server hangs up: Postgres logs a reset
    connection otherwise.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.connect(path)
            connection.sendall(question)
            while len(answer) < answer_bytes:
                part = connection.recv(answer_bytes - len(answer))
                if not part:
                    break
                answer += part
            if goodbye:
                connection.sendall(goodbye)
                while connection.recv(4096):
                    pass
    except OSError:
        return b""
    return answer
