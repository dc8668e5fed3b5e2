"""
The Produce request and its answer, as aiokafka's connections take them.

aiokafka writes and reads each field by itself, 200 µs for a request over twelve partitions; here both ways are
a handful of `struct` calls. Everything else about a connection (TLS, SASL, versions, time limits) stays aiokafka's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion

_API_KEY = 0
#: From 3 on batches are of format v2; 7 is the first with zstd; what comes later tells nothing that we need.
VERSION_MIN, VERSION_MAX = 3, 7
_ACKS_ALL = -1
_NO_TRANSACTION = -1

_HEADER = struct.Struct(">hhih")
_BEGIN = struct.Struct(">hhii")
_LENGTH = struct.Struct(">h")
_COUNT = struct.Struct(">i")
_PARTITION = struct.Struct(">ii")
#: partition, error, base offset, time of the log; from version 5 on the log's first offset too
_ANSWERS = {
    3: struct.Struct(">ihqq"), 4: struct.Struct(">ihqq"), 5: struct.Struct(">ihqqq"), 6: struct.Struct(">ihqqq"),
    7: struct.Struct(">ihqqq"),
}  # fmt: skip


#: What became of one batch: topic, partition, and Kafka's code of the error, 0 for none.
Answer = tuple[str, int, int]


class _Correlation(NamedTuple):
    correlation_id: int


class _Nothing:
    """Stands for aiokafka's header: ours is in what `Produce.encode` gives, which saves a copy of it all."""

    @staticmethod
    def encode() -> bytes:
        return b""


class Produce:
    """
    One request: sealed batches, in pieces, by topic and partition, acks=all. `timeout_ms` is the broker's, for its replicas.

    It has the methods that aiokafka's connections call of a request, of its struct, and of the answer's type.
    """

    def __init__(self, timeout_ms: int, topics: Mapping[str, Sequence[tuple[int, Sequence[bytes]]]]) -> None:
        self._timeout_ms = timeout_ms
        self._topics = topics
        self._version = VERSION_MAX
        self._correlation_id = 0
        self._client_id = b""

    # --- the names below are aiokafka's

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Produce:
        """Choose the version, of those that the broker has. Raises IncompatibleBrokerVersion."""
        lowest, highest = versions.get(_API_KEY, (0, 0))
        if lowest > VERSION_MAX or highest < VERSION_MIN:
            raise IncompatibleBrokerVersion(
                f"the broker takes Produce {lowest} to {highest}, we have {VERSION_MIN} to {VERSION_MAX}"
            )
        self._version = min(highest, VERSION_MAX)
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> type[_Nothing]:
        """Keep what the header needs."""
        self._correlation_id = correlation_id
        self._client_id = client_id.encode()
        return _Nothing

    def encode(self) -> bytes:
        """Header and body."""
        name = self._client_id
        parts: list[bytes] = [
            _HEADER.pack(_API_KEY, self._version, self._correlation_id, len(name)),
            name,
            _BEGIN.pack(_NO_TRANSACTION, _ACKS_ALL, self._timeout_ms, len(self._topics)),
        ]
        for topic, batches in self._topics.items():
            encoded = topic.encode()
            parts += (_LENGTH.pack(len(encoded)), encoded, _COUNT.pack(len(batches)))
            for partition, pieces in batches:
                parts.append(_PARTITION.pack(partition, sum(map(len, pieces))))
                parts += pieces
        return b"".join(parts)

    @property
    def RESPONSE_TYPE(self) -> Produce:  # noqa: N802  aiokafka's name
        """Reads the answer: that is us, as it depends on the version."""
        return self

    @staticmethod
    def parse_response_header(stream: BytesIO) -> _Correlation:
        """The answer's header."""
        return _Correlation(*_COUNT.unpack(stream.read(_COUNT.size)))

    def decode(self, stream: BytesIO) -> list[Answer]:
        """The answer's body. Raises struct.error for one that is too short: aiokafka then closes the connection."""
        data = stream.read()
        answer = _ANSWERS[self._version]
        (topics,) = _COUNT.unpack_from(data)
        at = _COUNT.size
        found: list[Answer] = []
        for _ in range(topics):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            topic = data[at : at + length].decode()
            (count,) = _COUNT.unpack_from(data, at + length)
            at += length + _COUNT.size
            end = at + count * answer.size
            if end > len(data):
                raise struct.error(f"an answer about {count} partitions is cut short")
            found += [(topic, one[0], one[1]) for one in answer.iter_unpack(data[at:end])]
            at = end
        return found
