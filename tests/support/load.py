"""
Load with a ledger: keep-alive callers who write down every answer they got.

    with Load(product.ingest_port, source, connections=16) as load:
        load.wait(1000)                 # until so many were acknowledged
        product.kill("frontend", 0)
    assert load.acked.keys() <= set(product.message_ids())

The callers live in a thread of their own, so that a test can break things meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, cast

import uvloop

from tests.support.product import Source, until
from tests.support.wire import PATIENCE_S, request

#: A caller who is refused a connection tries again after so long.
RECONNECT_S = 0.02


class Answer(NamedTuple):
    """One answered request. Times are monotonic seconds: it was on its way from the one to the other."""

    number: int
    sent_at: float
    came_at: float
    status: int
    head: bytes


class Load:
    """
    `connections` callers, each with one request on its way at a time.

    `requests` are sent round and round instead of events with a messageId of their own; `per_s` bounds the rate
    over all callers; `fresh` opens a connection for each request; `at_most` ends the load by itself; `pipeline`
    requests are sent at once, and answered one after the other.
    """

    def __init__(
        self,
        port: int,
        source: Source | None = None,
        *,
        connections: int = 16,
        requests: Sequence[bytes] = (),
        per_s: float = 0.0,
        fresh: bool = False,
        at_most: int = 0,
        pipeline: int = 1,
    ) -> None:
        self._port = port
        self._connections = connections
        self._requests = requests
        self._per_s = per_s
        self._fresh = fresh
        self._at_most = at_most
        self._pipeline = pipeline
        self._prefix = uuid.uuid4().hex[:8]
        if source is not None:
            more = {"Connection": "close"} if fresh else {}
            self._head, _, self._tail = request(
                "POST", "/v1/t", {**source.headers, **more}, self._event("@@@@@@@@@@")
            ).partition(b"@@@@@@@@@@")
        self._numbers = itertools.count()
        self._began = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)
        self._error: BaseException | None = None
        #: every answer, in the order they came
        self.answers: list[Answer] = []
        #: messageId → durability of each event that was acknowledged
        self.acked: dict[str, str] = {}
        #: requests without an answer, and connections that were not to be had: what went wrong
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more; returns when all that is on its way was answered."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def join(self) -> None:
        """Wait until `at_most` requests were sent and answered."""
        self._thread.join()

    def wait(self, more: int, deadline_s: float = PATIENCE_S) -> None:
        """Wait until so many more events were acknowledged."""
        goal = len(self.acked) + more
        until(lambda: len(self.acked) >= goal, f"{more} more events acknowledged", deadline_s)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter(answer.status for answer in self.answers)

    # --- in the thread

    def _event(self, number: str) -> bytes:
        return (
            f'{{"type":"track","event":"Loaded","messageId":"{self._prefix}-{number}",'
            f'"properties":{{"filler":"{"x" * 200}"}}}}'
        ).encode()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._all())
        except BaseException as error:  # noqa: BLE001  raised again by stop()
            self._error = error

    async def _all(self) -> None:
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._caller())

    async def _caller(self) -> None:
        connection: _Connection | None = None
        while not self._stop.is_set():
            if connection is None or connection.closed:
                connection = await self._connect()
                if connection is None:
                    await asyncio.sleep(RECONNECT_S)
                    continue
            numbers = list(itertools.islice(self._numbers, self._pipeline))
            if self._at_most and numbers[-1] >= self._at_most:
                break
            if self._per_s:
                await asyncio.sleep(self._began + numbers[0] / self._per_s - time.monotonic())
                if connection.closed:
                    # It was idle: that the server closes such a one is its right, and no request was lost.
                    self.idle_closes += 1
                    connection = await self._connect()
                    if connection is None:
                        continue
            await self._exchange(connection, numbers)
        if connection is not None:
            connection.close()

    #: Connections that the server closed while no request was on its way.
    idle_closes = 0

    async def _connect(self) -> _Connection | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return (await loop.create_connection(_Connection, "127.0.0.1", self._port))[1]
        except (OSError, TimeoutError) as error:
            self.failures.append(f"no connection: {error!r}")
            return None

    async def _exchange(self, connection: _Connection, numbers: list[int]) -> None:
        sent_at = time.monotonic()
        connection.send(b"".join(map(self._request, numbers)))
        for number in numbers:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    head = await connection.head()
            except (OSError, TimeoutError) as error:
                self.failures.append(
                    f"request {number}, after {connection.answers} on its connection: {error!r}"
                )
                connection.close()
                return
            answer = Answer(number, sent_at, time.monotonic(), int(head[9:12]), head)
            self.answers.append(answer)
            if answer.status == 200 and not self._requests:
                self.acked[f"{self._prefix}-{number:010d}"] = _value(head, b"x-headgate-durability")
            if b"connection: close" in head or self._fresh:
                connection.close()

    def _request(self, number: int) -> bytes:
        if self._requests:
            return self._requests[number % len(self._requests)]
        return b"%b%010d%b" % (self._head, number, self._tail)


class _Connection(asyncio.Protocol):
    """Requests out, heads of answers in; an answer has a Content-Length or no body."""

    def __init__(self) -> None:
        self.closed = False
        #: heads that were given out
        self.answers = 0
        self._came = b""
        self._heads: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._lost = ConnectionError("closed without an answer")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is not None:
            self._lost = ConnectionError(f"closed without an answer ({exc})")
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n") + 4) > 3:
            head = self._came[:end].lower()
            end += int(_value(head, b"content-length") or 0)
            if len(self._came) < end:
                break
            self._came = self._came[end:]
            self._heads.append(head)
        if self._heads:
            self._wake()

    def send(self, data: bytes) -> None:
        """Send requests."""
        assert self._transport is not None
        self._transport.write(data)

    async def head(self) -> bytes:
        """The head of the next answer, in lower case. Raises ConnectionError."""
        while not self._heads:
            if self.closed:
                raise self._lost
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        self.answers += 1
        return self._heads.popleft()

    def close(self) -> None:
        """End the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _value(head: bytes, name: bytes) -> str:
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return rest.split(b"\r\n", 1)[0].decode("latin-1") if found else ""


def most_over(answers: Sequence[Answer], excess: Callable[[float], float]) -> float:
    """
    The most by which the answers of any window of time are more than `excess` of its length allows.

    An answer is only counted for windows that hold its whole way: it was granted at some moment between. So a
    positive result is a fault for certain, whatever the callers' own delays were.
    """
    by_end = sorted(answers, key=lambda answer: answer.came_at)
    worst = float("-inf")
    for start in sorted({answer.sent_at for answer in by_end}):
        count = 0
        for answer in by_end:
            if answer.sent_at >= start:
                count += 1
                worst = max(worst, count - excess(answer.came_at - start))
    return worst
