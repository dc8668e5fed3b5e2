"""
A dummy frontend: a small HTTP server on the inherited listener that counts as the real one does.

    GET /          its pid and settings
    GET /hold      received, never ended
    GET /freeze    blocks the loop for good
    GET /seize     blocks the whole interpreter for good
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time

from daemon.actors.process import ChildContext, run_child
from daemon.events.outcome import Outcome
from daemon.observe.catalog import IngestMetrics
from tests.support.crew.behaviour import Behaviour


async def work(ctx: ChildContext) -> None:
    behaviour = Behaviour(ctx)
    metrics = IngestMetrics(Outcome)
    ctx.instruments.add(*metrics.instruments())
    await behaviour.begin()
    about = json.dumps(
        {
            "pid": os.getpid(),
            "slot": ctx.slot,
            "dsn": ctx.settings.postgres.dsn,
            "rate_per_s": ctx.settings.limits.rate_per_s,
            "counts": ctx.counts,
            "queue_paths": ctx.queue_paths,
        }
    ).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0]
                metrics.received.at().n += 1
                if b"/hold" in line:
                    await asyncio.sleep(3600)
                if b"/freeze" in line:
                    time.sleep(3600)
                if b"/seize" in line:
                    re.match(r"(a|aa)+$", "a" * 200 + "b")
                last = ctx.draining
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(about)}\r\n{'Connection: close' if last else 'X: y'}\r\n\r\n"
                writer.write(head.encode() + about)
                await writer.drain()
                metrics.outcomes.at(Outcome.ACCEPTED).n += 1
                if last:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = socket.socket(fileno=ctx.listen_fd)
    server = await asyncio.start_server(serve, sock=listener, backlog=ctx.settings.server.backlog)

    async def stop_accepting() -> None:
        await ctx.drain_requested()
        await asyncio.sleep(ctx.settings.server.drain_window_s)
        server.close()

    stopper = asyncio.create_task(stop_accepting())
    await behaviour.until_drain()
    await stopper


if __name__ == "__main__":
    run_child(work)
