"""
The process that runs Postgres and Valkey as its children, when the settings name no servers of one's own.

    python -m workers.embedded          (started by the supervisor, as the role `embedded`)

It serves nobody itself: the others connect to the servers' Unix sockets, whose addresses follow from the data
folder. When a server ends by itself this process fails with it, so that the supervisor starts both anew; when this
process is killed, the kernel ends the servers (parent-death signal).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from daemon.actors.messages import Beat
from daemon.actors.process import ChildContext, run_child
from daemon.adapters.embedded.servers import EmbeddedServers, start_embedded
from daemon.errors import StoreUnavailable

#: How soon the end of a server is noticed; its clients see the broken connection earlier, and retry.
WATCH_S = 0.1
#: How often the servers' logs are measured.
LOGS_S = 60.0


async def work(ctx: ChildContext) -> None:
    """Start the servers that the settings leave to us, watch them, and stop them when asked to drain."""
    settings = ctx.settings
    servers = await start_embedded(
        Path(settings.data_dir),
        postgres=not settings.postgres.dsn,
        redis=not settings.redis.url,
        start_timeout_s=settings.supervisor.start_timeout_s,
    )
    try:
        ctx.health = lambda: _health(servers)
        ctx.ready(", ".join(servers.names))
        watch = asyncio.create_task(_watch(servers))
        drain = asyncio.create_task(ctx.drain_requested())
        try:
            done, _ = await asyncio.wait({watch, drain}, return_when=asyncio.FIRST_COMPLETED)
            if watch in done:
                watch.result()
        finally:
            watch.cancel()
            drain.cancel()
    finally:
        await servers.stop()


def _health(servers: EmbeddedServers) -> Beat:
    failures = servers.failures()
    return Beat(queue=0, serving=not failures, reasons=[text.splitlines()[0] for text in failures])


async def _watch(servers: EmbeddedServers) -> None:
    """Return never; raise StoreUnavailable when a server has ended."""
    trimmed = time.monotonic()
    while True:
        await asyncio.sleep(WATCH_S)
        failures = servers.failures()
        if failures:
            raise StoreUnavailable("\n".join(failures))
        if time.monotonic() - trimmed >= LOGS_S:
            trimmed = time.monotonic()
            servers.trim_logs()


def main() -> None:
    """Run as a child of the supervisor."""
    run_child(work)


if __name__ == "__main__":
    main()
