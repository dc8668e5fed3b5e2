"""
Datafly Signal: its events, what is asked of them, and its answers (contracts A and 0.2).

Decoding touches only what is read; `properties`, `traits` and the members of `context` stay the bytes
that came.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from daemon.events.envelope import SCHEMA, Channel, Contract
from daemon.events.outcome import Outcome
from daemon.events.payload import (
    ID_CHARS_MAX,
    NAME_CHARS_MAX,
    InvalidPayload,
    JsonReader,
    optional_object,
    optional_text,
    optional_time,
    required_text,
)

#: Last part of the browser endpoint's path → the type that its body must have.
BROWSER_TYPES = {"t": "track", "p": "page", "i": "identify", "g": "group"}

#: What an event may be. `screen` and `alias` come from Segment-style senders (contracts 0.2.23b).
TYPES = frozenset({"track", "page", "identify", "group", "screen", "alias"})

#: Types whose userId is linked to the visitor.
LINKING = frozenset({"identify", "alias"})

#: How a refused request is answered: outcome → HTTP status and error code (contracts 0.2.14).
ERRORS: dict[Outcome, tuple[int, str]] = {
    Outcome.INVALID_PAYLOAD: (400, "INVALID_PAYLOAD"),
    Outcome.INVALID_KEY: (401, "INVALID_PIPELINE_KEY"),
    Outcome.FORBIDDEN: (403, "ORIGIN_NOT_ALLOWED"),
    Outcome.TIMEOUT: (408, "REQUEST_TIMEOUT"),
    Outcome.TOO_LARGE: (413, "PAYLOAD_TOO_LARGE"),
    Outcome.UNSUPPORTED: (415, "UNSUPPORTED_MEDIA_TYPE"),
    Outcome.RATE_LIMITED: (429, "RATE_LIMITED"),
    Outcome.UNAVAILABLE: (503, "UNAVAILABLE"),
}

#: Codes of an outcome that has several (contracts 0.2.14).
BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
INVALID_SIGNATURE = "INVALID_SIGNATURE"
TIMESTAMP_OUT_OF_RANGE = "TIMESTAMP_OUT_OF_RANGE"

SUCCESS = b'{"success":true}'


class Success(Struct):
    """The event is durable. This is what SUCCESS says."""

    success: bool


class Problem(Struct):
    """What was wrong: a code for programs, a message for people that names the field and what to do."""

    code: str
    message: str


class ErrorAnswer(Struct):
    """The body of a refusal."""

    error: Problem


def error_body(code: str, message: str) -> bytes:
    """`{"error":{"code":…,"message":…}}`."""
    return msgspec.json.encode(ErrorAnswer(Problem(code, message)))


class ItemError(Struct, frozen=True):
    """Why an item of a batch was not taken."""

    index: Annotated[int, Meta(description="Position in `batch`, counted from 0.", ge=0)]
    message: str


class BatchAnswer(Struct):
    """The answer to a batch: how many were taken, and what was wrong with the others."""

    success: bool
    accepted: Annotated[int, Meta(description="Events that are durable, duplicates included.", ge=0)]
    errors: Annotated[
        list[ItemError] | UnsetType,
        Meta(description="Only where some were not taken, in the order of their positions."),
    ] = UNSET


#: `properties` and `traits` that are not there; every event without them has this very object.
_NOTHING = Raw(b"")


def _says(text: str, **schema: Any) -> Meta:
    # No constraint of msgspec's own: `check` words what is wrong better, and this costs decoding nothing.
    return Meta(description=text, extra_json_schema=schema or None)


class Event(Struct, gc=False):
    """One Datafly event as callers send it; unknown members are left out."""

    type: Annotated[str, _says("What kind of event this is.")]
    event: Annotated[str | None, _says("Name of what happened.", maxLength=NAME_CHARS_MAX)] = None
    name: Annotated[str | None, _says("Name of the page or screen.", maxLength=NAME_CHARS_MAX)] = None
    userId: Annotated[str | None, _says("The user, once known.", maxLength=ID_CHARS_MAX)] = None
    anonymousId: Annotated[
        str | None,
        _says(
            "The visitor. From a browser it counts only where no `_dfid` cookie came.", maxLength=ID_CHARS_MAX
        ),
    ] = None
    groupId: Annotated[str | None, _says("The group (company, team).", maxLength=ID_CHARS_MAX)] = None
    previousId: Annotated[
        str | None, _says("On alias: the id that `userId` replaces.", maxLength=ID_CHARS_MAX)
    ] = None
    properties: Annotated[
        Raw, _says("What belongs to the event. Passed through as it came.", type=["object", "null"])
    ] = _NOTHING
    traits: Annotated[
        Raw, _says("What is known of the user or group. Passed through.", type=["object", "null"])
    ] = _NOTHING
    context: Annotated[
        dict[str, Raw] | None,
        _says(
            "Where it happened: `page` {`url`, `title`, `referrer`, …}, `locale`, `timezone`, … Passed through."
        ),
    ] = None
    timestamp: Annotated[
        str | None, _says("When it happened, ISO 8601. Default: when it was received.", format="date-time")
    ] = None
    sentAt: Annotated[
        str | None, _says("When it was sent, ISO 8601, by the sender's clock.", format="date-time")
    ] = None
    messageId: Annotated[
        str | None,
        _says(
            "The caller's own id of this event: a copy within 24 hours is a duplicate.",
            maxLength=ID_CHARS_MAX,
        ),
    ] = None


class TypedByPath(Event, gc=False):
    """An event whose type the path says (Segment-style paths)."""

    type: str = ""


class Batch(Struct, gc=False):
    """The body of /v1/batch: each item is decoded by itself, so that a bad one fails alone."""

    batch: Annotated[list[Raw], _says("The events; their order is kept.")]
    sentAt: Annotated[
        str | None,
        _says(
            "When the batch was sent: `timestamp` is corrected by the error of the sender's clock.",
            format="date-time",
        ),
    ] = None


class _Keyed(Struct, gc=False):
    writeKey: Any = None


class _Page(Struct, gc=False):
    url: Any = None


_events = JsonReader.of(Event)
_typed_by_path = JsonReader.of(TypedByPath)
_batches = JsonReader.of(Batch, depth_max=0)
_keyed = JsonReader.of(_Keyed)
_pages: msgspec.json.Decoder[_Page] = msgspec.json.Decoder(_Page)


def write_key(body: bytes) -> str | None:
    """The `writeKey` of a body, where some of Segment's SDKs put their key; None where there is no such text."""
    try:
        key = _keyed.read(body).writeKey
    except InvalidPayload:
        return None
    return key if isinstance(key, str) else None


