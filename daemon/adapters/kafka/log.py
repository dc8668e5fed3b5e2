"""
The write side of the event log on Kafka.

aiokafka's own batching is left alone: we build the batches and hand over one per partition at a time,
with linger 0, acks=all and idempotence. That is twice as fast as `send_and_wait`, and the batches grow
with the load by themselves (docs/event-log.md has the figures).

With idempotence on, aiokafka tries for ever. Whoever needs a deadline gives up the future that `submit`
gave: what was not handed over yet is then dropped, what was may still arrive.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaClient, AIOKafkaProducer
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.connection import client_options, forget_reason, quiet, reason
from daemon.adapters.kafka.lanes import Headers, Lane, Whole
from daemon.adapters.kafka.topics import complete, ensure_topics, record_bytes_max
from daemon.config.schema import Kafka
from daemon.errors import LogUnavailable, SettingsError
from daemon.ports import Durability, EventLog, PartitionBatch

log = logging.getLogger(__name__)

#: Bytes on their way to all partitions together; more waits in the lanes. Bounds what a request can weigh.
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024

#: A batch's own head, and a margin: taken off the topic's max.message.bytes.
BATCH_HEAD_BYTES = 1024

#: Seconds that a discarded client gets to close its connections.
DISCARD_S = 2.0


class RecordTooLarge(LogUnavailable):
    """A record is bigger than the topic takes; no retry will change that."""


class KafkaLog:
    """
    Appends to Kafka. One object is one client: what has failed for good is discarded and made anew.

    `topics` are those that it will be asked for (default: the raw topic); each has to take records of
    `record_bytes_needed` bytes. `on_ack` is called at each acknowledgement. `broken` is the error that
    this client can't recover from, or None.
    """

    def __init__(
        self,
        settings: Kafka,
        topics: Sequence[str] = (),
        *,
        on_ack: Callable[[], None] | None = None,
        record_bytes_needed: int = 0,
    ) -> None:
        self._settings = settings
        self._record_bytes_needed = record_bytes_needed
        self._topics = list(dict.fromkeys(topics or (settings.topic_raw,)))
        self._on_ack = on_ack
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._ready: deque[Lane] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pump: asyncio.Task[None] | None = None
        self._headers = Headers()
        self._open: set[asyncio.Future[None]] = set()
        self._in_flight_bytes = 0
        self._record_bytes_max = 0
        self.broken: BaseException | None = None
        #: time.monotonic() of the latest acknowledgement, or of the start
        self.acked_at = time.monotonic()

    @property
    def record_bytes_max(self) -> int:
        """Bytes that one record may take on every topic; known after start."""
        return self._record_bytes_max

    async def start(self, timeout_s: float | None = None) -> None:
        """
        Connect, and see to the topics, within `timeout_s` (default: request_timeout_s).

        Raises SettingsError for settings that can't work, LogUnavailable when Kafka can't be reached now.
        """
        quiet()
        forget_reason()
        timeout_s = timeout_s or self._settings.request_timeout_s
        options = client_options(self._settings)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(timeout_s):
                await self._look_at_topics(options)
                producer = self._producer_of(options, self._record_bytes_max)
                await producer.start()
                producer.client.set_topics(self._topics)
                for topic in self._topics:
                    await producer.partitions_for(topic)
        except (KafkaError, OSError, TimeoutError) as error:
            if producer is not None:
                await discard(producer)
            brokers = ", ".join(self._settings.brokers)
            raise LogUnavailable(f"Kafka at {brokers} can't be reached: {reason(error)}") from error
        except BaseException:
            if producer is not None:
                await discard(producer)
            raise
        self._producer = producer
        self.acked_at = time.monotonic()
        self._pump = asyncio.create_task(self._send_for_ever())

    async def stop(self) -> None:
        await self._idle.wait()
        await self._end_pump()
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def discard(self) -> None:
        """Let go of everything at once: open appends fail, what was handed over may still arrive."""
        self.give_up(LogUnavailable("the Kafka client was given up"))
        await self._end_pump()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await discard(producer)

    def partitions(self, topic: str) -> int:
        if self._producer is None:
            raise LogUnavailable("Kafka is not connected")
        found = self._producer.client.cluster.partitions_for_topic(topic)
        if not found:
            raise LogUnavailable(f"Kafka does not know the topic {topic}")
        return len(found)

    async def answers(self, timeout_s: float) -> bool:
        """Whether a broker answers this client's question about its topics within `timeout_s`."""
        if self._producer is None or self.broken is not None:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                return bool(await self._producer.client.force_metadata_update())
        except (TimeoutError, KafkaError, OSError):
            return False

    def led(self) -> bool:
        """Whether every partition has a leader, as far as this client knows: without one its records wait."""
        return self._producer is not None and all(
            complete(self._producer.client, topic) for topic in self._topics
        )

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        await self.submit(topic, batches)
        return "kafka"

    def submit(self, topic: str, batches: Sequence[PartitionBatch]) -> asyncio.Future[None]:
        """
        Like append, without the coroutine: the future is done when every record is on Kafka.

        Cancelling it drops what was not handed over yet.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._producer is None or self.broken is not None:
            future.set_exception(LogUnavailable(f"Kafka is not connected: {self.broken or 'not started'}"))
            return future
        batches = [batch for batch in batches if batch.records]
        if not batches:
            future.set_result(None)
            return future
        whole = Whole(future, len(batches))
        try:
            count = self.partitions(topic)
        except LogUnavailable as error:
            future.set_exception(error)
            return future
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        for batch in batches:
            # Whoever chose the partition may have known of more of them than there are now.
            partition = batch.partition if batch.partition < count else batch.partition % count
            lane = self._lanes.get((topic, partition))
            if lane is None:
                lane = self._lanes[topic, partition] = Lane(topic, partition)
            lane.waiting.append((whole, batch.records))
            if not lane.busy:
                lane.busy = True
                self._ready.append(lane)
        self._idle.clear()
        self._wake.set()
        return future

    def give_up(self, error: LogUnavailable) -> None:
        """Fail every open append with `error`; what was not handed over yet is dropped."""
        for future in list(self._open):
            if not future.done():
                future.set_exception(error)

    # --- sending

    async def _send_for_ever(self) -> None:
        producer = self._producer
        assert producer is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready and self._in_flight_bytes < IN_FLIGHT_BYTES_MAX:
                await self._send(producer, self._ready.popleft())

    async def _send(self, producer: AIOKafkaProducer, lane: Lane) -> None:
        builder = producer.create_batch()
        taken, size, too_large = lane.fill(builder, self._headers, self._record_bytes_max)
        if too_large is not None:
            too_large.fail(
                RecordTooLarge(
                    f"a record is bigger than the {self._record_bytes_max} bytes that Kafka's topic {lane.topic} "
                    "takes: raise its max.message.bytes"
                )
            )
        if not taken:
            self._next(lane)
            return
        try:
            sent = await producer.send_batch(builder, lane.topic, partition=lane.partition)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  whatever aiokafka raises here, these records were not sent
            self._failed(lane, taken, error)
            return
        self._in_flight_bytes += size

        def finished(sent: asyncio.Future[Any]) -> None:
            self._in_flight_bytes -= size
            error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
            if error is not None:
                self._failed(lane, taken, error)
                return
            self.acked_at = time.monotonic()
            for whole in taken:
                whole.done()
            if self._on_ack is not None:
                self._on_ack()
            self._next(lane)

        sent.add_done_callback(finished)

    def _failed(self, lane: Lane, taken: list[Whole], error: BaseException) -> None:
        # aiokafka retries by itself what can be retried. After anything else the batch's sequence numbers are
        # lost, and the broker refuses what follows (OutOfOrderSequenceNumber): this client is of no more use.
        if self.broken is None:
            self.broken = error
        for whole in taken:
            whole.fail(LogUnavailable(f"Kafka refused a batch for {lane.topic}: {error!r}"))
        self.give_up(LogUnavailable(f"the Kafka client has failed: {error!r}"))
        self._next(lane)

    def _next(self, lane: Lane) -> None:
        if lane.waiting:
            self._ready.append(lane)
            self._wake.set()
            return
        lane.busy = False
        if self._ready:
            self._wake.set()
        elif not self._in_flight_bytes:
            self._idle.set()

    async def _look_at_topics(self, options: dict[str, Any]) -> None:
        client = AIOKafkaClient(**options)
        try:
            await client.bootstrap()
            await ensure_topics(client, self._settings, self._topics)
            found = await record_bytes_max(self._settings, self._topics)
        finally:
            await client.close()
        if found < self._record_bytes_needed + BATCH_HEAD_BYTES:
            raise SettingsError(
                f"the topics {', '.join(self._topics)} take records of {found} bytes at most (max.message.bytes), but "
                f"one event can have {self._record_bytes_needed}: raise it, or lower limits.body_bytes_max",
                "limits.body_bytes_max",
            )
        self._record_bytes_max = found - BATCH_HEAD_BYTES

    async def _end_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None

    def _producer_of(self, options: dict[str, Any], record_bytes: int) -> AIOKafkaProducer:
        compression = self._settings.compression
        return AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            compression_type=None if compression == "none" else compression,
            max_batch_size=record_bytes,
            max_request_size=record_bytes,
        )


async def discard(producer: AIOKafkaProducer) -> None:
    """
    Close a producer that may be stuck, without waiting for its batches.

    `stop()` waits for every batch, which with idempotence may be for ever. So the batches are failed
    first, then the connections are closed under the sender, and then it stops. The private names are
    those of aiokafka 0.12 to 0.14; the failover's tests break when they change.
    """
    producer._message_accumulator.fail_all(KafkaError("the client was given up"))
    sender = producer._sender.sender_task
    stop = asyncio.ensure_future(producer.stop())
    try:
        if sender is not None:
            sender.cancel()
        await producer.client.close()
        if sender is not None:
            sender.cancel()
        await asyncio.wait({stop}, timeout=DISCARD_S)
    finally:
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


if TYPE_CHECKING:
    _: type[EventLog] = KafkaLog
