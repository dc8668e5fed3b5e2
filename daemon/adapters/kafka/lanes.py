"""
What waits for Kafka, partition by partition.

A lane has at most one batch on its way; what comes in meanwhile is the next batch. So batches grow
with the load by themselves, nobody lingers, and the order holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from daemon.ports import Record

#: Bytes after which a batch takes no more records. Bigger batches cost no less per record, and 12 partitions
#: of this size are far below what a broker takes as one request (socket.request.max.bytes, 100 MiB).
BATCH_BYTES = 512 * 1024

#: What a record weighs in a batch beside key and value: headers, timestamps, lengths. An estimate from above.
RECORD_BYTES = 256


class Builder(Protocol):
    """The part of aiokafka's BatchBuilder that is used here."""

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> object | None:
        """Add a record; None when it does not fit any more."""
        ...


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
    """One partition."""

    __slots__ = ("busy", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.busy = False
        self.waiting: deque[tuple[Whole, list[Record]]] = deque()

    def fill(
        self, builder: Builder, headers: Headers, record_bytes_max: int
    ) -> tuple[list[Whole], int, Whole | None]:
        """
        Move what waits into `builder` until that is full.

        Gives the appends whose parts are in it (one entry per part), its bytes (roughly), and the append
        whose first record is too big for any batch, if there is one.
        """
        taken: list[Whole] = []
        size = 0
        append = builder.append
        while self.waiting:
            whole, records = self.waiting.popleft()
            if whole.future.done():
                continue  # given up by its caller, who has put it somewhere else
            for index, record in enumerate(records):
                weight = len(record.value) + len(record.key) + RECORD_BYTES
                first = not taken and not index
                # Looked at here: a builder takes its first record whatever its size.
                if first and weight > record_bytes_max:
                    return [], 0, whole
                full = not first and size + weight > min(BATCH_BYTES, record_bytes_max)
                if full or (
                    append(
                        timestamp=record.timestamp_ms,
                        key=record.key,
                        value=record.value,
                        headers=headers.of(record),
                    )
                    is None
                ):
                    self.waiting.appendleft((whole, records[index:]))
                    if index:
                        whole.left += 1
                        taken.append(whole)
                    return taken, size, None
                size += weight
            taken.append(whole)
        return taken, size, None


class Headers:
    """
    Headers of records: id, contract, type, tenant.

    The last three come in few combinations, so they are encoded once and remembered, up to a bound.
    """

    REMEMBERED_MAX = 4096

    def __init__(self) -> None:
        self._known: dict[
            tuple[str, str, str], tuple[tuple[str, bytes], tuple[str, bytes], tuple[str, bytes]]
        ] = {}

    def of(self, record: Record) -> list[tuple[str, bytes]]:
        """The headers of `record`."""
        kind = (record.contract, record.type, record.tenant)
        rest = self._known.get(kind)
        if rest is None:
            if len(self._known) >= self.REMEMBERED_MAX:
                self._known.clear()
            rest = self._known[kind] = (
                ("contract", record.contract.encode()),
                ("type", record.type.encode()),
                ("tenant", record.tenant.encode()),
            )
        return [("id", record.id.encode()), *rest]