def decode(body: bytes, expected_type: str) -> Event:
    """
    One event out of a request body, checked for `expected_type` (the path's).

    Raises InvalidPayload, which names the field.
    """
    event: Event = _events.read(body)
    if event.type != expected_type:
        raise InvalidPayload(f'type must be "{expected_type}" on this path', "type")
    check(event)
    return event


def decode_server(body: bytes) -> Event:
    """One event of any type out of a server's request body. Raises InvalidPayload."""
    event: Event = _events.read(body)
    check_type(event)
    check(event)
    return event


def decode_by_path(body: bytes, path_type: str) -> Event:
    """One event of a Segment-style path, whose type may be absent but not another. Raises InvalidPayload."""
    event: TypedByPath = _typed_by_path.read(body)
    if event.type and event.type != path_type:
        raise InvalidPayload(f'type must be "{path_type}" on this path, or absent', "type")
    event.type = path_type
    check(event)
    return event


def decode_batch(body: bytes, items_max: int) -> Batch:
    """The batch with its items still encoded. Raises InvalidPayload, BatchTooLarge."""
    batch: Batch = _batches.read(body)
    if not batch.batch:
        raise InvalidPayload("batch must hold at least one event", "batch")
    if len(batch.batch) > items_max:
        raise BatchTooLarge(f"batch holds {len(batch.batch)} events; at most {items_max} are taken", "batch")
    batch.sentAt = optional_time(batch.sentAt, "sentAt")
    return batch


