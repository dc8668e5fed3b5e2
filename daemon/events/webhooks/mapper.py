"""From the body of a webhook to Datafly events: compiled once per webhook, then only applied."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct

from daemon.events.datafly import Event, check
from daemon.events.payload import DEPTH_MAX, InvalidPayload, JsonReader
from daemon.events.signatures import Headers
from daemon.events.signatures.providers import (
    GITHUB,
    SHOPIFY,
    Hmac,
    HubSpot,
    Scheme,
    SharedSecret,
    StandardWebhooks,
    Stripe,
    Unsigned,
)
from daemon.events.webhooks.config import BadConfig, WebhookConfig
from daemon.events.webhooks.paths import MISSING, VALUES_MAX, Path
from daemon.events.webhooks.presets import PRESETS, Preset, effective, mappings_of

#: Members of an event that are text. `timestamp` is one too, and may come as a number.
_TEXTS = ("event", "name", "userId", "anonymousId", "groupId", "previousId", "messageId")
#: Members that are objects: mapped as a whole (`properties`) or by parts (`properties.amount`).
_OBJECTS = ("properties", "traits", "context")

#: Parts of a dotted name.
_DEPTH_MAX = 16
#: Paths of one webhook that select any number of values: each may look at VALUES_MAX of them.
_QUERIES_MAX = 16
#: Unix times at and above are milliseconds: in seconds it would be the year 5138.
_MILLISECONDS_FROM = 100_000_000_000


def _exact(text: str) -> Decimal:
    """A number as it was written: 19.90 stays 19.90. Raises ValueError for one that no float can hold."""
    if math.isinf(float(text)):
        raise ValueError(f"the number {text[:40]} is out of range")
    return Decimal(text)


_reader = JsonReader(msgspec.json.Decoder(float_hook=_exact), DEPTH_MAX)
_encode: Callable[[Any], bytes] = msgspec.json.Encoder(decimal_format="number").encode


class WebhookLimits(Struct, frozen=True):
    """`event_bytes_max` bounds an event as mapped (mappings may take the same part many times)."""

    event_bytes_max: int
    items_max: int
    item_bytes_max: int


class Mapped(Struct, frozen=True):
    """An event, and what tells it from others where its messageId alone does not (None: the messageId does)."""

    event: Event
    unique: str | None = None


class Mapper:
    """One webhook's settings, compiled. Raises BadConfig, which names what is wrong with them."""

    def __init__(self, config: WebhookConfig) -> None:
        preset = PRESETS[config.source_type]
        self.config = config
        self.scheme = scheme_of(config)
        self._type = config.type
        self._names = config.event_names
        self._event_paths, self._event_header = _naming(config, preset)
        self._id_header = _id_header(config, preset)
        self._items = _path(effective(config).items_path, "items_path")
        own_ids = config.message_id_header is not None or "messageId" in (config.mappings or ())
        self._unique = () if own_ids else tuple(Path(path, "messageId") for path in preset.unique_paths)
        self._texts: list[tuple[str, Path]] = []
        self._timestamp: Path | None = None
        self._objects: dict[str, Any] = {}
        self._queries = 0
        for member, text in mappings_of(config).items():
            self._add(member, Path(text, f"mappings: {member}"))
        if self._queries > _QUERIES_MAX:
            raise BadConfig(
                f"mappings: {self._queries} paths select any number of values ('..', '*', slices, filters); "
                f"at most {_QUERIES_MAX} are taken"
            )

    def _add(self, member: str, path: Path) -> None:
        self._queries += not path.singular
        if member in _TEXTS:
            self._texts.append((member, path))
            return
        if member == "timestamp":
            self._timestamp = path
            return
        top, *parts = member.split(".")
        if top not in _OBJECTS or not all(parts) or len(parts) > _DEPTH_MAX:
            raise BadConfig(
                f"mappings: {member[:120]!r} is no place in an event; there are {', '.join(_TEXTS)}, timestamp, and "
                "properties, traits and context with what is in them, such as properties.amount"
            )
        where, last = self._objects, top
        for part in parts:
            where = where.setdefault(last, {})
            if isinstance(where, Path):
                raise BadConfig(f"mappings: {member!r} goes below a place that has a value itself")
            last = part
        if last in where:
            raise BadConfig(f"mappings: {member!r} has a value and places below it")
        where[last] = path

    # --- applying -----------------------------------------------------------------------------------

    def events(self, body: bytes, headers: Headers, limits: WebhookLimits) -> list[Mapped | InvalidPayload]:
        """
        The events of a body, at least one, in their order; a bad one of several is its error.

        Raises InvalidPayload when the body can't be read.
        """
        document = _reader.read(body)
        roomy = _roomy(body)
        if self._items is not None:
            if not (self._items.singular or roomy):
                raise _crowded(self._items, "items_path")
            items = list(self._items.all(document))
            if len(items) > limits.items_max:
                raise InvalidPayload(
                    f"the body holds {len(items)} events; at most {limits.items_max} are taken"
                )
            if items:
                found = enumerate(items)
                return [self._item(item, index, len(items), headers, limits, roomy) for index, item in found]
            if isinstance(document, list):
                raise InvalidPayload("the body holds no event")
        return [self._event(document, headers, limits.event_bytes_max, roomy)]

    def _item(
        self, item: Any, index: int, items: int, headers: Headers, limits: WebhookLimits, roomy: bool
    ) -> Mapped | InvalidPayload:
        try:
            mapped = self._event(item, headers, limits.item_bytes_max, roomy)
        except InvalidPayload as error:
            return error
        event = mapped.event
        if items > 1 and event.messageId is not None and self._id_header is not None:
            # the header names the delivery, and all events of it would be one
            event.messageId = f"{event.messageId}-{index}"
        return mapped

    def _event(self, document: Any, headers: Headers, bytes_max: int, roomy: bool) -> Mapped:
        event = Event(type=self._type)
        for member, path in self._texts:
            setattr(event, member, self._text(document, path, member, roomy))
        if self._timestamp is not None:
            event.timestamp = _time(
                self._select(document, self._timestamp, "timestamp", roomy), self._timestamp
            )
        if event.event is None:
            event.event = self._name(document, headers, roomy)
        if event.event is not None:
            event.event = self._names.get(event.event, event.event)
        elif event.type == "track":
            raise InvalidPayload(f"no event name: {self._naming_words()}", "event")
        if self._id_header is not None:
            event.messageId = headers.get(self._id_header) or event.messageId
        self._fill(event, document, bytes_max, roomy)
        check(event)
        return Mapped(event, self._told_apart(event, document))

    def _name(self, document: Any, headers: Headers, roomy: bool) -> str | None:
        """The sender's own name of the event."""
        for path in self._event_paths:
            name = self._text(document, path, "event_type_path", roomy)
            if name is not None:
                return name
        return headers.get(self._event_header) or None if self._event_header is not None else None

    def _naming_words(self) -> str:
        looked = [path.text for path in self._event_paths]
        looked += [path.text for member, path in self._texts if member == "event"]
        looked += [f"the header {self._event_header}"] if self._event_header else []
        return f"{' and '.join(dict.fromkeys(looked))} gave nothing"

    def _fill(self, event: Event, document: Any, bytes_max: int, roomy: bool) -> None:
        size = 0
        for member, place in self._objects.items():
            value = self._built(document, place, member, roomy)
            if value is MISSING or value is None:
                continue
            if not isinstance(value, dict):
                raise InvalidPayload(f"{member} ({place.text}) must be an object, not {_kind(value)}", member)
            if member == "context":
                event.context = {name: Raw(_encode(part)) for name, part in value.items()}
                size += sum(map(len, event.context.values()))
            else:
                encoded = _encode(value)
                size += len(encoded)
                setattr(event, member, Raw(encoded))
            if size > bytes_max:
                raise InvalidPayload(
                    f"the event as mapped is over {bytes_max} bytes; map less of the body", member
                )

    def _built(self, document: Any, place: Any, member: str, roomy: bool) -> Any:
        """The value of a place: what its path selects, or an object of the places below; MISSING for nothing."""
        if isinstance(place, Path):
            self._check_room(place, member, roomy)
            return place.value(document)
        built = {}
        for name, below in place.items():
            value = self._built(document, below, f"{member}.{name}", roomy)
            if value is not MISSING:
                built[name] = value
        return built or MISSING

    def _told_apart(self, event: Event, document: Any) -> str | None:
        if not self._unique or event.messageId is None:
            return None
        parts = [event.messageId, *(path.first(document) for path in self._unique)]
        return _encode([part if part is not MISSING else None for part in parts]).decode()

    def _text(self, document: Any, path: Path, member: str, roomy: bool) -> str | None:
        value = self._select(document, path, member, roomy)
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise InvalidPayload(
            f"{member} ({path.text}) must be a string or an integer, not {_kind(value)}", member
        )

    def _select(self, document: Any, path: Path, member: str, roomy: bool) -> Any:
        """The first value, None where there is none."""
        self._check_room(path, member, roomy)
        value = path.first(document)
        return None if value is MISSING else value

    def _check_room(self, path: Path, member: str, roomy: bool) -> None:
        if not (path.singular or roomy):
            raise _crowded(path, member)


