"""
The log on Kafka as the processor reads it: a member of a consumer group that shares the partitions.

Offsets are committed by hand, when what was read is durable. A commit that gets lost costs nothing but
copies, so the reading never waits for one. Before partitions go to another member, what is in hand is
finished if that is a matter of seconds; else the reading is stale, and the records come again from the
last commit, to whoever has the partition then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from daemon.adapters.kafka.connection import client_options, forget_reason, quiet, reason
from daemon.adapters.kafka.offsets import Offsets, Places
from daemon.adapters.kafka.topics import partitions_of
from daemon.adapters.progress import Progress
from daemon.config.schema import Settings
from daemon.observe.catalog import StoreMetrics
from daemon.observe.metrics import Cell
from daemon.ports import Feed, Fetched, Lag, Reading

log = logging.getLogger(__name__)

#: Records of one poll; between polls the bytes are counted.
POLL_RECORDS_MAX = 500
#: The longest that a broker waits for news.
FETCH_WAIT_MS = 250
#: Sessions end so long after the last heartbeat, which comes from this process's loop: the least that brokers allow, as
#: the partitions of a killed member are read by nobody for so long.
SESSION_MS = 6_000
#: Members get so long to come to a rebalance, each with what it has in hand.
REBALANCE_MS = 30_000
#: What is in hand gets so long when partitions go, seconds.
REVOKE_WAIT_S = 5.0
#: aiokafka would leave the group when nobody polls for a while, as over an outage of PostgreSQL: never.
POLL_IDLE_MS = 2**31 - 1
#: The consumer gets so long to find its topic and its group, seconds.
START_S = 60.0
#: Between tries to connect, and between looks at the ends of the partitions; these get so long at most, seconds.
RETRY_S = 1.0
LOOK_S = 3.0
LOOK_TIMEOUT_S = 5.0
STOP_S = 3.0


class KafkaFeed:
    """The raw topic, through the consumer group of the settings. One reader."""

    def __init__(self, settings: Settings, stores: StoreMetrics, missed: Cell) -> None:
        """`missed` counts records that were gone before they were read."""
        self._settings = settings
        self._kafka = settings.kafka
        self._topic = settings.kafka.topic_raw
        self._limits = settings.processor
        self._rebuild_after_s = settings.publisher.rebuild_after_s
        self._stores = stores
        self._missed = missed
        self._consumer: AIOKafkaConsumer | None = None
        #: grows when partitions go: what was read before is stale
        self._generation = 0
        self._offsets = Offsets(self._commit)
        #: where the reading that is not done yet begins
        self._open: Places = {}
        self._looker: asyncio.Task[None] | None = None
        self._hand_free = asyncio.Event()
        self._hand_free.set()
        self._look_now = asyncio.Event()
        self._progress = Progress()
        self._away_since: float | None = None

    async def start(self) -> None:
        quiet()
        # Eight lines for each rebalance; ours says which partitions we have.
        logging.getLogger("aiokafka.consumer").setLevel(logging.WARNING)
        client_options(self._kafka)  # what can't work at all shall not be found out in the background
        self._looker = asyncio.create_task(self._look_for_ever())

    async def read(self, wait_s: float) -> Reading | None:
        self._hand_free.set()
        if self._consumer is None and not await self._connect():
            await asyncio.sleep(RETRY_S)
            return None
        consumer = self._consumer
        assert consumer is not None
        try:
            self._go_back(consumer)
            return await self._gather(consumer, wait_s)
        except (KafkaError, IllegalStateError, OSError) as error:
            self._went_away(str(error) or type(error).__name__)
            await self._discard()
            await asyncio.sleep(RETRY_S)
            return None
        except Exception:
            # What was polled and not given out comes again to a new consumer only.
            await self._discard()
            raise

    async def done(self, reading: Reading) -> None:
        self._hand_free.set()
        self._progress.done(reading.records)
        generation, offsets = _token(reading)
        if generation != self._generation:
            return
        self._open = {}
        self._offsets.done(offsets)

    def stale(self, reading: Reading) -> bool:
        return _token(reading)[0] != self._generation

    async def reset(self) -> None:
        """Nothing to do: positions are the group's, and rebalances tell of them."""

    def lag(self) -> Lag:
        records = self._offsets.lag
        return Lag(records, self._progress.oldest_ms if records else 0)

    async def stop(self) -> None:
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.gather(self._looker, return_exceptions=True)
        self._hand_free.set()
        await self._offsets.committed()
        await self._discard()

    # --- reading

    async def _gather(self, consumer: AIOKafkaConsumer, wait_s: float) -> Reading | None:
        records: list[Fetched] = []
        begins: Places = {}
        offsets: Places = {}
        generation = self._generation
        size, wait_ms = 0, max(1, int(wait_s * 1000))
        while len(records) < self._limits.batch_records_max and size < self._limits.batch_bytes_max:
            polled: dict[TopicPartition, list[Any]] = await consumer.getmany(
                timeout_ms=wait_ms,
                max_records=min(POLL_RECORDS_MAX, self._limits.batch_records_max - len(records)),
            )
            if generation != self._generation:
                # Partitions went while we waited: what was read before comes again.
                records, begins, offsets, size, generation = [], {}, {}, 0, self._generation
            if not polled:
                break
            wait_ms = 0
            for partition, messages in polled.items():
                await self._look_for_gap(consumer, partition, messages[0].offset)
                if generation != self._generation:
                    return None
                for message in messages:
                    value = message.value or b""
                    size += len(value)
                    records.append(
                        Fetched(self._topic, partition.partition, message.offset, value, message.timestamp)
                    )
                begins.setdefault(partition, messages[0].offset)
                offsets[partition] = self._offsets.read[partition] = messages[-1].offset + 1
        if generation != self._generation:
            return None
        if not records:
            if self._away_since is None:
                self._progress.caught_up(int(time.time() * 1000))
            return None
        self._answered()
        self._hand_free.clear()
        self._progress.taken(records)
        self._open = begins
        return Reading(records, [], (generation, offsets))

    def _go_back(self, consumer: AIOKafkaConsumer) -> None:
        """What was read and is not done is read again: later offsets must not be committed over it."""
        begins, self._open = self._open, {}
        for partition, offset in begins.items():
            consumer.seek(partition, offset)
            self._offsets.read[partition] = offset

    async def _look_for_gap(self, consumer: AIOKafkaConsumer, partition: TopicPartition, first: int) -> None:
        """Count what the topic's retention took before it was read."""
        expected = self._offsets.read.get(partition)
        if expected is None:
            expected = await consumer.committed(partition)
            if expected is not None:
                self._offsets.stored.setdefault(partition, expected)
        self._offsets.stored.setdefault(partition, first)
        if expected is None or first <= expected:
            return
        begin = (await consumer.beginning_offsets([partition]))[partition]
        gone = min(first, begin) - expected
        # Without it, compaction or the end of a transaction took an offset: nothing of ours.
        if gone > 0:
            self._missed.n += gone
            log.error(
                "%d records of %s/%d were removed from Kafka before they were read: the processor was away for "
                "longer than the topic's retention.ms",
                gone,
                self._topic,
                partition.partition,
            )

    # --- the group

    async def _commit(self, offsets: Places) -> None:
        mine = self._assignment()
        still_mine = {partition: at for partition, at in offsets.items() if partition in mine}
        if still_mine and self._consumer is not None:
            await self._consumer.commit(still_mine)

    def _assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._consumer.assignment()) if self._consumer is not None else frozenset()

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are going to another member: finish what is in hand, if that does not take long."""
        if partitions:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REVOKE_WAIT_S):
                    await self._hand_free.wait()
            await self._offsets.committed()
        self._generation += 1
        self._offsets.forget()
        self._open = {}

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """These are ours from now on."""
        numbers = sorted(partition.partition for partition in partitions)
        log.info("reading %d partitions of %s: %s", len(numbers), self._topic, numbers)
        self._look_now.set()

    # --- the connection

    async def _connect(self) -> bool:
        forget_reason()
        consumer: AIOKafkaConsumer | None = None
        try:
            async with asyncio.timeout(START_S):
                # Asked for by name, a missing topic would be made by some brokers, with one partition.
                async with asyncio.timeout(self._kafka.request_timeout_s):
                    if not await partitions_of(self._kafka, self._topic):
                        self._went_away(f"the topic {self._topic} is not there yet")
                        return False
                consumer = AIOKafkaConsumer(
                    **client_options(self._kafka),
                    group_id=self._limits.group,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    fetch_max_wait_ms=FETCH_WAIT_MS,
                    fetch_max_bytes=self._limits.batch_bytes_max,
                    session_timeout_ms=SESSION_MS,
                    heartbeat_interval_ms=SESSION_MS // 4,
                    rebalance_timeout_ms=REBALANCE_MS,
                    max_poll_interval_ms=POLL_IDLE_MS,
                )
                consumer.subscribe([self._topic], listener=_Listener(self))
                await consumer.start()
        except (KafkaError, IllegalStateError, OSError, TimeoutError) as error:
            self._went_away(reason(error))
            if consumer is not None:
                await _close(consumer)
            return False
        except BaseException:
            if consumer is not None:
                await _close(consumer)
            raise
        self._consumer = consumer
        self._answered()
        return True

    async def _discard(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._generation += 1
        self._offsets.forget()
        self._open = {}
        self._progress.dropped()
        if consumer is not None:
            await _close(consumer)

    async def _look_for_ever(self) -> None:
        """See how far the partitions go; a consumer that reaches no broker for long is made anew."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look_now.wait()
            self._look_now.clear()
            consumer = self._consumer
            if consumer is None:
                continue
            try:
                async with asyncio.timeout(min(LOOK_TIMEOUT_S, self._kafka.request_timeout_s)):
                    await self._look(consumer)
            except (KafkaError, IllegalStateError, OSError, TimeoutError) as error:
                self._went_away(str(error) or "no answer")
                away_s = time.monotonic() - (self._away_since or time.monotonic())
                if away_s > self._rebuild_after_s and self._consumer is consumer and self._hand_free.is_set():
                    # Brokers may have come back under other addresses than this client knows.
                    await self._discard()
            except Exception:
                log.exception("the ends of the partitions can't be looked at")
            else:
                self._answered()

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        partitions = self._assignment()
        generation = self._generation
        if not partitions:
            return
        ends = await consumer.end_offsets(partitions)
        unknown = [partition for partition in partitions if partition not in self._offsets.stored]
        begins = await consumer.beginning_offsets(unknown) if unknown else {}
        for partition, begin in begins.items():
            committed = await consumer.committed(partition)
            if generation == self._generation:
                self._offsets.stored.setdefault(
                    partition, begin if committed is None else max(begin, committed)
                )
        if generation == self._generation:
            self._offsets.ends = ends

    def _answered(self) -> None:
        self._stores.up.at("kafka").n = 1
        if self._away_since is not None:
            seconds, self._away_since = time.monotonic() - self._away_since, None
            log.warning("Kafka can be read again after %.1f s", seconds)

    def _went_away(self, why: str) -> None:
        self._stores.up.at("kafka").n = 0
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._stores.outages.at("kafka").n += 1
            log.warning("Kafka can't be read, the processor waits: %s", why)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, feed: KafkaFeed) -> None:
        self._feed = feed

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._feed.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._feed.assigned(assigned)


def _token(reading: Reading) -> tuple[int, Places]:
    return cast("tuple[int, Places]", reading.token)


async def _close(consumer: AIOKafkaConsumer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_S):
            await consumer.stop()


if TYPE_CHECKING:
    _: type[Feed] = KafkaFeed
