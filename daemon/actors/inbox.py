"""
The publisher's side of the queue: what all frontends sent in one pass of the loop becomes one append.

Frames arrive on Unix sockets whose listening end was inherited from the supervisor. Everything that
was read in one pass goes to the log together, grouped by topic and partition in the order of arrival;
when it is durable, each frame gets its Ack, else its Nack.

Bounded in records and bytes: above the bound the sockets are not read, so the frames wait with the
frontends, who refuse what goes beyond their own bound. Nothing is dropped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from daemon.actors.frames import FrameError, FrameReader, pack
from daemon.actors.messages import Ack, Bye, Hello, Nack, Publish, ToPublisher, Welcome
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.observe.catalog import PublisherMetrics
from daemon.ports import Durability, PartitionBatch, Record

log = logging.getLogger(__name__)

#: Accepting again after the process ran out of file descriptors, seconds.
ACCEPT_RETRY_S = 0.2

#: For the frontends to read the last answers and close, seconds; one that hangs is not waited for.
GOODBYE_S = 1.0

#: Reading goes on when this share of the bound is free again; a small step would stop and go at each frame.
RESUME_SHARE = 0.75

#: Connections in all; one per frontend, two while one is replaced. A bound, not a budget.
CONNECTIONS_MAX = 1024


class Appender(Protocol):
    """The part of EventLog that the inbox needs."""

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        """See EventLog.append."""
        ...


class _Arrived:
    """A frame that is in work: where its answer goes, and what it weighs."""

    __slots__ = ("connection", "records", "seq", "size")

    def __init__(self, connection: _Connection, seq: int, records: int, size: int) -> None:
        self.connection = connection
        self.seq = seq
        self.records = records
        self.size = size


class Inbox:
    """
    Serves the frontends on an inherited listening socket.

    `log` makes records durable; `partitions` are the topics' partition counts that frontends are told.
    """

    def __init__(
        self,
        log: Appender,
        partitions: dict[str, int],
        *,
        settings: Settings,
        metrics: PublisherMetrics,
    ) -> None:
        self._log = log
        self._partitions = dict(partitions)
        self._records_max = settings.publisher.queue_records_max
        self._bytes_max = settings.publisher.queue_bytes_max
        self._frame_bytes_max = settings.publisher.frame_bytes_max
        self._records = 0
        self._bytes = 0
        self._metrics = metrics
        metrics.queue_records.read = lambda: float(self._records)
        metrics.queue_bytes.read = lambda: float(self._bytes)
        metrics.connections.read = lambda: float(len(self._connections))
        self._connections: set[_Connection] = set()
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._paused = False
        self._draining = False
        self._gathered: dict[str, dict[int, list[Record]]] = {}
        self._frames: dict[str, list[_Arrived]] = {}
        self._flush_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def records(self) -> int:
        """Records in work."""
        return self._records

    def start(self, listen_fd: int) -> None:
        """Serve the frontends that connect to `listen_fd`, a listening Unix stream socket; it stays open."""
        self._loop = asyncio.get_running_loop()
        # A descriptor of our own: closing it leaves the supervisor's socket, and the one who comes after us, alone.
        self._listener = socket.socket(fileno=os.dup(listen_fd))
        self._listener.settimeout(0.0)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def change_partitions(self, partitions: dict[str, int]) -> None:
        """Tell all frontends of other partition counts."""
        if partitions != self._partitions:
            self._partitions = dict(partitions)
            for connection in self._connections:
                connection.say(self._welcome())

    async def drain(self, limit_s: float) -> None:
        """
        Read nothing more, finish and answer what was read, `limit_s` at most, then close.

        What a frontend has sent and we have not read it sends again to our successor. It closes first, after our
        last answer: a frontend that writes to a closed socket loses the answers that it has not read yet, and
        would send again what is on the log.
        """
        self._draining = True
        self._stop_listening()
        for connection in self._connections:
            connection.pause()
        self._flush()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=limit_s)
            for one in late:
                one.cancel()
            if late:
                log.warning("%d records were not durable in time; their frontends keep them", self._records)
                await asyncio.wait(late)
        for connection in self._connections:
            connection.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._nobody.wait()
        for connection in list(self._connections):
            connection.close()

    # --- accepting

    def _accept(self) -> None:
        assert self._listener is not None
        assert self._loop is not None
        while True:
            try:
                peer, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("no more frontends can be taken now: %s", error)
                listener = self._listener.fileno()
                self._loop.remove_reader(listener)
                self._loop.call_later(ACCEPT_RETRY_S, self._listen_again)
                return
            if len(self._connections) >= CONNECTIONS_MAX:
                peer.close()
                continue
            peer.settimeout(0.0)
            task = self._loop.create_task(self._serve(peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _listen_again(self) -> None:
        if self._listener is not None and self._loop is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _serve(self, peer: socket.socket) -> None:
        assert self._loop is not None
        try:
            await self._loop.connect_accepted_socket(lambda: _Connection(self, self._frame_bytes_max), peer)
        except OSError as error:
            log.info("a frontend went away while connecting: %s", error)

    def _stop_listening(self) -> None:
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    # --- what the connections tell

    def joined(self, connection: _Connection) -> None:
        """A frontend has connected."""
        self._connections.add(connection)
        self._nobody.clear()
        if self._draining:
            connection.close()
            return
        connection.say(self._welcome())
        if self._paused:
            connection.pause()

    def left(self, connection: _Connection) -> None:
        """A frontend has gone; what it sent is still written."""
        self._connections.discard(connection)
        if not self._connections:
            self._nobody.set()

    def arrived(self, connection: _Connection, message: Publish) -> None:
        """A frame is here: it goes to the log with the others of this pass of the loop."""
        topic = message.topic
        lanes = self._gathered.get(topic)
        if lanes is None:
            lanes = self._gathered[topic] = {}
            self._frames[topic] = []
        records = 0
        size = 0
        for batch in message.batches:
            lane = lanes.get(batch.partition)
            if lane is None:
                lanes[batch.partition] = batch.records
            else:
                lane += batch.records
            records += len(batch.records)
            for record in batch.records:
                size += len(record.value)
        self._frames[topic].append(_Arrived(connection, message.seq, records, size))
        self._records += records
        self._bytes += size
        if not self._flush_due:
            self._flush_due = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    # --- writing

    def _flush(self) -> None:
        self._flush_due = False
        assert self._loop is not None
        gathered, frames = self._gathered, self._frames
        if gathered:
            self._gathered, self._frames = {}, {}
            for topic, lanes in gathered.items():
                batches = [PartitionBatch(partition, records) for partition, records in lanes.items()]
                task = self._loop.create_task(self._append(topic, batches, frames[topic], self._loop.time()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not self._paused and (self._records > self._records_max or self._bytes > self._bytes_max):
            self._paused = True
            for connection in self._connections:
                connection.pause()

    async def _append(
        self, topic: str, batches: list[PartitionBatch], frames: list[_Arrived], since: float
    ) -> None:
        assert self._loop is not None
        try:
            durability = await self._log.append(topic, batches)
        except LogUnavailable as error:
            self._refuse(frames, str(error), error.retry_after_s)
        except asyncio.CancelledError:
            # The drain's limit is over. No answer: the frontends send these frames to our successor.
            self._forget(frames)
            raise
        except Exception:
            # The frontends must get an answer whatever went wrong here.
            log.exception("a batch could not be written")
            self._refuse(frames, "the event log failed", 1.0)
        else:
            self._answer(frames, lambda seq: Ack(seq, durability))
            self._metrics.records.at(durability).n += sum(frame.records for frame in frames)
            self._metrics.bytes.at(durability).n += sum(frame.size for frame in frames)
            self._metrics.ack.at(durability).observe_many(self._loop.time() - since, len(frames))

    def _refuse(self, frames: list[_Arrived], reason: str, retry_after_s: float) -> None:
        self._metrics.nacks.at().n += len(frames)
        self._answer(frames, lambda seq: Nack(seq, reason, retry_after_s))

    def _answer(self, frames: list[_Arrived], answer: Callable[[int], Ack | Nack]) -> None:
        if len(frames) == 1:
            (frame,) = frames
            frame.connection.say(answer(frame.seq))
        else:
            # One write per frontend, however many of its frames were in this append.
            answers: dict[_Connection, list[bytes]] = {}
            for frame in frames:
                answers.setdefault(frame.connection, []).append(pack(answer(frame.seq)))
            for connection, parts in answers.items():
                connection.write(b"".join(parts))
        self._forget(frames)

    def _forget(self, frames: list[_Arrived]) -> None:
        for frame in frames:
            self._records -= frame.records
            self._bytes -= frame.size
        if (
            self._paused
            and not self._draining
            and self._records <= self._records_max * RESUME_SHARE
            and self._bytes <= self._bytes_max * RESUME_SHARE
        ):
            self._paused = False
            for connection in self._connections:
                connection.resume()

    def _welcome(self) -> Welcome:
        return Welcome(self._records_max, self._bytes_max, self._partitions)


class _Connection(asyncio.Protocol):
    """One frontend."""

    def __init__(self, inbox: Inbox, frame_bytes_max: int) -> None:
        self._inbox = inbox
        self._reader: FrameReader[ToPublisher] = FrameReader(ToPublisher, frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._who = "a frontend"
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.Transport", transport)
        self._inbox.joined(self)

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return  # our successor gets it
        try:
            messages = self._reader.feed(data)
        except FrameError as error:
            log.error("%s speaks no language of ours, its connection is closed: %s", self._who, error)  # noqa: TRY400
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            if isinstance(message, Publish):
                self._inbox.arrived(self, message)
            elif isinstance(message, Hello):
                self._who = f"frontend {message.slot} (pid {message.pid})"
                log.debug("%s is connected", self._who)
            elif isinstance(message, Bye):
                log.debug("%s says goodbye", self._who)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._inbox.left(self)

    def say(self, message: Welcome | Ack | Nack) -> None:
        """Send one message, if the frontend is still there."""
        self.write(pack(message))

    def write(self, data: bytes) -> None:
        """Send frames, if the frontend is still there."""
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        """Read nothing for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self) -> None:
        """Nothing comes after what was said; the frontend reads it and closes."""
        self._finished = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is to be sent, then close."""
        if self._transport is not None:
            self._transport.close()
