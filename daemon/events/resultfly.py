"""
ResultFly CDP: its events, what is asked of them, and its answers (contracts B and 0.3).

What an event type's contract asks of `properties` stands in `daemon.events.contract`; here they stay the
bytes that came.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from daemon.events.contacts import normal_email, normal_phone
from daemon.events.contract.definition import EVENT_TYPE_CHARS_MAX
from daemon.events.contract.validator import Validator
from daemon.events.envelope import Channel, Envelope, Identifier
from daemon.events.outcome import Outcome
from daemon.events.payload import (
    ID_CHARS_MAX,
    InvalidPayload,
    JsonReader,
    NotJson,
    optional_object,
    optional_time,
    required_text,
)

#: Every error code that is ever sent, with its HTTP status (contracts 0.3.28). `request_timeout` is the one that the
#: product's own documents don't have.
STATUSES: dict[str, int] = {
    "malformed_json": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "event_conflict": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "validation_failed": 422,
    "unknown_event_type": 422,
    "rate_limited": 429,
    "unavailable": 503,
}

#: How a refused request is answered where the refusal itself does not say: outcome → error code. What is wrong in a
#: body that could be read says so (`validation_failed`, `unknown_event_type`).
CODES: dict[Outcome, str] = {
    Outcome.INVALID_PAYLOAD: "malformed_json",
    Outcome.INVALID_KEY: "invalid_api_key",
    Outcome.FORBIDDEN: "forbidden",
    Outcome.CONFLICT: "event_conflict",
    Outcome.TIMEOUT: "request_timeout",
    Outcome.TOO_LARGE: "payload_too_large",
    Outcome.UNSUPPORTED: "unsupported_media_type",
    Outcome.RATE_LIMITED: "rate_limited",
    Outcome.UNAVAILABLE: "unavailable",
}

#: What a key may be allowed.
EVENTS_WRITE = "cdp:events:write"
CONTRACTS_WRITE = "cdp:contracts:write"
CONTRACTS_READ = "cdp:contracts:read"
SCOPES = (EVENTS_WRITE, CONTRACTS_WRITE, CONTRACTS_READ)

#: The documented text.
NO_IDENTITY = "identity.externalUserId, identity.email, identity.phone, or identity.deviceKey is required"


# --- answers ----------------------------------------------------------------------------------------


class Accepted(Struct, frozen=True, tag_field="status", tag="accepted"):
    """The event is durable."""

    event_id: Annotated[
        str, Meta(description="`evt_` and 26 characters: the same for the same event, for ever.")
    ]


class Duplicate(Struct, frozen=True, tag_field="status", tag="duplicate"):
    """It was durable before: the event was not published again."""

    original_event_id: Annotated[str, Meta(description="The id that the first one was given.")]


class ErrorAnswer(Struct, frozen=True, tag_field="status", tag="error"):
    """What was wrong: a code for programs, a message for people that names the field and what to do."""

    error_code: str
    message: str


Answer = Accepted | Duplicate | ErrorAnswer


class BatchAnswer(Struct, frozen=True):
    """The answer to a batch: what became of each item, in their order."""

    results: list[Answer]


encode_answer = msgspec.json.Encoder().encode


# --- events -----------------------------------------------------------------------------------------


def _says(text: str, **schema: Any) -> Meta:
    # No constraint of msgspec's own: `check` words what is wrong better, and this costs decoding nothing.
    return Meta(description=text, extra_json_schema=schema or None)


class Identity(Struct, gc=False):
    """Who the event is of. Empty ones count as absent; other members do not count and are not kept."""

    externalUserId: Annotated[
        str | UnsetType,
        _says("The user's id in the sender's system. Case-sensitive.", maxLength=ID_CHARS_MAX),
    ] = UNSET
    email: Annotated[
        str | UnsetType, _says("An e-mail address; compared in lower case.", maxLength=ID_CHARS_MAX)
    ] = UNSET
    phone: Annotated[
        str | UnsetType,
        _says("A phone number; compared as E.164. Without a calling code it is one of the tenant's region.",
              maxLength=ID_CHARS_MAX),
    ] = UNSET  # fmt: skip
    deviceKey: Annotated[
        str | UnsetType, _says("A device's or an app's key. Case-sensitive.", maxLength=ID_CHARS_MAX)
    ] = UNSET


#: `properties` that are not there; every event without them has this very object.
_NOTHING = Raw(b"")


class Event(Struct, gc=False):
    """One event as callers send it; unknown members are left out."""

    source: Annotated[
        str, _says("The system that it happened in, such as `brand.pos`.", maxLength=ID_CHARS_MAX)
    ]
    externalEventId: Annotated[
        str,
        _says(
            "The event's own id in that system: copies with it are duplicates, for ever.",
            maxLength=ID_CHARS_MAX,
        ),
    ]
    eventType: Annotated[
        str,
        _says(
            "A registered event type; its contract says what `properties` hold.",
            maxLength=EVENT_TYPE_CHARS_MAX,
        ),
    ]
    identity: Identity | UnsetType = UNSET
    occurredAt: Annotated[
        str | None, _says("When it happened, ISO 8601. Default: when it was received.", format="date-time")
    ] = None
    properties: Annotated[Raw, _says("What the event type's contract asks for.", type=["object", "null"])] = (
        _NOTHING
    )


class Batch(Struct, gc=False):
    """The body of /v1/cdp/events/batch: each item is decoded by itself, so that a bad one fails alone."""

    items: Annotated[list[Raw], _says("The events.")]


class ItemTooLarge(InvalidPayload):
    """An item of a batch is over its limit (`payload_too_large`)."""


class UnknownEventType(InvalidPayload):
    """No contract of the tenant names the event's type (`unknown_event_type`)."""


