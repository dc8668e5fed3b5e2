"""
Records to rows and back: what one append puts into the file, cut so that no row is huge.

A row's body is the msgpack of its PartitionBatches. Beside it stand the numbers by which rows are
found and counted, so that nobody has to read a body for them, and a checksum: SQLite has none, and
a flipped bit in a body would otherwise go to Kafka as if it had been sent so.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from daemon.ports import PartitionBatch, Record

#: A row takes no more records after that many bytes of key and value. Bounds what a reader or the drain holds.
ROW_BYTES = 512 * 1024
ROW_RECORDS = 10_000

#: A record's offset within (log, partition) is its row's id and its place in the row: it only grows.
OFFSET_PLACES = 1 << 20

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[PartitionBatch])


class DamagedRow(ValueError):
    """A row that is not what was written."""


class Row(Struct, frozen=True, gc=False):
    """A row to be written; times are Unix milliseconds."""

    topic: str
    first_ms: int
    last_ms: int
    records: int
    body: bytes

    @property
    def checksum(self) -> int:
        """See `checksum`."""
        return checksum(self.topic, self.body)


def to_rows(topic: str, batches: Sequence[PartitionBatch]) -> list[Row]:
    """The records of one append as rows, in order."""
    rows: list[Row] = []
    part: list[PartitionBatch] = []
    size = count = 0
    first_ms, last_ms = 1 << 62, 0
    for batch in batches:
        taken: list[Record] = []
        for record in batch.records:
            if count and (size >= ROW_BYTES or count >= ROW_RECORDS):
                if taken:
                    part.append(PartitionBatch(batch.partition, taken))
                rows.append(Row(topic, first_ms, last_ms, count, _encoder.encode(part)))
                part, taken, size, count, first_ms, last_ms = [], [], 0, 0, 1 << 62, 0
            taken.append(record)
            size += len(record.value) + len(record.key)
            count += 1
            first_ms = min(first_ms, record.timestamp_ms)
            last_ms = max(last_ms, record.timestamp_ms)
        if taken:
            part.append(PartitionBatch(batch.partition, taken))
    if count:
        rows.append(Row(topic, first_ms, last_ms, count, _encoder.encode(part)))
    return rows


def checksum(topic: str, body: bytes) -> int:
    """CRC-32 over what must not change between the writing and the reading of a row."""
    return zlib.crc32(body, zlib.crc32(topic.encode()))


def read_row(topic: str, body: bytes, stored_checksum: int | None) -> list[PartitionBatch]:
    """
    What a row holds. `stored_checksum` is None in rows of versions that wrote none.

    Raises DamagedRow with the reason.
    """
    if stored_checksum is not None and stored_checksum != checksum(topic, body):
        raise DamagedRow("its checksum is wrong")
    try:
        return batches_of(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DamagedRow(f"it can't be decoded: {error}") from None


def batches_of(body: bytes) -> list[PartitionBatch]:
    """What a row holds. Raises msgspec.DecodeError for a body that is not ours."""
    return _decoder.decode(body)
