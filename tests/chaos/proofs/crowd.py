"""A thousand idle connections and hundreds of callers who send a byte a second: normal callers must not notice."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from typing import Any, Self

from tests.chaos.proofs.common import Memory, instance, p99_ms, say
from tests.chaos.report import Check
from tests.support.load import Load
from tests.support.product import Source
from tests.support.wire import request

PER_S = 300.0
P99_RATIO_MAX = 2.0
#: Below this a p99 is noise: the ratio is taken of no less.
P99_FLOOR_MS = 5.0


def crowd(seconds: float, idle: int, slow: int) -> tuple[list[Check], dict[str, Any]]:
    """Normal callers for `seconds` alone, then as long beside `idle` idle and `slow` slow ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, hard), hard))
    try:
        with instance() as product:
            source = product.create_source()
            with (
                Memory(product) as memory,
                Load(product.ingest_port, source, connections=32, per_s=PER_S) as load,
            ):
                load.wait(200)
                alone_at = time.monotonic()
                time.sleep(seconds)
                say(f"alone: p99 {p99_ms(load, alone_at, time.monotonic()):.1f} ms")
                with Crowd(product.ingest_port, source, idle, slow) as others:
                    joined_at = time.monotonic()
                    time.sleep(seconds)
                    left_at = time.monotonic()
            acked = load.acked.keys()
            lost = acked - set(product.message_ids())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    quiet_ms, crowd_ms = p99_ms(load, alone_at, joined_at), p99_ms(load, joined_at, left_at)
    ratio = crowd_ms / max(quiet_ms, P99_FLOOR_MS)
    checks = [
        Check("idle connections that stood", f"{idle}", f"{others.idle_alive}", others.idle_alive >= idle),
        Check("slow callers at a time", f"{slow}", f"{others.slow_most}", others.slow_most >= slow),
        Check("failed requests of normal callers", "0", f"{len(load.failures)} of {len(load.answers)}", not load.failures),
        Check("answers but 200", "0", f"{sorted(set(load.statuses) - {200})}", set(load.statuses) == {200}),
        Check("acknowledged ids that are lost", "0", f"{len(lost)}", not lost),
        Check("p99 beside the crowd", f"≤ {P99_RATIO_MAX:g} × alone ({quiet_ms:.1f} ms)", f"{crowd_ms:.1f} ms, {ratio:.2f} ×",
              ratio <= P99_RATIO_MAX),
    ]  # fmt: skip
    return checks, {
        "requests": len(load.answers), "p99_ms": {"alone": quiet_ms, "crowd": crowd_ms},
        "slow_answers": dict(others.slow_answers),
        "memory_mib": {"alone": memory.most_mib(alone_at, joined_at), "crowd": memory.most_mib(joined_at, left_at)},
    }  # fmt: skip


class Crowd:
    """Connections in a thread of their own; those that are closed come again, as such callers do."""

    def __init__(self, port: int, source: Source, idle: int, slow: int) -> None:
        self._port = port
        self._idle, self._slow = idle, slow
        self._whole = request("POST", "/v1/t", source.headers, b'{"type":"track","event":"Idle"}')
        self._large = request(
            "POST",
            "/v1/t",
            source.headers,
            b'{"type":"track","event":"Slow","properties":{"a":"' + b"x" * 4000 + b'"}}',
        )
        self._stop = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._main, name="crowd", daemon=True)
        self.idle_alive = 0
        self.slow_most = 0
        self.slow_answers: dict[str, int] = {}
        self._slow_now = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait(60.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _main(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._slow):
                group.create_task(self._trickle(number))
            for _ in range(self._idle):
                group.create_task(self._rest())
            while not self._stop.is_set():
                await asyncio.sleep(0.2)
                if self.idle_alive >= self._idle and self._slow_now >= self._slow:
                    self._up.set()

    async def _rest(self) -> None:
        """One request now and then, so that the connection is one of keep-alive, and idle between."""
        counted = False
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            try:
                while not self._stop.is_set():
                    writer.write(self._whole)
                    if not await reader.readuntil(b"}"):
                        break
                    if not counted:
                        counted = True
                        self.idle_alive += 1
                    # Shorter than the time after which an idle connection is closed.
                    for _ in range(35):
                        if self._stop.is_set():
                            break
                        await asyncio.sleep(0.2)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

    async def _trickle(self, number: int) -> None:
        """The head at once, then the body a byte a second, until the gateway has had enough."""
        await asyncio.sleep(number / max(1, self._slow))
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            self._slow_now += 1
            self.slow_most = max(self.slow_most, self._slow_now)
            try:
                head = self._large.index(b"\r\n\r\n") + 4
                writer.write(self._large[:head])
                answered = asyncio.ensure_future(reader.read(12))
                for at in range(head, len(self._large)):
                    writer.write(self._large[at : at + 1])
                    await asyncio.wait({answered}, timeout=1.0)
                    if answered.done() or self._stop.is_set():
                        break
                status = (await answered)[9:12].decode() if answered.done() else "open"
                self.slow_answers[status] = self.slow_answers.get(status, 0) + 1
                answered.cancel()
            except OSError:
                self.slow_answers["closed"] = self.slow_answers.get("closed", 0) + 1
            finally:
                self._slow_now -= 1
                writer.close()
