"""
The canonical envelope: what stands on the event log, whichever contract an event came by.

The struct's field order is the order on the wire. Absent fields are left out. What the caller sent
in `properties`, `traits` and `context` passes through as the bytes that were validated as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal
from zlib import crc32

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

Contract = Literal["datafly", "resultfly", "tracklayer"]
Channel = Literal["browser", "server", "batch", "pixel", "webhook"]

#: Version of the envelope's layout.
SCHEMA = 1


class Identifier(Struct, frozen=True, gc=False):
    """Who an event is of, by one of ResultFly's identifiers; `value` is normalised (contracts B.7)."""

    type: Literal["EXTERNAL", "EMAIL", "PHONE", "DEVICE_KEY"]
    value: str


class Envelope(Struct, kw_only=True, gc=False):
    """One event in its canonical form; times are ISO 8601 in UTC except where the caller's own is kept."""

    id: str
    schema: int = SCHEMA
    contract: Contract
    channel: Channel
    tenant: str
    source: str
    type: str
    event: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    userId: str | UnsetType = UNSET
    anonymousId: str | UnsetType = UNSET
    groupId: str | UnsetType = UNSET
    previousId: str | UnsetType = UNSET
    properties: Raw | UnsetType = UNSET
    traits: Raw | UnsetType = UNSET
    context: dict[str, Any] | Raw | UnsetType = UNSET
    identity: list[Identifier] | UnsetType = UNSET
    user_data: Raw | dict[str, Any] | UnsetType = UNSET
    value: int | float | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    order_id: str | UnsetType = UNSET
    items: Raw | UnsetType = UNSET
    timestamp: str
    receivedAt: str
    sentAt: str | UnsetType = UNSET
    messageId: str | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def encode(envelope: Struct) -> bytes:
    """The envelope (an Envelope, or a struct with some of its members in its order) as JSON, UTF-8."""
    return _encoder.encode(envelope)


def derived_id(*parts: str) -> str:
    """
    The id of an event whose caller gave an id: the same parts give the same id, for ever and everywhere.

    128 bits of SHA-256 as 32 hex digits. Each part goes in with its length, so that ("a", "bc") and
    ("ab", "c") differ.
    """
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()[:32]


class IdDeriver:
    """`derived_id` for one prefix."""

    def __init__(self, *prefix: str) -> None:
        self._prefix = b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in prefix)

    def of(self, last: str) -> str:
        """The id for the prefix and `last`: equal to `derived_id(*prefix, last)`."""
        data = last.encode()
        # all at once: to copy a state that has the prefix in it, and to feed it, costs twice as much
        return hashlib.sha256(b"%b%d:%b" % (self._prefix, len(data), data)).hexdigest()[:32]


def record_key(tenant: str, visitor: str) -> bytes:
    """The record's key: one visitor of one tenant stays in one partition, and so in order."""
    return f"{tenant}/{visitor}".encode()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: CRC-32 modulo the count, as librdkafka's `consistent` partitioner has it."""
    return crc32(key) % partitions


def partitions_of(keys: Iterable[bytes], partitions: int) -> list[int]:
    """`partition_of` of each."""
    return [crc32(key) % partitions for key in keys]
