"""
The write side of the event log on Kafka: appends to lanes, lanes to the producer, its word to whoever waits.

With linger 0, acks=all and idempotence; batches grow with the load by themselves (docs/performance.md has the
figures). The producer tries for ever. Whoever needs a deadline gives up the future that `submit` gave: what was not
handed over yet is then dropped, what was may still arrive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.connection import client_options, forget_reason, quiet, reason
from daemon.adapters.kafka.lanes import Lane, Whole
from daemon.adapters.kafka.producer import Producer
from daemon.adapters.kafka.topics import complete, ensure_topics, record_bytes_max
from daemon.config.schema import Kafka
from daemon.errors import LogUnavailable, SettingsError
from daemon.ports import Durability, EventLog, PartitionBatch

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
        self._producer: Producer | None = None
        #: topic → partition → lane
        self._lanes: dict[str, dict[int, Lane]] = {}
        self._open: set[asyncio.Future[None]] = set()
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
        client = AIOKafkaClient(**client_options(self._settings))
        try:
            async with asyncio.timeout(timeout_s):
                await client.bootstrap()
                await ensure_topics(client, self._settings, self._topics)
                await self._look_at_sizes()
                producer = self._producer_of(client)
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await close_at_once(client)
            brokers = ", ".join(self._settings.brokers)
            raise LogUnavailable(f"Kafka at {brokers} can't be reached: {reason(error)}") from error
        except BaseException:
            await close_at_once(client)
            raise
        self._producer = producer
        self.acked_at = time.monotonic()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.idle.wait()
            producer, self._producer = self._producer, None
            await producer.close()
            await producer.client.close()

    async def discard(self) -> None:
        """Let go of everything at once: open appends fail, what was handed over may still arrive."""
        self.give_up(LogUnavailable("the Kafka client was given up"))
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
            await close_at_once(producer.client)

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
        producer = self._producer
        if producer is None or self.broken is not None:
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
        lanes = self._lanes.setdefault(topic, {})
        for batch in batches:
            # Whoever chose the partition may have known of more of them than there are now.
            partition = batch.partition if batch.partition < count else batch.partition % count
            lane = lanes.get(partition)
            if lane is None:
                lane = lanes[partition] = Lane(topic, partition)
            lane.waiting.append((whole, batch.records))
            if not lane.busy:
                producer.push(lane)
        return future

    def give_up(self, error: LogUnavailable) -> None:
        """Fail every open append with `error`; what was not handed over yet is dropped."""
        for future in list(self._open):
            if not future.done():
                future.set_exception(error)

    # --- what the producer tells

    def _acknowledged(self, taken: Sequence[Whole]) -> None:
        if not taken:
            return
        self.acked_at = time.monotonic()
        for whole in taken:
            whole.done()
        if self._on_ack is not None:
            self._on_ack()

    def _refused(self, taken: Sequence[Whole], error: BaseException) -> None:
        if self.broken is None:
            self.broken = error
        for whole in taken:
            whole.fail(LogUnavailable(f"Kafka refused a batch: {error!r}"))
        self.give_up(LogUnavailable(f"the Kafka client has failed: {error!r}"))

    def _too_large(self, lane: Lane, whole: Whole) -> None:
        whole.fail(
            RecordTooLarge(
                f"a record is bigger than the {self._record_bytes_max} bytes that Kafka's topic {lane.place.topic} "
                "takes: raise its max.message.bytes"
            )
        )

    # --- starting

    async def _look_at_sizes(self) -> None:
        found = await record_bytes_max(self._settings, self._topics)
        if found < self._record_bytes_needed + BATCH_HEAD_BYTES:
            raise SettingsError(
                f"the topics {', '.join(self._topics)} take records of {found} bytes at most (max.message.bytes), but "
                f"one event can have {self._record_bytes_needed}: raise it, or lower limits.body_bytes_max",
                "limits.body_bytes_max",
            )
        self._record_bytes_max = found - BATCH_HEAD_BYTES

    def _producer_of(self, client: AIOKafkaClient) -> Producer:
        return Producer(
            client,
            compression=self._settings.compression,
            record_bytes_max=self._record_bytes_max,
            timeout_s=self._settings.request_timeout_s,
            acknowledged=self._acknowledged,
            refused=self._refused,
            too_large=self._too_large,
        )


async def close_at_once(client: AIOKafkaClient) -> None:
    """
    Close `client` without waiting for brokers to read what is on its way to them: one that hangs never does.

    The private names are those of aiokafka 0.12 to 0.14; the failover's tests break when they change.
    """
    for connection in list(client._conns.values()):
        writer = connection._writer
        if writer is not None:
            writer.transport.abort()
    closing = asyncio.ensure_future(client.close())
    try:
        await asyncio.wait({closing}, timeout=DISCARD_S)
    finally:
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)


if TYPE_CHECKING:
    _: type[EventLog] = KafkaLog
