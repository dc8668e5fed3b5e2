"""
What of an envelope becomes a row: the processor's reading of a record of the log.

The door has checked and normalised everything; nothing is normalised again here. What stands on the log may
still come from elsewhere, or from another version: a record that is no envelope is Poison, with its reason,
and of an envelope only what identifies it has to be right. Everything else becomes a column where it fits
and nothing where it does not: the envelope itself is kept whole, so nothing is lost by that.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from daemon.events.envelope import SCHEMA, Contract

#: Characters of a column that is for looking things up; the envelope has the whole text.
COLUMN_CHARS_MAX = 512

#: Characters of an id and of a tenant's name: they are keys, so they are never cut.
KEY_CHARS_MAX = 255

#: Identifiers of one event that are looked at.
IDENTIFIERS_MAX = 16

#: Characters of what is wrong with a record.
DETAILS_CHARS_MAX = 1000

#: Receipt times before this are no receipt times: Headgate is younger.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
#: How far a receipt may be ahead of our own clock.
_AHEAD = timedelta(days=1)
#: What an event says of its own time is kept within what PostgreSQL and Python both know well.
_YEARS = range(1900, 2200)


class Reason(StrEnum):
    """Why a record can't be stored. The values stand in `error` of a dead letter and on a metric."""

    NOT_JSON = "not_json"
    SCHEMA = "schema_validation_failed"
    VERSION = "unknown_schema_version"
    REFUSED = "refused_by_store"
    UNREADABLE = "unreadable_row"


class Poison(Exception):
    """A record that can't be stored, however often it is tried."""

    def __init__(self, reason: Reason, details: str) -> None:
        # what the record holds is told with escapes, and a letter must stay smaller than the topic's limit
        details = details if len(details) <= DETAILS_CHARS_MAX else f"{details[:DETAILS_CHARS_MAX]}…"
        super().__init__(f"{reason}: {details}")
        self.reason = reason
        self.details = details


class Identifier(NamedTuple):
    """One identifier of a person: EXTERNAL, EMAIL, PHONE or DEVICE_KEY, and its value as it is compared."""

    type: str
    value: str


class StoredEvent(Struct, frozen=True, gc=False):
    """
    One event as it is stored.

    `key` is 128 bits of a hash of `id` as 32 hex digits. Times are aware. `identity` is empty for all contracts
    but ResultFly. `envelope` is the record's value, untouched.
    """

    key: str
    id: str
    received_at: datetime
    occurred_at: datetime
    tenant: str
    contract: str
    channel: str | None
    source: str
    type: str
    name: str | None
    message_id: str | None
    user_id: str | None
    anonymous_id: str | None
    identity: tuple[Identifier, ...]
    envelope: bytes

    @property
    def lasting(self) -> bool:
        """Whether its id is remembered for ever (contracts 0.1.5)."""
        return self.contract == "resultfly"


_Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)]


class _Identity(Struct, gc=False):
    type: str
    value: str


class _Head(Struct, gc=False):
    """What every envelope must have."""

    id: _Key
    schema: int
    contract: Contract
    tenant: _Key
    source: str
    type: str


class _Envelope(_Head, gc=False):
    """An envelope as Headgate writes it; the rest of it is checked for syntax only."""

    channel: str | None = None
    event: str | None = None
    name: str | None = None
    messageId: str | None = None
    userId: str | None = None
    anonymousId: str | None = None
    timestamp: str | None = None
    receivedAt: str | None = None
    identity: list[_Identity] | None = None


_NULL = Raw(b"null")


class _Loose(_Head, gc=False):
    """An envelope in which something beside the head is not as Headgate writes it."""

    channel: Raw = _NULL
    event: Raw = _NULL
    name: Raw = _NULL
    messageId: Raw = _NULL
    userId: Raw = _NULL
    anonymousId: Raw = _NULL
    timestamp: Raw = _NULL
    receivedAt: Raw = _NULL
    identity: Raw = _NULL


class _Version(Struct, gc=False):
    schema: Any = None


_decoder = msgspec.json.Decoder(_Envelope)
_loose_decoder = msgspec.json.Decoder(_Loose)
_version_decoder = msgspec.json.Decoder(_Version)
_text_decoder = msgspec.json.Decoder(str)
_list_decoder = msgspec.json.Decoder(list[Raw])
_identity_decoder = msgspec.json.Decoder(_Identity)


