"""
From the local log to Kafka: oldest first, paced, row by row taken away when Kafka has it.

A crash between Kafka's acknowledgement and the removal sends rows twice; their records carry the same
ids, so readers drop the copies.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from daemon.adapters.failover.adoption import Adoption
from daemon.adapters.kafka.lanes import RECORD_BYTES
from daemon.adapters.kafka.log import KafkaLog
from daemon.adapters.local.log import LocalLog
from daemon.errors import LogUnavailable
from daemon.observe.catalog import PublisherMetrics
from daemon.ports import PartitionBatch, Record

log = logging.getLogger(__name__)

#: Bytes of rows that one step reads and takes away.
STEP_BYTES = 256 * 1024
#: Bytes of rows that go to Kafka in one request: live traffic waits behind one at most.
PORTION_BYTES = 32 * 1024


class Spool:
    """
    Drains local logs, one after the other: the publisher's own, then those of slots in which nobody lives.

    One step at a time, whoever asks.
    """

    def __init__(
        self, own: LocalLog, adoption: Adoption, ack_deadline_s: float, metrics: PublisherMetrics
    ) -> None:
        self._own = own
        self._adoption = adoption
        self._ack_deadline_s = ack_deadline_s
        self._drained = metrics.drained.at()
        self._step = asyncio.Lock()

    @property
    def _logs(self) -> list[LocalLog]:
        return [self._own, *self._adoption.logs]

    @property
    def records(self) -> int:
        """Records that Kafka has not got yet, as far as is known."""
        return sum(one.spooled_records for one in self._logs)

    @property
    def used_bytes(self) -> int:
        """Bytes that the files hold."""
        return sum(one.used_bytes for one in self._logs)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest record that Kafka has not got yet, seconds; 0: there is none."""
        return max(one.oldest_s for one in self._logs)

    @property
    def refused_rows(self) -> int:
        """Rows that Kafka takes at no price."""
        return sum(one.refused_rows for one in self._logs)

    @property
    def damaged_rows(self) -> int:
        """Rows that can't be read any more."""
        return sum(one.damaged_rows for one in self._logs)

    async def look_around(self) -> None:
        """Count anew, and see whose files are left alone. Never raises for a file that can't be used."""
        # Held by whoever lives: that is how the others know whose file they must leave alone.
        self._own.lock_drain()
        await recount(self._own)
        async with self._step:
            await self._adoption.look()

    async def step(self, kafka: KafkaLog, bytes_max: int = STEP_BYTES, rate_per_s: float = math.inf) -> int:
        """
        Send the oldest rows, and wait for Kafka's word; gives their number of records, 0 when there are none.

        At least one row goes, and not more than `bytes_max` bytes, in portions at most `rate_per_s` records per second.

        Raises LogUnavailable when Kafka did not acknowledge within the deadline.
        """
        async with self._step:
            for one in self._logs:
                sent = await drain_step(one, kafka, bytes_max, self._ack_deadline_s, rate_per_s)
                self._drained.n += sent.drained
                if sent.records:
                    return sent.records
            return 0


class Sent(NamedTuple):
    """What one step brought: `records` that left the spool, or are out of its way, and how many Kafka took."""

    records: int = 0
    drained: int = 0


class Portion:
    """Rows that go to Kafka in one request."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.partitions: dict[int, list[Record]] = {}

    @property
    def records(self) -> int:
        """How many go to Kafka."""
        return sum(map(len, self.partitions.values()))

    def add(self, batches: Sequence[PartitionBatch], record_bytes_max: int) -> int:
        """Take what Kafka takes of a row; gives how many records that is."""
        fitting = 0
        for batch in batches:
            fit = [record for record in batch.records if _weight(record) <= record_bytes_max]
            self.partitions.setdefault(batch.partition, []).extend(fit)
            self.size_bytes += sum(map(_weight, fit))
            fitting += len(fit)
        return fitting


async def drain_step(
    local: LocalLog, kafka: KafkaLog, bytes_max: int, ack_deadline_s: float, rate_per_s: float = math.inf
) -> Sent:
    """
    Send the oldest rows of one file, if this process may; see Spool.step.

    Raises LogUnavailable when Kafka did not acknowledge a portion of them within `ack_deadline_s`.
    """
    if not local.spooled_records or not local.lock_drain():
        return Sent()
    try:
        rows = await local.oldest(bytes_max)
    except LogUnavailable as error:
        # The disk's trouble is not Kafka's: live traffic goes on, and this is tried again.
        log.warning("the local log can't be drained now: %s", error)
        return Sent()
    if not rows:
        await recount(local)
        return Sent()
    topic = rows[0][1]
    ids: list[int] = []
    refused: list[int] = []
    records = 0
    portions = [Portion()]
    for number, row_topic, batches in rows:
        if row_topic != topic:
            break
        if portions[-1].size_bytes >= PORTION_BYTES:
            portions.append(Portion())
        held = sum(len(batch.records) for batch in batches)
        records += held
        (ids if portions[-1].add(batches, kafka.record_bytes_max) == held else refused).append(number)
    drained = 0
    for portion in portions:
        began = time.monotonic()
        await _send(kafka, topic, portion, ack_deadline_s)
        drained += portion.records
        if portion is not portions[-1]:
            # Between two of them it is live traffic's turn.
            await asyncio.sleep(max(0.0, began + portion.records / rate_per_s - time.monotonic()))
    try:
        if refused:
            await _put_aside(local, refused, kafka.record_bytes_max)
        await local.remove(ids, records)
    except LogUnavailable as error:
        log.warning("drained rows could not be removed and will be sent again: %s", error)
        await asyncio.sleep(1.0)
    if local.spooled_records == 0:
        await recount(local)
    return Sent(records, drained)


async def _send(kafka: KafkaLog, topic: str, portion: Portion, ack_deadline_s: float) -> None:
    """Raises LogUnavailable when Kafka did not acknowledge within the deadline."""
    batches = [PartitionBatch(number, lane) for number, lane in portion.partitions.items()]
    try:
        async with asyncio.timeout(ack_deadline_s):
            await kafka.append(topic, batches)
    except TimeoutError:
        raise LogUnavailable(
            f"no acknowledgement of the drain's records within {ack_deadline_s:g} s"
        ) from None


async def _put_aside(local: LocalLog, rows: Sequence[int], record_bytes_max: int) -> None:
    """Rows with records that Kafka takes at no price stay; what it takes of them it has got."""
    log.error(
        "rows %s of %s stay there: each has a record of more than the %d bytes that Kafka takes "
        "(max.message.bytes); all others of their records are on Kafka",
        ", ".join(map(str, rows)),
        local.path,
        record_bytes_max,
    )
    await local.refuse(rows)


def _weight(record: Record) -> int:
    """What it takes in a batch, as a lane counts it."""
    return len(record.value) + len(record.key) + RECORD_BYTES


async def recount(local: LocalLog) -> None:
    """What is left, as the file has it: another process may have added or drained."""
    try:
        await local.count()
    except LogUnavailable as error:
        log.warning("the local log can't be counted now: %s", error)
