"""
A server of ours as a child process: started through `exec_child`, locked, logged, stopped.

Each server holds an flock on `<data>/<name>.lock` through an inherited descriptor, so it is held exactly as long
as some process of that server lives, whatever killed its parent. That is what keeps a second server away from
the same files: pid files lie after a reboot or in a small pid namespace.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import StoreUnavailable

#: A server's log is set aside (one old copy) when it is longer than this at a start.
LOG_BYTES_MAX = 8 * 1024 * 1024

#: How often a start or a stop looks again; short against a start (0.3 s) and invisible as load.
POLL_S = 0.02

#: A predecessor, orphaned by a kill -9, gets this long to finish by itself before it is killed.
PREDECESSOR_GRACE_S = 8.0
PREDECESSOR_KILLED_S = 5.0

_EXEC_CHILD = Path(__file__).with_name("exec_child.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a server runs as: user, group, and one capability number to keep (or None)."""

    uid: int
    gid: int
    cap: int | None


@dataclass(slots=True)
class ServerProcess:
    """A running server. Not tied to an event loop: it may be started in one and stopped in another."""

    name: str
    log_path: Path
    _popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Return None while the server runs, else its exit code (negative: the signal)."""
        return self._popen.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server, unless it has ended."""
        self._popen.send_signal(number)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until the server has ended; False when it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self._popen.poll() is None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def stop(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        """Send each step's signal and wait that many seconds for the end; at last SIGKILL."""
        for number, timeout_s in (*steps, (signal.SIGKILL, 5.0)):
            if self._popen.poll() is not None:
                return
            self._popen.send_signal(number)
            if await self.wait(timeout_s):
                return
        raise StoreUnavailable(f"{self.name} (process {self.pid}) did not end, not even on SIGKILL")

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines of the server's log, for an error message."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                text = log.read().decode("utf-8", "replace")
        except OSError as error:
            return f"(its log cannot be read: {error})"
        return "\n".join(text.splitlines()[-lines:])


def open_log(path: Path) -> int:
    """Open a server's log for appending and return the descriptor; an overlong one is set aside first."""
    try:
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def trim_log(path: Path) -> bool:
    """
    Empty a running server's log when it has outgrown the bound; True when that happened.

    The server appends, so truncating under it is safe. To be called now and then by whoever runs the server.
    """
    try:
        if path.stat().st_size <= LOG_BYTES_MAX:
            return False
        os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


async def acquire_server_lock(path: Path, name: str, *, grace_s: float = PREDECESSOR_GRACE_S) -> int:
    """
    Take the lock that a server process is to inherit; return its descriptor.

    A predecessor that outlived its parent has already been told to end (parent-death signal): wait for it, then
    kill it. Raises StoreUnavailable when the lock stays held.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + grace_s
    killed = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    await asyncio.sleep(POLL_S)
                    continue
                if killed:
                    raise StoreUnavailable(
                        f"another {name} still uses {path.parent}: process {_holder(descriptor)}; end it and try again"
                    ) from None
                _kill_holder(descriptor)
                killed = True
                deadline = time.monotonic() + PREDECESSOR_KILLED_S
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def spawn(
    name: str,
    command: Sequence[str],
    *,
    log_path: Path,
    death_signal: signal.Signals,
    identity: Identity | None = None,
    lock: int | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
) -> ServerProcess:
    """
    Start `command` as a child that gets `death_signal` when the calling thread's process dies.

    To be called in the main thread: the kernel ties the parent-death signal to the thread that forked. The child
    has a session of its own, so a Ctrl-C meant for Headgate does not reach it before the processes that need it.
    `stdin`, at most a few KiB (it has to fit a pipe's buffer), is what the server reads as its standard input.
    """
    plan: dict[str, int] = {"parent": os.getpid(), "death_signal": int(death_signal)}
    if identity is not None:
        plan |= {"uid": identity.uid, "gid": identity.gid}
        if identity.cap is not None:
            plan["cap"] = identity.cap
    log = open_log(log_path)
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_EXEC_CHILD), json.dumps(plan), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=cwd,
            # Nothing of the caller's environment: PGDATA and the like would reach into the server.
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(cwd or "/")},
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
        )
    finally:
        os.close(log)
    if popen.stdin is not None:
        with popen.stdin as pipe:
            pipe.write(stdin)
    if lock is not None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{popen.pid}\n".encode(), 0)
    return ServerProcess(name, log_path, popen)


def _holder(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).split()
    return int(text[0]) if text and text[0].isdigit() else 0


def _kill_holder(descriptor: int) -> None:
    """Kill the recorded holder, if its process still has this very lock file open."""
    pid = _holder(descriptor)
    ours = os.fstat(descriptor)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                theirs = entry.stat()
            except OSError:
                continue
            if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
                os.kill(pid, signal.SIGKILL)
                return
    except OSError:
        return