class BatchTooLarge(InvalidPayload):
    """More items or bytes than a batch may have (400 BATCH_TOO_LARGE)."""


def decode_item(item: Raw, bytes_max: int) -> Event:
    """One item of a batch that `decode_batch` gave. Raises InvalidPayload, worded for the batch's `errors`."""
    data = bytes(item)
    if len(data) > bytes_max:
        raise InvalidPayload(f"the event is over {bytes_max} bytes")
    try:
        event: Event = _events.read_part(data)
        if event.type not in TYPES:
            check_type(event)
        check(event)
        return event
    except InvalidPayload as error:
        if error.message.endswith(" is required"):
            raise InvalidPayload(f"Missing required field: {error.field}", error.field) from None
        raise InvalidPayload(error.message.replace("the body", "the event"), error.field) from None


def check_type(event: Event) -> None:
    """Refuse a type that is none of ours."""
    if event.type not in TYPES:
        raise InvalidPayload(f"type must be one of {', '.join(sorted(TYPES))}", "type")


def correct_time(event: Event, sent_at: str | None, received_s: float) -> None:
    """
    Correct `timestamp` by the sender's clock error, receivedAt - sentAt (contracts 0.2.23).

    Without a timestamp or a sentAt (the event's own, else the batch's) there is nothing to correct; a
    result that no calendar has leaves the timestamp as it was.
    """
    event.sentAt = event.sentAt or sent_at
    if event.timestamp is None or event.sentAt is None:
        return
    try:
        error = datetime.fromtimestamp(received_s, UTC) - _utc(event.sentAt)
        corrected = (_utc(event.timestamp) + error).astimezone(UTC)
    except (OverflowError, ValueError):
        return
    event.timestamp = corrected.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text.upper())
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def check(event: Event) -> None:
    """
    The rules for one event whose type is known to be one of ours (contracts A.1, 0.2.12).

    Empty optional strings become None. Raises InvalidPayload, which names the field.
    """
    # A call for each member would cost as much as the decoding, and seldom is there anything to say.
    what = event.event
    if (
        event.type != "track"
        or event.groupId is not None
        or not what
        or len(what) > NAME_CHARS_MAX
        or what.isspace()
        or ((user := event.userId) is not None and not 0 < len(user) <= ID_CHARS_MAX)
    ):
        _check_needed(event)
    if (name := event.name) is not None and not 0 < len(name) <= NAME_CHARS_MAX:
        event.name = optional_text(name, "name", NAME_CHARS_MAX)
    if (visitor := event.anonymousId) is not None and not 0 < len(visitor) <= ID_CHARS_MAX:
        event.anonymousId = optional_text(visitor, "anonymousId", ID_CHARS_MAX)
    if (told := event.messageId) is not None and not 0 < len(told) <= ID_CHARS_MAX:
        event.messageId = optional_text(told, "messageId", ID_CHARS_MAX)
    if event.timestamp is not None:
        event.timestamp = optional_time(event.timestamp, "timestamp")
    if event.sentAt is not None:
        event.sentAt = optional_time(event.sentAt, "sentAt")
    if event.properties is not _NOTHING and bytes(event.properties)[:1] != b"{":
        event.properties = optional_object(event.properties, "properties") or _NOTHING
    if event.traits is not _NOTHING and bytes(event.traits)[:1] != b"{":
        event.traits = optional_object(event.traits, "traits") or _NOTHING


