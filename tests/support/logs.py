"""What the event log's tests share: records, a way to read a topic whole, waiting with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from daemon.ports import LogReader, PartitionBatch, Record, StoredRecord

#: A step that takes longer than this has gone wrong.
PATIENCE_S = 30.0

NOW_MS = int(time.time() * 1000)


def record(name: str, *, size: int = 40, timestamp_ms: int | None = None, tenant: str = "acme") -> Record:
    """Make a record whose value begins with its id and is `size` bytes long."""
    value = name.encode().ljust(size, b".")
    return Record(
        f"{tenant}/visitor".encode(),
        value,
        name,
        "datafly",
        "track",
        tenant,
        timestamp_ms or int(time.time() * 1000),
    )


def batch(partition: int, *names: str) -> PartitionBatch:
    """Make a batch of small records with these ids."""
    return PartitionBatch(partition, [record(name) for name in names])


async def stored(reader: LogReader, topic: str, since_ms: int | None = None) -> list[StoredRecord]:
    """Read everything that is on the log now."""
    async with asyncio.timeout(PATIENCE_S):
        return [one async for one in reader.read(topic, since_ms, follow=False)]


def ids(found: Iterable[StoredRecord], partition: int | None = None) -> list[str]:
    """Give the ids, in order; of one partition if that is named."""
    return [one.record.id for one in found if partition is None or one.partition == partition]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        await asyncio.sleep(0.01)
