"""A contract as people write it: the properties of an event type, and whether there may be others."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from daemon.events.payload import InvalidPayload, JsonReader

PropertyType = Literal["string", "number", "integer", "boolean", "datetime", "object", "array"]
TYPES: tuple[str, ...] = get_args(PropertyType)

#: Bounds of a contract: characters of an event type and of a property's name, properties of a type, bytes of the
#: JSON, event types of a tenant.
EVENT_TYPE_CHARS_MAX = 200
PROPERTY_CHARS_MAX = 200
PROPERTIES_MAX = 500
CONTRACT_BYTES_MAX = 256 * 1024
CONTRACTS_MAX = 1000


class Property(Struct, frozen=True, forbid_unknown_fields=True):
    """One property. Null for an optional one is the same as leaving it out."""

    type: Annotated[
        PropertyType,
        Meta(
            description="What the value is. `integer` takes 1.0, but not 1.5; `datetime` is an ISO 8601 string; "
            "`object` and `array` may hold anything."
        ),
    ]
    required: Annotated[bool, Meta(description="Whether an event without it is refused.")] = False


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """What events of one type carry. Two are equal whatever the order of their properties."""

    properties: Annotated[
        dict[
            Annotated[str, Meta(max_length=PROPERTY_CHARS_MAX)],
            Property,
        ],
        Meta(description="Name → what it is. Any name will do.", max_length=PROPERTIES_MAX),
    ]
    additionalProperties: Annotated[
        Literal["reject", "allow"],
        Meta(description="What becomes of an event with a property that is not listed."),
    ] = "reject"


class StoredContract(Struct, frozen=True, kw_only=True):
    """A version of a contract as it is stored, and as it is shown."""

    eventType: Annotated[str, Meta(description="The event type.")]
    version: Annotated[
        int, Meta(description="Grows by one with every change, for as long as the type is known.", ge=1)
    ]
    properties: dict[str, Property]
    additionalProperties: Literal["reject", "allow"]
    createdAt: Annotated[datetime, Meta(description="Since when it is in force.")]
    endedAt: Annotated[
        datetime | UnsetType,
        Meta(description="Until when it was; absent while it is in force."),
    ] = UNSET

    @property
    def contract(self) -> Contract:
        """What it says."""
        return Contract(self.properties, self.additionalProperties)


_anything = JsonReader.of(Any)
_decode = msgspec.json.Decoder(Contract).decode
encode = msgspec.json.Encoder().encode


def read(body: bytes) -> Contract:
    """A contract out of a request's body. Raises NotJson, and InvalidPayload, which names the place."""
    return contract_of(_anything.read(body))


def decode(text: str | bytes) -> Contract:
    """A contract out of what `encode` wrote. Raises msgspec.DecodeError for anything else."""
    return _decode(text)


def contract_of(value: Any, what: str = "the contract") -> Contract:
    """A contract out of decoded JSON or TOML. Raises InvalidPayload, which names the place."""
    if not isinstance(value, dict):
        raise InvalidPayload(f"{what} must be an object, not {_kind(value)}")
    _only(value, "", ("properties", "additionalProperties"))
    additional = value.get("additionalProperties", "reject")
    if additional not in ("reject", "allow"):
        raise InvalidPayload('additionalProperties must be "reject" or "allow"', "additionalProperties")
    listed = value.get("properties")
    if "properties" not in value:
        raise InvalidPayload("properties is required; {} is an event type without any", "properties")
    if not isinstance(listed, dict):
        raise InvalidPayload(
            f"properties must be an object of names and types, not {_kind(listed)}", "properties"
        )
    if len(listed) > PROPERTIES_MAX:
        raise InvalidPayload(
            f"properties holds {len(listed)} properties; at most {PROPERTIES_MAX} are taken", "properties"
        )
    return Contract({name: _property(name, one) for name, one in listed.items()}, additional)


def _property(name: str, value: Any) -> Property:
    path = member("properties", name)
    if len(name) > PROPERTY_CHARS_MAX:
        raise InvalidPayload(f"{path} has a name of over {PROPERTY_CHARS_MAX} characters", path)
    if not isinstance(value, dict):
        raise InvalidPayload(
            f'{path} must be an object such as {{"type":"string"}}, not {_kind(value)}', path
        )
    _only(value, path, ("type", "required"))
    if "type" not in value:
        raise InvalidPayload(f"{path}.type is required: one of {', '.join(TYPES)}", f"{path}.type")
    kind, required = value["type"], value.get("required", False)
    if not isinstance(kind, str) or kind not in TYPES:
        raise InvalidPayload(f"{path}.type must be one of {', '.join(TYPES)}", f"{path}.type")
    if not isinstance(required, bool):
        raise InvalidPayload(f"{path}.required must be true or false", f"{path}.required")
    return Property(kind, required)  # type: ignore[arg-type]  # it is one of them


def _only(value: dict[Any, Any], path: str, known: tuple[str, ...]) -> None:
    for name in value:
        if name not in known:
            place = member(path, str(name)) if path else shown(str(name))
            raise InvalidPayload(f"{place} is not known here; known are {' and '.join(known)}", place)


def checked_event_type(name: str) -> str:
    """`name` if an event type may be called so. Raises InvalidPayload."""
    if not name.strip():
        raise InvalidPayload("eventType must not be empty", "eventType")
    if len(name) > EVENT_TYPE_CHARS_MAX:
        raise InvalidPayload(f"eventType is longer than {EVENT_TYPE_CHARS_MAX} characters", "eventType")
    if "\0" in name:
        raise InvalidPayload("eventType must not hold a NUL character", "eventType")
    if "�" in name:
        # what bytes of an address that are no UTF-8 have become by now
        raise InvalidPayload("eventType is not UTF-8, or holds the replacement character U+FFFD", "eventType")
    return name


def member(path: str, name: str) -> str:
    """The path of a member: `properties.order_id`."""
    return f"{path}.{shown(name)}" if name else f'{path}[""]'


def shown(name: str) -> str:
    """A name that came from outside, cut where it is too long for a message."""
    return name if len(name) <= PROPERTY_CHARS_MAX else f"{name[:PROPERTY_CHARS_MAX]}…"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case int() | float():
            return "a number"
    return f"a {type(value).__name__}"  # a date, in TOML
