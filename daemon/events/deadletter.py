"""
Dead letters: what stands on the topic `dlq-events` for a record that can't be stored (contracts A.10).

    {"error": "schema_validation_failed", "details": "…", "original_event": {…},
     "log": "raw-events", "partition": 3, "offset": 1042}

An original that is no JSON stands there as base64, with `"original_encoding": "base64"`; one that would make
the letter too large for the topic is cut, with `"original_bytes"` saying how long it was.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from daemon.events.envelope import derived_id
from daemon.events.stored import Poison, Reason, is_json

#: Bytes of the original in a letter, as they stand there; Kafka's topics take 1 MiB by default.
ORIGINAL_BYTES_MAX = 900 * 1024


class DeadLetter(Struct, frozen=True):
    """A letter: its id (the same for the same record, however often it is written), and its bytes."""

    id: str
    reason: Reason
    body: bytes


class _Letter(Struct):
    error: str
    details: str
    original_event: Raw | str
    log: str
    partition: int
    offset: int
    original_encoding: Literal["base64"] | UnsetType = UNSET
    original_bytes: int | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def dead_letter(poison: Poison, value: bytes, log: str, partition: int, offset: int) -> DeadLetter:
    """The letter for the record at `offset` of (`log`, `partition`), whose value is `value`."""
    letter = _Letter(str(poison.reason), poison.details, "", log, partition, offset)
    if len(value) <= ORIGINAL_BYTES_MAX and is_json(value):
        letter.original_event = Raw(value)
    else:
        # Four characters for three bytes.
        kept = value[: ORIGINAL_BYTES_MAX * 3 // 4]
        letter.original_event = b64encode(kept).decode()
        letter.original_encoding = "base64"
        if len(kept) < len(value):
            letter.original_bytes = len(value)
    return DeadLetter(
        derived_id("dead-letter", log, str(partition), str(offset), str(poison.reason)),
        poison.reason,
        _encoder.encode(letter),
    )