def code_of(error: InvalidPayload) -> str:
    """The error code for what is wrong with a body or with an item of one."""
    match error:
        case NotJson():
            return "malformed_json"
        case ItemTooLarge():
            return "payload_too_large"
        case UnknownEventType():
            return "unknown_event_type"
    return "validation_failed"


_events = JsonReader.of(Event)
_batches = JsonReader.of(Batch, depth_max=0)


def decode(body: bytes) -> Event:
    """One event out of a request body. Raises NotJson, InvalidPayload."""
    event: Event = _events.read(body)
    _check(event, body)
    return event


def decode_batch(body: bytes, items_max: int) -> list[Raw]:
    """The items of a batch, still encoded. Raises NotJson, InvalidPayload."""
    items: list[Raw] = _batches.read(body).items
    if not items:
        raise InvalidPayload("items must hold at least one event", "items")
    if len(items) > items_max:
        raise InvalidPayload(f"items holds {len(items)} events; at most {items_max} are taken", "items")
    return items


def decode_item(item: Raw, bytes_max: int) -> Event:
    """One item of a batch that `decode_batch` gave. Raises InvalidPayload."""
    data = bytes(item)
    if len(data) > bytes_max:
        raise ItemTooLarge(f"the event is over {bytes_max} bytes")
    try:
        event: Event = _events.read_part(data)
        _check(event, data)
        return event
    except InvalidPayload as error:
        raise InvalidPayload(error.message.replace("the body", "the event", 1), error.field) from None


def _check(event: Event, body: bytes) -> None:
    """The rules for one event, without its contract's. Empty optional strings become None. Raises InvalidPayload."""
    required_text(event.source, "source", ID_CHARS_MAX)
    required_text(event.externalEventId, "externalEventId", ID_CHARS_MAX)
    required_text(event.eventType, "eventType", EVENT_TYPE_CHARS_MAX)
    if event.occurredAt is not None:
        event.occurredAt = optional_time(event.occurredAt, "occurredAt")
    if event.properties is not _NOTHING:
        event.properties = optional_object(event.properties, "properties") or _NOTHING
    if b"\\u0000" in body:
        _check_nuls(event)


