"""
What waits for Kafka, partition by partition.

A lane has at most one batch on its way; what comes in meanwhile is the next batch. So batches grow
with the load by themselves, nobody lingers, and the order holds.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiokafka import TopicPartition

from daemon.adapters.kafka.batches import Batch
from daemon.ports import Record

#: Bytes after which a batch takes no more records. Bigger batches cost no less per record.
BATCH_BYTES = 512 * 1024

#: What a record weighs in a batch beside key and value: headers, timestamps, lengths. An estimate from above.
RECORD_BYTES = 256


class Whole:
    """One append: done when all of its parts are."""

    __slots__ = ("future", "left")

    def __init__(self, future: asyncio.Future[None], parts: int) -> None:
        self.future = future
        self.left = parts

    def done(self) -> None:
        """One part is on Kafka."""
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """One part is not on Kafka, or it is not known."""
        if not self.future.done():
            self.future.set_exception(error)


class Lane:
    """
    One partition.

    `busy` while it waits for its turn or has a batch on its way. That batch is in `pieces`, sealed, and is sent
    again as it is until there is an answer; `taken` are the appends with parts in it.
    """

    __slots__ = ("busy", "leader", "pieces", "place", "sequence", "taken", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.place = TopicPartition(topic, partition)
        self.busy = False
        #: the broker that leads the partition; below 0: to be looked up
        self.leader = -1
        self.pieces: tuple[bytes, bytes] | None = None
        self.taken: list[Whole] = []
        #: of the next record, for the broker to drop what it gets twice
        self.sequence = 0
        self.waiting: deque[tuple[Whole, list[Record]]] = deque()

    def fill(self, batch: Batch, record_bytes_max: int) -> tuple[list[Whole], Whole | None]:
        """
        Move what waits into `batch` until that is full.

        Gives the appends whose parts are in it (one entry per part), and the append whose first record
        is too big for any batch, if there is one.
        """
        taken: list[Whole] = []
        waiting = self.waiting
        bytes_max = min(BATCH_BYTES, record_bytes_max)
        while waiting:
            whole, records = waiting.popleft()
            if whole.future.done():
                continue  # given up by its caller, who has put it somewhere else
            if not batch.count:
                first = records[0]
                if len(first.value) + len(first.key) + RECORD_BYTES > record_bytes_max:
                    return [], whole
            added = batch.add(records, bytes_max, record_bytes_max)
            if not batch.count:
                return [], whole
            if added < len(records):
                waiting.appendleft((whole, records[added:]))
                if added:
                    whole.left += 1
                    taken.append(whole)
                return taken, None
            taken.append(whole)
        return taken, None
