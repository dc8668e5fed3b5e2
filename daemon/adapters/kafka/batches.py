"""
Kafka's record batches, format v2, written as bytes.

A batch is a head of 61 bytes and its records, one after the other; the records' part may be compressed. All
lengths and differences within a record are varints. See Kafka's protocol guide, "Record Batch". Made here and
not by aiokafka's builder because one `join` per record costs half of the builder's call, and because the
headers of our records come in few kinds, whose bytes are made once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from google_crc32c import value as crc32c

from daemon.ports import Record

#: What stands before the CRC, and it: base offset, bytes that follow, leader's epoch, format, CRC.
_BEFORE = struct.Struct(">qiibI")
#: What the CRC covers before the records: attributes, last offset's difference, first and latest timestamp,
#: producer's id and epoch, sequence number of the first record, count of records.
_COVERED = struct.Struct(">hiqqqhii")
HEAD_BYTES = _BEFORE.size + _COVERED.size
#: Bytes of the head that its own length field does not count.
_UNCOUNTED_BYTES = 12
_MAGIC = 2
_NO_LEADER_EPOCH = -1

#: Sequence numbers go on from 0 after this.
SEQUENCE_MAX = 2**31 - 1

#: A record's own frame and its four headers' fixed parts: what it takes beside what is in it, from above.
FIXED_BYTES = 64

#: The setting's word → the number in a batch's attributes, and what compresses.
_CODECS: dict[str, tuple[int, Callable[[bytes], bytes] | None]] = {
    "none": (0, None),
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}


def varint(value: int) -> bytes:
    """A signed integer of 64 bits as Kafka has it in records: zigzag, 7 bits per byte, the low ones first."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


#: The varints of small numbers: nearly all lengths are.
_SMALL = 8192
_varints = tuple(varint(value) for value in range(_SMALL))

_NO_ATTRIBUTES = b"\x00"
#: Four headers, the first of which is `id`.
_ID_HEADER = varint(4) + varint(2) + b"id"


class Kinds:
    """
    Headers after the first: contract, type, tenant.

    They come in few combinations, so their bytes are made once and remembered, up to a bound.
    """

    REMEMBERED_MAX = 4096

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], bytes] = {}

    def of(self, kind: tuple[str, str, str]) -> bytes:
        """The bytes of the three headers of `kind`."""
        found = self.known.get(kind)
        if found is None:
            if len(self.known) >= self.REMEMBERED_MAX:
                self.known.clear()
            found = self.known[kind] = b"".join(
                varint(len(name)) + name + varint(len(value)) + value
                for name, value in zip(
                    (b"contract", b"type", b"tenant"), (text.encode() for text in kind), strict=True
                )
            )
        return found


class Batch:
    """
    The records of one partition that go out together.

    `add` until it is full, then `seal`, once. `size` is what the records take, uncompressed, in bytes.
    """

    __slots__ = ("_base_ms", "_kinds", "_latest_ms", "_parts", "count", "size")

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        #: the first is the head's place
        self._parts: list[bytes] = [b""]
        self._base_ms = self._latest_ms = 0
        self.count = 0
        self.size = 0

    def add(self, records: Sequence[Record], bytes_max: int, alone_bytes_max: int = 0) -> int:
        """
        Add records in their order until the next would make `size` more than `bytes_max`; gives how many.

        The first of the batch may have `alone_bytes_max`, where that is more.
        """
        count = first = self.count
        size = self.size
        limit = bytes_max if count else max(bytes_max, alone_bytes_max)
        if not count and records:
            self._base_ms = self._latest_ms = records[0].timestamp_ms
        base_ms, latest_ms = self._base_ms, self._latest_ms
        parts, join, small = self._parts, b"".join, _varints
        known, kind_of = self._kinds.known, self._kinds.of
        contract = type_ = tenant = None
        headers = b""
        for record in records:
            key, value, name = record.key, record.value, record.id.encode()
            # One after the other they are mostly of one kind, and comparing costs less than looking up.
            if record.type != type_ or record.contract != contract or record.tenant != tenant:
                contract, type_, tenant = kind = (record.contract, record.type, record.tenant)
                headers = known.get(kind) or kind_of(kind)
            since_ms = record.timestamp_ms - base_ms
            if 0 <= since_ms < _SMALL:
                since = small[since_ms]
                # Nearly always in the order of their receipt.
                if record.timestamp_ms > latest_ms:  # noqa: PLR1730  max() is a call
                    latest_ms = record.timestamp_ms
            else:
                since = varint(since_ms)
                latest_ms = max(latest_ms, record.timestamp_ms)
            try:
                body = join(
                    (
                        _NO_ATTRIBUTES, since, small[count], small[len(key)], key, small[len(value)], value,
                        _ID_HEADER, small[len(name)], name, headers,
                    )
                )  # fmt: skip
                length = small[len(body)]
            except IndexError:
                body = join(
                    (
                        _NO_ATTRIBUTES, since, varint(count), varint(len(key)), key, varint(len(value)), value,
                        _ID_HEADER, varint(len(name)), name, headers,
                    )
                )  # fmt: skip
                length = varint(len(body))
            grown = size + len(body) + len(length)
            if grown > limit:
                break
            size, limit = grown, bytes_max
            parts += (length, body)
            count += 1
        self.count, self.size, self._latest_ms = count, size, latest_ms
        return count - first

    def seal(self, compression: str, producer_id: int, epoch: int, sequence: int) -> tuple[bytes, bytes]:
        """
        The batch as it goes to the broker, in two pieces. `sequence` is that of its first record.

        Two, because the first has the checksum of the second: one would be another copy of it all.
        """
        codec, compress = _CODECS[compression]
        parts = self._parts
        if compress is not None:
            plain = b"".join(parts)
            packed = compress(plain)
            # As other clients do: what gets no smaller goes as it is.
            if len(packed) < len(plain):
                parts = [b"", packed]
            else:
                codec = 0
        parts[0] = _COVERED.pack(
            codec, self.count - 1, self._base_ms, self._latest_ms, producer_id, epoch, sequence, self.count
        )
        covered = b"".join(parts)
        length = _BEFORE.size - _UNCOUNTED_BYTES + len(covered)
        return _BEFORE.pack(0, length, _NO_LEADER_EPOCH, _MAGIC, crc32c(covered)), covered


def sequence_after(sequence: int, count: int) -> int:
    """The sequence number that follows a batch of `count` records which began at `sequence`."""
    return (sequence + count) & SEQUENCE_MAX
