"""
The embedded servers as one command needs them: those of the running instance, or its own for its own length.

Who may start servers on a data folder is decided by the folder's lock alone. A command that holds it writes so
into the lock file, beside its pid: a second command, or `headgate run`, then waits for it instead of giving up,
and nobody uses servers that a command is about to stop.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from daemon.adapters.embedded.rundir import postgres_dsn, redis_url, run_dir_for
from daemon.adapters.embedded.running import DataDirLock, Endpoints, find_running, lock_data_dir
from daemon.config.schema import Settings
from daemon.errors import AlreadyRunning, Unavailable

#: A first start (initdb on a slow disk) of the one that is waited for, with some room.
WAIT_S = 60.0
POLL_S = 0.05

#: What stands behind the pid in the lock file while a command, not an instance, holds the data folder.
COMMAND_MARK = "(a headgate command)"


def with_embedded_addresses(settings: Settings) -> Settings:
    """
    Fill in the addresses of the embedded servers where the settings name no others.

    The addresses follow from the data folder, whether the servers run yet or not. Makes the run folder.
    """
    if settings.postgres.dsn and settings.redis.url:
        return settings
    run_dir = run_dir_for(Path(settings.data_dir))
    return _at(settings, postgres_dsn(run_dir), redis_url(run_dir))


def _at(settings: Settings, dsn: str, url: str) -> Settings:
    """Put in the embedded servers' addresses, where the settings name no others."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        postgres=replace(settings.postgres, dsn=settings.postgres.dsn or dsn),
        redis=replace(settings.redis, url=settings.redis.url or url),
    )


def holder(data_dir: Path) -> tuple[int, bool]:
    """
    Who holds (or held last) the lock of `data_dir`: its pid (0: nobody ever), and whether that is a command.

    Only worth reading after the lock was refused.
    """
    try:
        text = (data_dir / "lock").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return 0, False
    pid, _, mark = text.partition(" ")
    return int(pid) if pid.isdigit() else 0, mark == COMMAND_MARK


def lock_for_command(data_dir: Path) -> DataDirLock:
    """Take the data folder for a command. Raises like `lock_data_dir`."""
    lock = lock_data_dir(data_dir)
    with (data_dir / "lock").open("r+", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {COMMAND_MARK}\n")
    return lock


def lock_for_instance(data_dir: Path, on_wait: Callable[[int], None], wait_s: float = WAIT_S) -> DataDirLock:
    """
    Take the data folder for `headgate run`; a command that holds it is waited for, and `on_wait` told its pid.

    Blocks. Raises AlreadyRunning at once when another instance holds it, SettingsError when it can't be used.
    """
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            return lock_data_dir(data_dir)
        except AlreadyRunning:
            pid, is_command = holder(data_dir)
            if not is_command or time.monotonic() >= deadline:
                raise
            if not told:
                told = True
                on_wait(pid)
            time.sleep(POLL_S)


@asynccontextmanager
async def embedded_session(
    settings: Settings, *, postgres: bool, redis: bool, redis_answers: bool = True, wait_s: float = WAIT_S
) -> AsyncIterator[Settings]:
    """
    Settings that name servers that answer, for the length of the `async with`.

    `postgres` and `redis` say what is needed; with `redis_answers=False` an instance whose Redis hangs will do. What the settings name is taken as it is; for the rest the running
    instance's servers are found through the data folder, or started here and stopped at the end. To be entered
    in the main thread, with which the servers die. Raises Unavailable when the data folder's holder does not
    get ready within `wait_s`, and what `start_embedded` raises.
    """
    postgres = postgres and not settings.postgres.dsn
    redis = redis and not settings.redis.url
    if not postgres and not redis:
        yield settings
        return
    data_dir = Path(settings.data_dir)
    lock = await _lock_or_running(
        data_dir, postgres=postgres, redis=redis, redis_answers=redis_answers, wait_s=wait_s
    )
    if isinstance(lock, Endpoints):
        # Where they said they are: a service's run folder depends on its environment, which is not ours.
        yield _at(settings, lock.postgres_dsn, lock.redis_url)
        return
    from daemon.adapters.embedded.servers import start_embedded

    with lock:
        servers = await start_embedded(data_dir, postgres=postgres, redis=redis)
        try:
            yield _at(settings, servers.endpoints.postgres_dsn, servers.endpoints.redis_url)
        finally:
            await servers.stop()


async def _lock_or_running(
    data_dir: Path, *, postgres: bool, redis: bool, redis_answers: bool, wait_s: float
) -> DataDirLock | Endpoints:
    """Return the lock, taken for a command, or where a running instance's servers answer."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return lock_for_command(data_dir)
        except AlreadyRunning:
            pid, is_command = holder(data_dir)
            if not is_command:
                found = await asyncio.to_thread(find_running, data_dir, redis_answers=redis_answers)
                if (
                    found is not None
                    and (found.postgres_dsn or not postgres)
                    and (found.redis_url or not redis)
                ):
                    return found
            if time.monotonic() >= deadline:
                who = f"process {pid}" if is_command else f"the running instance (process {pid})"
                raise Unavailable(
                    f"{who} holds {data_dir}, but its database did not answer within {wait_s:g} s; "
                    "look at its log, and at `headgate slots`"
                ) from None
            await asyncio.sleep(POLL_S)