def _check_nuls(event: Event) -> None:
    """Ids are compared and stored as text, and text has no NUL character in too many places."""
    named = [(name, getattr(event, name)) for name in ("source", "externalEventId", "eventType")]
    if isinstance(event.identity, Identity):
        named += [
            (f"identity.{name}", value) for name, value in msgspec.structs.asdict(event.identity).items()
        ]
    for name, value in named:
        if isinstance(value, str) and "\0" in value:
            raise InvalidPayload(f"{name} must not hold a NUL character", name)


def check_contract(event: Event, contracts: Mapping[str, Validator]) -> None:
    """Whether the event is what its type's contract asks for. Raises UnknownEventType, InvalidPayload."""
    validator = contracts.get(event.eventType)
    if validator is None:
        raise UnknownEventType(
            f"eventType {event.eventType!r} is not registered; put a contract at /v1/cdp/contracts/{{eventType}} first",
            "eventType",
        )
    validator.check(None if event.properties is _NOTHING else event.properties)


# --- identity ---------------------------------------------------------------------------------------


def identifiers(event: Event, region: str) -> list[Identifier]:
    """
    Who the event is of, typed and normalised, the highest precedence first (contracts B.7); at least one.

    `region` is the country whose national notation phones may be in ("": none). Raises InvalidPayload.
    """
    identity = event.identity
    found: list[Identifier] = []
    if isinstance(identity, Identity):
        if given := _given(identity.externalUserId, "identity.externalUserId"):
            found.append(Identifier("EXTERNAL", given))
        if given := _given(identity.email, "identity.email"):
            found.append(Identifier("EMAIL", _email(given)))
        if given := _given(identity.phone, "identity.phone"):
            found.append(Identifier("PHONE", _phone(given, region)))
        if given := _given(identity.deviceKey, "identity.deviceKey"):
            found.append(Identifier("DEVICE_KEY", given))
    if not found:
        raise InvalidPayload(NO_IDENTITY, "identity")
    return found


def _given(value: str | UnsetType, field: str) -> str:
    """`value`; empty where it is absent or blank."""
    if not isinstance(value, str) or not value.strip():
        return ""
    if len(value) > ID_CHARS_MAX:
        raise InvalidPayload(f"{field} is longer than {ID_CHARS_MAX} characters", field)
    return value


def _email(given: str) -> str:
    email = normal_email(given)
    local, at, host = email.rpartition("@")
    if not (local and at and host) or any(character.isspace() for character in email):
        # profiles are merged by it: what is no address ("none", "n/a") would make one person of many
        raise InvalidPayload("identity.email must be an e-mail address", "identity.email")
    return email


def _phone(given: str, region: str) -> str:
    phone = normal_phone(given, region)
    if phone is None:
        raise InvalidPayload("identity.phone must hold the digits of a phone number", "identity.phone")
    return phone


# --- the event's id and envelope --------------------------------------------------------------------

#: Pairs of characters of RFC 4648's base32, in lower case, for ten bits at a time.
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
#: 26 characters: the first 130 of the first 136 bits.
_SHIFTS = tuple(range(126, 5, -10))


def event_id(tenant: str, source: str, external_event_id: str) -> str:
    """
    The id of an event: the same for ever, in every installation (contracts 0.3.26).

    SHA-256 over the three, each in UTF-8 after its length in bytes and a colon, so that `a|bc` is not `ab|c`.
    """
    state = sha256()
    for part in (tenant, source, external_event_id):
        data = part.encode()
        state.update(b"%d:%b" % (len(data), data))
    bits = int.from_bytes(state.digest()[:17])
    return "evt_" + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


class Received(Struct, gc=False):
    """What the gateway adds to an event."""

    id: str
    tenant: str
    channel: Channel
    received_at: str
    identity: list[Identifier]


def to_envelope(event: Event, received: Received) -> Envelope:
    """The canonical envelope of a checked event (contracts A.7)."""
    envelope = Envelope(
        id=received.id,
        contract="resultfly",
        channel=received.channel,
        tenant=received.tenant,
        source=event.source,
        type="track",
        event=event.eventType,
        identity=received.identity,
        timestamp=event.occurredAt or received.received_at,
        receivedAt=received.received_at,
        messageId=event.externalEventId,
    )
    if event.properties is not _NOTHING:
        envelope.properties = event.properties
    return envelope