def scheme_of(config: WebhookConfig) -> Scheme:
    """How the webhook's sender signs."""
    match config.source_type:
        case "stripe":
            return Stripe()
        case "shopify":
            return SHOPIFY
        case "hubspot":
            return HubSpot()
        case "github":
            return GITHUB
        case "standard-webhooks":
            return StandardWebhooks()
    prefix = config.prefix or ""
    if config.scheme == "none":
        return Unsigned()
    assert config.header is not None, "read_config has looked"
    if config.scheme == "shared-secret":
        return SharedSecret(config.header, prefix)
    return Hmac(config.header, config.algorithm or "sha256", config.encoding or "hex", prefix)


def form_payload(body: bytes) -> bytes:
    """The JSON of `payload=…` in a form, as GitHub sends it where it is told so. Raises InvalidPayload."""
    try:
        fields = parse_qsl(body.decode("ascii"), max_num_fields=16, errors="strict")
    except UnicodeDecodeError:
        raise InvalidPayload("the body is no form in UTF-8") from None
    except ValueError:
        raise InvalidPayload("the form has more than 16 fields") from None
    for name, value in fields:
        if name == "payload":
            return value.encode()
    raise InvalidPayload("the form has no field payload; have the sender send application/json", "payload")


def _naming(config: WebhookConfig, preset: Preset) -> tuple[list[Path], str | None]:
    if config.event_type_path is not None:
        return [Path(config.event_type_path, "event_type_path")], None
    if config.event_type_header is not None:
        return [], config.event_type_header.lower()
    return [Path(path, "event_type_path") for path in preset.event_paths], preset.event_header


