"""
One frontend's connection to one publisher, with what that publisher has not answered yet.

A link connects for ever: at once after a loss, then in growing steps. The socket belongs to the
supervisor, so connecting works while the publisher itself is being replaced; the new publisher's
Welcome is what makes the link `up`, and every frame without an answer is then sent again in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from daemon.actors.frames import FrameError, FrameReader, pack
from daemon.actors.messages import Ack, Bye, Hello, Nack, ToFrontend, Welcome

if TYPE_CHECKING:
    from daemon.ports import Durability

log = logging.getLogger(__name__)

#: Answers are tens of bytes; a Welcome holds a handful of topics.
ANSWER_BYTES_MAX = 1024 * 1024

#: The first try after a loss is at once; then these, in seconds. A Unix socket costs next to nothing to try.
RETRY_FIRST_S = 0.01
RETRY_MAX_S = 0.5


class Pending:
    """One publish of the frontend: done when all of its frames are."""

    __slots__ = ("durability", "future", "left")

    def __init__(self, future: asyncio.Future[Durability]) -> None:
        self.future = future
        self.left = 0
        self.durability: Durability = "kafka"

    def ack(self, durability: Durability) -> None:
        """One frame is durable; with the last one the weakest durability is the answer."""
        if durability == "local":
            self.durability = "local"
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(self.durability)

    def fail(self, error: Exception) -> None:
        """One frame is not durable, so the publish is not."""
        if not self.future.done():
            self.future.set_exception(error)


class Entry:
    """A frame without an answer."""

    __slots__ = ("deadline", "frame", "pending", "records", "sent")

    def __init__(self, frame: bytes, records: int, deadline: float, pending: Pending) -> None:
        self.frame = frame
        self.records = records
        self.deadline = deadline
        self.pending = pending
        self.sent = False


class Link(asyncio.Protocol):
    """
    The connection to the publisher of slot `number`.

    The owner is told of answers through `on_answer(link, message)` and of `up` changing through
    `on_change(link)`. `entries` (seq → Entry, in order of seq) is the owner's to read.
    """

    def __init__(
        self,
        number: int,
        path: str,
        slot: int,
        on_answer: Callable[[Link, Ack | Nack], None],
        on_change: Callable[[Link], None],
        on_resent: Callable[[int], None],
    ) -> None:
        self.number = number
        self.entries: dict[int, Entry] = {}
        self.up = False
        self.away_since = 0.0
        self.welcome: Welcome | None = None
        #: set with the first Welcome and never cleared
        self.known = asyncio.Event()
        self._path = path
        self._slot = slot
        self._on_answer = on_answer
        self._on_change = on_change
        self._on_resent = on_resent
        self._transport: asyncio.WriteTransport | None = None
        self._reader: FrameReader[ToFrontend] = FrameReader(ToFrontend, ANSWER_BYTES_MAX)
        self._lost = asyncio.Event()
        self._lost.set()
        self._good = False
        self._task: asyncio.Task[None] | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of frames that the publisher has not read, those that nobody waits for any more included."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # --- the owner's side

    def start(self) -> None:
        """Begin to connect, and go on for ever."""
        self.away_since = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._connect_for_ever())

    async def stop(self) -> None:
        """Close; frames without an answer stay in `entries`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._transport is not None:
            # Not close(): that would wait for a publisher that hangs to read what is in the buffer.
            self._transport.abort()
            await self._lost.wait()

    def send(self, seq: int, entry: Entry) -> None:
        """Keep the frame until it is answered, and send it if the publisher is there."""
        self.entries[seq] = entry
        if self.up and self._transport is not None:
            entry.sent = True
            self._transport.write(entry.frame)

    def take_over(self, other: Link) -> None:
        """Send what `other`'s publisher has not answered to this one; the order of seq is kept."""
        moved = other.entries
        other.entries = {}
        self.entries = dict(sorted({**self.entries, **moved}.items()))
        if self.up and self._transport is not None:
            self._transport.writelines([entry.frame for entry in moved.values()])
            self._count_resent(moved)

    def say_bye(self) -> None:
        """Nothing more will come on this connection."""
        if self.up and self._transport is not None:
            self._transport.write(pack(Bye()))

    # --- the connection's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._reader = FrameReader(ToFrontend, ANSWER_BYTES_MAX)
        self._lost.clear()
        self._good = False
        self._transport.write(pack(Hello(self._slot, os.getpid())))

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except FrameError:
            # Not a publisher of our version, or memory gone bad: a new connection is the only way on.
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            if isinstance(message, Welcome):
                self._welcomed(message)
            else:
                self._on_answer(self, message)

    def eof_received(self) -> None:
        # A publisher that takes leave: all its answers are read, and it reads nothing that we still hold.
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._lost.set()
        if self.up:
            self.up = False
            self.away_since = asyncio.get_running_loop().time()
            self._on_change(self)

    def _welcomed(self, message: Welcome) -> None:
        first = not self.up
        self.welcome = message
        self.up = True
        self._good = True
        self.known.set()
        # Before the owner hears of it: what it may move here from another link must not go out twice.
        if first and self.entries and self._transport is not None:
            self._transport.writelines([entry.frame for entry in self.entries.values()])
            self._count_resent(self.entries)
        self._on_change(self)

    def _count_resent(self, entries: dict[int, Entry]) -> None:
        again = 0
        for entry in entries.values():
            again += entry.sent
            entry.sent = True
        if again:
            self._on_resent(again)

    async def _connect_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        while True:
            try:
                await loop.create_unix_connection(lambda: self, self._path)
            except OSError:
                # The supervisor has not made the socket yet, or its listen queue is full.
                wait_s = min(RETRY_MAX_S, max(RETRY_FIRST_S, wait_s * 2))
            except Exception:
                # Without this task no event of ours would ever reach that publisher again.
                log.exception("connecting to publisher %d failed in an unforeseen way", self.number)
                wait_s = RETRY_MAX_S
            else:
                await self._lost.wait()
                # A connection that was welcomed was a good one: the next try is at once.
                wait_s = 0.0 if self._good else min(RETRY_MAX_S, max(RETRY_FIRST_S, wait_s * 2))
            if wait_s:
                await asyncio.sleep(wait_s)
