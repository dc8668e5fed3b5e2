"""
Events of ResultFly sent many times over, by many callers at once, until each copy has ended.

    with Fire(product.ingest_port, key, events=1000) as fire:
        fire.wait(0.3)                  # until so much of it has ended
        product.kill("frontend", 0)
    assert fire.statuses.keys() <= {"accepted", "duplicate"}

A caller does what docs/cdp.md asks for: whatever got no answer, or a 503, is sent again with the same
externalEventId. The callers live in a thread of their own, so that a test can break things meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter, deque
from types import TracebackType
from typing import Any, Self

import uvloop

from tests.support.product import until
from tests.support.wire import PATIENCE_S, request

#: Seconds until what was refused is sent again: sooner than Retry-After asks for, which is more to bear.
AGAIN_S = 0.1
#: Seconds that a copy may take to end, however often it is sent.
ENDED_S = 60.0


class Fire:
    """`events` events, each sent `copies` times in a random order by `clients` callers."""

    def __init__(
        self,
        port: int,
        key: str,
        body: dict[str, Any],
        *,
        events: int,
        copies: int = 5,
        clients: int = 50,
        seed: int = 1,
    ) -> None:
        """`body` is an event; its externalEventId is replaced."""
        self._port = port
        self._clients = clients
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._body = body
        numbers = [number for number in range(events) for _ in range(copies)]
        random.Random(seed).shuffle(numbers)
        self._left = deque(numbers)
        self.total = len(numbers)
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="fire", daemon=True)
        self._error: BaseException | None = None
        #: what copies ended with: accepted, duplicate
        self.statuses: Counter[str] = Counter()
        #: number of an event → the ids that it was given
        self.ids: dict[int, set[str]] = {}
        #: events whose copies were told "accepted", with how often
        self.accepted: Counter[int] = Counter()
        #: how often a copy was sent again, by why
        self.again: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = kind is not None
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    @property
    def ended(self) -> int:
        """Copies that ended."""
        return self.statuses.total()

    def wait(self, share: float, deadline_s: float = 120.0) -> None:
        """Wait until that share of all copies has ended."""
        until(
            lambda: self.ended >= share * self.total or not self._thread.is_alive(),
            f"{share:.0%} ended",
            deadline_s,
        )

    # --- in the thread

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._all())
        except BaseException as error:  # noqa: BLE001  raised again by __exit__
            self._error = error

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        line = _Line(self._port)
        while self._left and not self._stopping:
            number = self._left.popleft()
            body = json.dumps({**self._body, "externalEventId": f"event-{number}"}).encode()
            sent = request("POST", "/v1/cdp/events", self._headers, body)
            deadline = time.monotonic() + ENDED_S
            while not self._stopping:
                assert time.monotonic() < deadline, f"event {number} did not end"
                try:
                    status, answer = await line.ask(sent)
                except (OSError, EOFError, asyncio.IncompleteReadError) as error:
                    self.again[type(error).__name__] += 1
                    await asyncio.sleep(AGAIN_S)
                    continue
                if status == 200:
                    self._end(number, answer)
                    break
                assert status in (429, 503), (status, answer)
                self.again[str(status)] += 1
                await asyncio.sleep(AGAIN_S)
        line.close()

    def _end(self, number: int, answer: dict[str, str]) -> None:
        status = answer["status"]
        self.statuses[status] += 1
        told = answer["event_id"] if status == "accepted" else answer["original_event_id"]
        self.ids.setdefault(number, set()).add(told)
        self.accepted[number] += status == "accepted"


class _Line:
    """A connection that is made anew when it is gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes) -> tuple[int, dict[str, str]]:
        """Status and body of the answer. Raises OSError, EOFError and its kinds when there is none."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(sent)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                body = await reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), json.loads(body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