def read(value: bytes, timestamp_ms: int, now: datetime) -> StoredEvent:
    """
    The event in a record's value.

    `timestamp_ms` (the record's own time, Unix milliseconds) stands in for a receipt time that is missing or
    impossible, and `now` for that. Raises Poison.
    """
    envelope = _decoded(value)
    if envelope.schema != SCHEMA:
        raise Poison(
            Reason.VERSION, f"the envelope has schema {envelope.schema}, this Headgate knows {SCHEMA}"
        )
    if "\0" in envelope.id or "\0" in envelope.tenant:
        raise Poison(Reason.SCHEMA, "id and tenant can't hold the character U+0000")
    received_at = _received_at(envelope.receivedAt, timestamp_ms, now)
    identity: tuple[Identifier, ...] = ()
    if envelope.identity is not None and envelope.contract == "resultfly":
        identity = tuple(Identifier(one.type, one.value) for one in envelope.identity[:IDENTIFIERS_MAX])
    return StoredEvent(
        key=event_key(envelope.id),
        id=envelope.id,
        received_at=received_at,
        occurred_at=_time(envelope.timestamp) or received_at,
        tenant=envelope.tenant,
        contract=envelope.contract,
        channel=_column(envelope.channel),
        source=_column(envelope.source) or "",
        type=_column(envelope.type) or "",
        name=_column(envelope.event if envelope.event is not None else envelope.name),
        message_id=_column(envelope.messageId),
        user_id=_column(envelope.userId),
        anonymous_id=_column(envelope.anonymousId),
        identity=identity,
        envelope=value,
    )


def event_key(event_id: str) -> str:
    """What an event's id is remembered by: 128 bits of BLAKE2b as 32 hex digits."""
    return blake2b(event_id.encode(), digest_size=16).hexdigest()


def is_json(value: bytes) -> bool:
    """Whether `value` is JSON that can stand inside other JSON as it is."""
    try:
        value.decode()
        msgspec.json.decode(value, type=Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _decoded(value: bytes) -> _Envelope:
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look at the bytes of what it passes over
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        return _loosely(value, str(error))
    except UnicodeDecodeError as error:
        raise Poison(Reason.NOT_JSON, f"not UTF-8: invalid byte at position {error.start}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Poison(Reason.NOT_JSON, str(error) or type(error).__name__) from None


def _loosely(value: bytes, problem: str) -> _Envelope:
    """The same, for an envelope of which something is not as it should be; `problem` says what."""
    try:
        loose = _loose_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        version = _version_of(value)
        if version is not None and version != SCHEMA:
            raise Poison(
                Reason.VERSION, f"the envelope has schema {version!r}, this Headgate knows {SCHEMA}"
            ) from None
        raise Poison(Reason.SCHEMA, str(error) or problem) from None
    return _Envelope(
        id=loose.id,
        schema=loose.schema,
        contract=loose.contract,
        tenant=loose.tenant,
        source=loose.source,
        type=loose.type,
        channel=_text(loose.channel),
        event=_text(loose.event),
        name=_text(loose.name),
        messageId=_text(loose.messageId),
        userId=_text(loose.userId),
        anonymousId=_text(loose.anonymousId),
        timestamp=_text(loose.timestamp),
        receivedAt=_text(loose.receivedAt),
        identity=_identities(loose.identity),
    )


def _version_of(value: bytes) -> object:
    """The `schema` of something that is no envelope; None where there is none that can be named."""
    try:
        version = _version_decoder.decode(value).schema
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return version if isinstance(version, int | float | str) else None


def _text(raw: Raw) -> str | None:
    """`raw` if it is a text."""
    try:
        return _text_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _identities(raw: Raw) -> list[_Identity]:
    """Those entries that are identifiers."""
    found = []
    try:
        for entry in _list_decoder.decode(raw)[:IDENTIFIERS_MAX]:
            try:
                found.append(_identity_decoder.decode(entry))
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                continue
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
    return found


def _column(text: str | None) -> str | None:
    """`text` as a column takes it."""
    if text is None:
        return None
    if len(text) > COLUMN_CHARS_MAX:
        text = text[:COLUMN_CHARS_MAX]
    return cleaned(text) if "\0" in text else text


def cleaned(text: str) -> str:
    """`text` without the one character that PostgreSQL has no place for."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _received_at(text: str | None, timestamp_ms: int, now: datetime) -> datetime:
    latest = now + _AHEAD
    found = _time(text)
    if found is not None and _EARLIEST <= found <= latest:
        return found
    try:
        found = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return now
    return found if _EARLIEST <= found <= latest else now


def _time(text: str | None) -> datetime | None:
    """ISO 8601 as a moment; without an offset it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year not in _YEARS:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
