"""
A process that starts the embedded servers and waits: python -m tests.servers.embedded_parent <data folder>

Prints `{"pids": […], "dsn": …, "url": …}` once they are up; a line on its standard input (or its end) stops it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from daemon.adapters.embedded.servers import start_embedded


async def main(data_dir: Path) -> None:
    servers = await start_embedded(data_dir, postgres=True, redis=True)
    pids = [server.pid for server in servers._servers]
    endpoints = servers.endpoints
    print(json.dumps({"pids": pids, "dsn": endpoints.postgres_dsn, "url": endpoints.redis_url}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await servers.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
