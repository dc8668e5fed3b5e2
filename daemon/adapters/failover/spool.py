"""
From the local log to Kafka: oldest first, paced, row by row taken away when Kafka has it.

A crash between Kafka's acknowledgement and the removal sends rows twice; their records carry the same
ids, so readers drop the copies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from daemon.adapters.kafka.lanes import RECORD_BYTES
from daemon.adapters.kafka.log import KafkaLog
from daemon.adapters.local.log import LocalLog
from daemon.errors import LogUnavailable
from daemon.observe.catalog import PublisherMetrics
from daemon.ports import PartitionBatch, Record

log = logging.getLogger(__name__)

#: Bytes of rows that go to Kafka in one step: live traffic waits behind one step at most.
STEP_BYTES = 512 * 1024


class Spool:
    """
    Drains local logs, one after the other: the publisher's own, then those of slots that are no more.

    One step at a time, whoever asks.
    """

    def __init__(self, logs: Sequence[LocalLog], ack_deadline_s: float, metrics: PublisherMetrics) -> None:
        self._logs = list(logs)
        self._ack_deadline_s = ack_deadline_s
        self._drained = metrics.drained.at()
        self._step = asyncio.Lock()

    @property
    def records(self) -> int:
        """Records that Kafka has not got yet, as far as is known."""
        return sum(one.spooled_records for one in self._logs)

    async def step(self, kafka: KafkaLog, bytes_max: int = STEP_BYTES) -> int:
        """
        Send the oldest rows, and wait for Kafka's word; gives their number of records, 0 when there are none.

        At least one row goes, and not more than `bytes_max` bytes.

        Raises LogUnavailable when Kafka did not acknowledge within the deadline.
        """
        async with self._step:
            for one in self._logs:
                sent = await self._step_of(one, kafka, bytes_max)
                if sent:
                    return sent
            return 0

    async def _step_of(self, local: LocalLog, kafka: KafkaLog, bytes_max: int) -> int:
        if not local.spooled_records or not local.lock_drain():
            return 0
        try:
            rows = await local.oldest(bytes_max)
        except LogUnavailable as error:
            # The disk's trouble is not Kafka's: live traffic goes on, and this is tried again.
            log.warning("the local log can't be drained now: %s", error)
            return 0
        if not rows:
            await _recount(local)
            return 0
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
            async with asyncio.timeout(self._ack_deadline_s):
                await kafka.append(
                    topic, [PartitionBatch(number, lane) for number, lane in partitions.items()]
                )
        except TimeoutError:
            raise LogUnavailable(
                f"no acknowledgement of the drain's records within {self._ack_deadline_s:g} s"
            ) from None
        self._drained.n += sum(map(len, partitions.values()))
        try:
            if refused:
                await self._put_aside(local, refused, kafka.record_bytes_max)
            await local.remove(ids, records)
        except LogUnavailable as error:
            log.warning("drained rows could not be removed and will be sent again: %s", error)
            await asyncio.sleep(1.0)
        if local.spooled_records == 0:
            await _recount(local)
        return records

    async def _put_aside(self, local: LocalLog, rows: Sequence[int], record_bytes_max: int) -> None:
        """Rows with records that Kafka takes at no price stay; what it takes of them it has got."""
        log.error(
            "rows %s of %s stay there: each has a record of more than the %d bytes that Kafka takes "
            "(max.message.bytes); all others of their records are on Kafka",
            ", ".join(map(str, rows)),
            local.path,
            record_bytes_max,
        )
        await local.refuse(rows)

    def stop(self) -> None:
        """Let the slot's other process drain."""
        for one in self._logs:
            one.unlock_drain()


def _weight(record: Record) -> int:
    """What it takes in a batch, as a lane counts it."""
    return len(record.value) + len(record.key) + RECORD_BYTES


async def _recount(local: LocalLog) -> None:
    """What is left, as the file has it: the slot's other process may have added or drained."""
    try:
        await local.count()
    except LogUnavailable as error:
        log.warning("the local log can't be counted now: %s", error)
