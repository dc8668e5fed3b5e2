"""
The embedded servers of one data folder together: started side by side, published, watched, stopped.

Used by `workers.embedded` for a running instance, and by the command line for the length of one command.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from daemon.adapters.embedded.child import trim_log
from daemon.adapters.embedded.postgres import PostgresServer, start_postgres
from daemon.adapters.embedded.rundir import run_dir_for
from daemon.adapters.embedded.running import Endpoints, remove_running, write_running
from daemon.adapters.embedded.valkey import ValkeyServer, start_valkey


class EmbeddedServers:
    """The servers that run; made by `start_embedded`."""

    def __init__(self, data_dir: Path, postgres: PostgresServer | None, valkey: ValkeyServer | None) -> None:
        self._data_dir = data_dir
        self._servers = [server for server in (postgres, valkey) if server is not None]
        self.endpoints = Endpoints(
            pid=os.getpid(),
            postgres_dsn=postgres.dsn if postgres is not None else "",
            redis_url=valkey.url if valkey is not None else "",
        )

    @property
    def names(self) -> list[str]:
        """What runs, for people: `PostgreSQL`, `Valkey`."""
        return [server.process.name for server in self._servers]

    def failures(self) -> list[str]:
        """Say which servers have ended by themselves, and how their logs end; empty while all is well."""
        return [
            f"{process.name} ended with code {process.exit_code()}; its log ends:\n{process.log_tail()}"
            for process in (server.process for server in self._servers)
            if process.exit_code() is not None
        ]

    def trim_logs(self) -> None:
        """Keep the servers' logs below their bound; to be called now and then."""
        for server in self._servers:
            trim_log(server.process.log_path)

    async def stop(self) -> None:
        """Withdraw what was published, then end the servers, side by side."""
        remove_running(self._data_dir, self.endpoints.pid)
        ended = await asyncio.gather(*(server.stop() for server in self._servers), return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome


async def start_embedded(
    data_dir: Path, *, postgres: bool, redis: bool, start_timeout_s: float = 60.0
) -> EmbeddedServers:
    """
    Start the servers that are wanted, and publish where they listen in `<data_dir>/run.json`.

    The caller holds the data folder (`lock_data_dir`), or is a child of the process that does; and it is in the
    main thread, with which the servers die. Raises StoreUnavailable or SettingsError, with nothing left running.
    """
    run_dir = run_dir_for(data_dir)
    starting = (
        asyncio.ensure_future(start_postgres(data_dir, run_dir, start_timeout_s=start_timeout_s))
        if postgres
        else None,
        asyncio.ensure_future(start_valkey(data_dir, run_dir, start_timeout_s=start_timeout_s))
        if redis
        else None,
    )
    tasks = [task for task in starting if task is not None]
    try:
        await asyncio.gather(*tasks)
        servers = EmbeddedServers(
            data_dir,
            starting[0].result() if starting[0] is not None else None,
            starting[1].result() if starting[1] is not None else None,
        )
        write_running(data_dir, servers.endpoints)
    except BaseException:
        await _abandon(tasks)
        raise
    return servers


async def _abandon(tasks: list[asyncio.Task[PostgresServer] | asyncio.Task[ValkeyServer]]) -> None:
    """End every server that has started or still would."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            await task.result().stop()
