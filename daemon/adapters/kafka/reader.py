"""The read side of the event log on Kafka: no group, no commits, from a point in time on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.connection import client_options, forget_reason, quiet, reason
from daemon.adapters.kafka.topics import partitions_of
from daemon.config.schema import Kafka
from daemon.errors import LogUnavailable, NotFound
from daemon.ports import LogReader, Record, StoredRecord

#: Records that one poll gives at most; bounds what is decoded before the caller gets its turn.
POLL_RECORDS_MAX = 1000
POLL_MS = 200

#: The longest that a broker waits for news; bounds how long `stop` takes.
FETCH_WAIT_MS = 250


class KafkaReader:
    """Reads topics of Kafka. Each `read` has a connection of its own; `stop` ends them all."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self._consumers: set[AIOKafkaConsumer] = set()

    async def read(self, topic: str, since_ms: int | None, follow: bool) -> AsyncIterator[StoredRecord]:
        """
        See LogReader.read. The order holds within a partition.

        Raises NotFound for a topic that does not exist, LogUnavailable when Kafka can't be reached.
        """
        quiet()
        forget_reason()
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=POLL_RECORDS_MAX,
        )
        self._consumers.add(consumer)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                await consumer.start()
                ends = await self._seek(consumer, topic, since_ms)
            async for record in self._records(consumer, ends, since_ms, follow=follow):
                yield record
        except (KafkaError, OSError, TimeoutError) as error:
            brokers = ", ".join(self._settings.brokers)
            raise LogUnavailable(f"Kafka at {brokers} can't be read: {reason(error)}") from error
        finally:
            self._consumers.discard(consumer)
            await consumer.stop()

    async def stop(self) -> None:
        for consumer in list(self._consumers):
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    async def _seek(
        self, consumer: AIOKafkaConsumer, topic: str, since_ms: int | None
    ) -> dict[TopicPartition, int]:
        """Put each partition to its start; give the end offsets as they are now."""
        numbers = await partitions_of(self._settings, topic)
        if not numbers:
            raise NotFound(f"the topic {topic} is not on Kafka at {', '.join(self._settings.brokers)}")
        consumer.assign([TopicPartition(topic, number) for number in numbers])
        partitions = consumer.assignment()
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        starts: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
        if since_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            # None: no record is as young as that.
            starts = {
                partition: at.offset if (at := found.get(partition)) is not None else ends[partition]
                for partition in partitions
            }
        for partition, offset in starts.items():
            consumer.seek(partition, offset)
        return {partition: end for partition, end in ends.items() if end > starts[partition]}

    async def _records(
        self,
        consumer: AIOKafkaConsumer,
        ends: dict[TopicPartition, int],
        since_ms: int | None,
        *,
        follow: bool,
    ) -> AsyncIterator[StoredRecord]:
        open_ends = dict(ends)
        while follow or open_ends:
            polled: dict[TopicPartition, list[Any]] = await consumer.getmany(
                timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX
            )
            for partition, messages in polled.items():
                end = None if follow else ends.get(partition, 0)
                for message in messages:
                    if end is not None and message.offset >= end:
                        break
                    # Offsets are found by the first record that is young enough; older ones may follow it.
                    if since_ms is None or message.timestamp >= since_ms:
                        yield _stored(message)
            # The position, not the last record: what compaction or a transaction's end took has an offset too.
            for partition in [p for p, end in open_ends.items() if await consumer.position(p) >= end]:
                del open_ends[partition]


def _stored(message: Any) -> StoredRecord:
    headers = {name: value.decode("utf-8", "replace") for name, value in message.headers if value is not None}
    record = Record(
        key=message.key or b"",
        value=message.value or b"",
        id=headers.get("id", ""),
        contract=headers.get("contract", ""),
        type=headers.get("type", ""),
        tenant=headers.get("tenant", ""),
        timestamp_ms=message.timestamp,
    )
    return StoredRecord("kafka", message.partition, message.offset, record)


if TYPE_CHECKING:
    _: type[LogReader] = KafkaReader