def _id_header(config: WebhookConfig, preset: Preset) -> str | None:
    if config.message_id_header is not None:
        return config.message_id_header.lower()
    return None if "messageId" in (config.mappings or ()) else preset.message_id_header


def _path(text: str | None, what: str) -> Path | None:
    return None if text is None else Path(text, what)


def _roomy(body: bytes) -> bool:
    """Whether the body has so few values that paths which visit many of them may be let loose on it."""
    # every value but the first of an array or object stands behind a comma; those within texts only add
    return body.count(b",") + body.count(b"[") + body.count(b"{") <= VALUES_MAX


def _crowded(path: Path, member: str) -> InvalidPayload:
    return InvalidPayload(
        f"{member} ({path.text}) would visit more than {VALUES_MAX} values; send less, or map it by a plain path",
        member,
    )


def _time(value: Any, path: Path) -> str | None:
    """ISO 8601 as it is; Unix seconds or milliseconds as ISO 8601. None stays. Raises InvalidPayload."""
    if value is None or (
        isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) > 8)
    ):
        return value or None  # `check` looks at the form
    wrong = InvalidPayload(
        f"timestamp ({path.text}) must be an ISO 8601 time or a Unix time, not {_kind(value)}", "timestamp"
    )
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise wrong
    try:
        number = Decimal(value)
        seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
        moment = datetime.fromtimestamp(float(seconds), UTC)
    except (ArithmeticError, OverflowError, ValueError, OSError):
        raise wrong from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return "a string"
    return f"the number {value}"[:60]
