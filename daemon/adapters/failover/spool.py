"""
From the local log to Kafka: oldest first, paced, row by row taken away when Kafka has it.

A crash between Kafka's acknowledgement and the removal sends rows twice; their records carry the same
ids, so readers drop the copies.
"""

from __future__ import annotations

import asyncio
import logging
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

#: Bytes of rows that go to Kafka in one step: live traffic waits behind one step at most.
STEP_BYTES = 256 * 1024


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

    async def step(self, kafka: KafkaLog, bytes_max: int = STEP_BYTES) -> int:
        """
        Send the oldest rows, and wait for Kafka's word; gives their number of records, 0 when there are none.

        At least one row goes, and not more than `bytes_max` bytes.

        Raises LogUnavailable when Kafka did not acknowledge within the deadline.
        """
        async with self._step:
            for one in self._logs:
                sent = await drain_step(one, kafka, bytes_max, self._ack_deadline_s)
                self._drained.n += sent.drained
                if sent.records:
                    return sent.records
            return 0


class Sent(NamedTuple):
    """What one step brought: `records` that left the spool, or are out of its way, and how many Kafka took."""

    records: int = 0
    drained: int = 0


async def drain_step(local: LocalLog, kafka: KafkaLog, bytes_max: int, ack_deadline_s: float) -> Sent:
    """
    Send the oldest rows of one file, if this process may; see Spool.step.

    Raises LogUnavailable when Kafka did not acknowledge within `ack_deadline_s`.
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
    partitions: dict[int, list[Record]] = {}
    for number, row_topic, batches in rows:
        if row_topic != topic:
            break
        fitting = 0
        held = sum(len(batch.records) for batch in batches)
        for batch in batches:
            fit = [record for record in batch.records if _weight(record) <= kafka.record_bytes_max]
            partitions.setdefault(batch.partition, []).extend(fit)
            fitting += len(fit)
        records += held
        (ids if fitting == held else refused).append(number)
    try:
        async with asyncio.timeout(ack_deadline_s):
            await kafka.append(topic, [PartitionBatch(number, lane) for number, lane in partitions.items()])
    except TimeoutError:
        raise LogUnavailable(
            f"no acknowledgement of the drain's records within {ack_deadline_s:g} s"
        ) from None
    try:
        if refused:
            await _put_aside(local, refused, kafka.record_bytes_max)
        await local.remove(ids, records)
    except LogUnavailable as error:
        log.warning("drained rows could not be removed and will be sent again: %s", error)
        await asyncio.sleep(1.0)
    if local.spooled_records == 0:
        await recount(local)
    return Sent(records, sum(map(len, partitions.values())))


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
