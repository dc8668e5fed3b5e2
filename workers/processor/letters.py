"""Dead letters on their way to the log: through the publishers, as everything that is written there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from daemon.actors.outbox import Outbox
from daemon.events.deadletter import DeadLetter
from daemon.events.envelope import partition_of
from daemon.observe.metrics import Cell
from daemon.ports import PartitionBatch, Record
from workers.processor.patience import Patience

#: Bytes of letters that are on their way at once.
CHUNK_BYTES = 4 * 1024 * 1024


class DeadLetters:
    """Writes letters to `topic`; works with Kafka, with the local log, and over outages of either."""

    def __init__(self, outbox: Outbox, topic: str, retries: Cell) -> None:
        self._outbox = outbox
        self._topic = topic
        self._retries = retries

    async def send(self, letters: Sequence[DeadLetter], patience: Patience) -> None:
        """Make all of them durable, however long that takes. Raises GivenUp when `patience` ends."""
        for chunk in _chunks(letters):
            await patience.insist(partial(self._write, chunk), self._retries)

    async def _write(self, letters: Sequence[DeadLetter]) -> None:
        now_ms = int(time.time() * 1000)
        partitions = self._outbox.partitions(self._topic)
        lanes: dict[int, list[Record]] = {}
        for letter in letters:
            key = letter.id.encode()
            record = Record(key, letter.body, letter.id, "", "dead_letter", "", now_ms)
            lanes.setdefault(partition_of(key, partitions), []).append(record)
        batches = [PartitionBatch(partition, records) for partition, records in lanes.items()]
        await self._outbox.publish(
            self._topic, batches, len(letters), sum(len(letter.body) for letter in letters)
        )


def _chunks(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    chunk: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if chunk and size + len(letter.body) > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += len(letter.body)
    if chunk:
        yield chunk