def _check_needed(event: Event) -> None:
    """The members that some types need and others may have."""
    kind = event.type
    if kind == "track":
        required_text(event.event, "event", NAME_CHARS_MAX, " on track")
    elif event.event is not None:
        event.event = optional_text(event.event, "event", NAME_CHARS_MAX)
    if kind in LINKING:
        required_text(event.userId, "userId", ID_CHARS_MAX, f" on {kind}")
    elif (user := event.userId) is not None and not 0 < len(user) <= ID_CHARS_MAX:
        event.userId = optional_text(user, "userId", ID_CHARS_MAX)
    if kind == "alias":
        required_text(event.previousId, "previousId", ID_CHARS_MAX, " on alias")
    if kind == "group":
        required_text(event.groupId, "groupId", ID_CHARS_MAX, " on group")
    elif event.groupId is not None:
        event.groupId = optional_text(event.groupId, "groupId", ID_CHARS_MAX)


def page_url(event: Event) -> str | None:
    """The address of the page: `context.page.url`, else `properties.url`, else None (contracts 0.2.22)."""
    if event.context is not None and (page := event.context.get("page")) is not None:
        url = _url_of(page)
        if url is not None:
            return url
    properties = event.properties
    return _url_of(properties) if b'"url"' in bytes(properties) else None


def _url_of(raw: Raw) -> str | None:
    try:
        url = _pages.decode(raw).url
    except msgspec.DecodeError:
        return None  # `page` may be anything: it passes through as it is
    return url if isinstance(url, str) else None


class Received(Struct, gc=False):
    """
    What the gateway adds to an event: where and when it came in, and who sent it.

    `ip` is None for events that a server speaks for: its context is believed as it is.
    """

    id: str
    tenant: str
    source: str
    channel: Channel
    received_at: str
    anonymous_id: str | None
    user_id: str | None
    ip: str | None
    user_agent: str | None
    clicks: dict[str, str]
    vendors: dict[str, str]


class DataflyEnvelope(Struct, omit_defaults=True, gc=False):
    """
    `Envelope` with the members that Datafly's events have, in its order: what is None is left out.

    Made of positions, it costs half of what an Envelope with its thirty names does.
    """

    id: str
    schema: int
    contract: Contract
    channel: Channel
    tenant: str
    source: str
    type: str
    event: str | None = None
    name: str | None = None
    userId: str | None = None
    anonymousId: str | None = None
    groupId: str | None = None
    previousId: str | None = None
    properties: Raw = _NOTHING
    traits: Raw = _NOTHING
    context: dict[str, Any] | None = None
    timestamp: str = ""
    receivedAt: str = ""
    sentAt: str | None = None
    messageId: str | None = None


def to_envelope(event: Event, received: Received) -> DataflyEnvelope:
    """The canonical envelope of a checked event (contracts A.7)."""
    context: dict[str, Any] | None = event.context
    if received.ip is not None or received.clicks or received.vendors:
        context = dict(context) if context else {}
        _put_ours(context, received)
    return DataflyEnvelope(
        received.id,
        SCHEMA,
        "datafly",
        received.channel,
        received.tenant,
        received.source,
        event.type,
        event.event or None,
        event.name or None,
        event.userId or received.user_id or None,
        received.anonymous_id or None,
        event.groupId or None,
        event.previousId or None if event.type == "alias" else None,
        event.properties,
        event.traits,
        context or None,
        event.timestamp or received.received_at,
        received.received_at,
        event.sentAt or None,
        event.messageId or None,
    )


def _put_ours(context: dict[str, Any], received: Received) -> None:
    if received.ip is not None:
        # The gateway saw the caller itself: what a page says of these is not believed.
        context["ip"] = received.ip
        context.pop("clickIds", None)
        context.pop("vendorIds", None)
        if received.user_agent and "userAgent" not in context:
            context["userAgent"] = received.user_agent
    if received.clicks:
        context["clickIds"] = received.clicks
    if received.vendors:
        context["vendorIds"] = received.vendors
