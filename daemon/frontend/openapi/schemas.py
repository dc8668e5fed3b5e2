"""
The document's schemas: bodies that come and go, made from the msgspec types that decode and encode them.

What `datafly.check` asks of each type of event beyond its struct stands in `REQUIRED`; a test holds the two
against each other.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from daemon.config.schema import Limits
from daemon.events import datafly, tracklayer

Json = dict[str, Any]

#: Type of an event → the members that it needs beside `type` (contracts 0.2.12, 0.2.23b).
REQUIRED: dict[str, tuple[str, ...]] = {
    "track": ("event",),
    "page": (),
    "identify": ("userId",),
    "group": ("groupId",),
    "screen": (),
    "alias": ("userId", "previousId"),
}

#: Members that only one type has a use for.
_ONLY_OF = {"previousId": "alias", "event": "track"}

#: Structs that go out as they are.
_ANSWERS: tuple[type[Struct], ...] = (
    datafly.Success,
    datafly.BatchAnswer,
    datafly.ErrorAnswer,
    tracklayer.Accepted,
    tracklayer.Dropped,
    tracklayer.Rejection,
    tracklayer.Duplicate,
)

_REF = "#/components/schemas/"


def ref(name: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": f"{_REF}{name}"}


def event_name(kind: str) -> str:
    """The schema of events of type `kind`."""
    return f"{kind.capitalize()}Event"


def call_name(kind: str) -> str:
    """The same where the path says the type."""
    return f"{kind.capitalize()}Call"


def components() -> dict[str, Json]:
    """Every schema by its name."""
    limits = Limits()
    event, batch = _of(datafly.Event), _of(datafly.Batch)
    made: dict[str, Json] = {}
    for kind in REQUIRED:
        made[event_name(kind)] = _event(event, kind)
    for kind in REQUIRED:
        made[call_name(kind)] = _call(made[event_name(kind)], kind)
    made["Event"] = {
        "description": "An event of any type.",
        "oneOf": [ref(event_name(kind)) for kind in REQUIRED],
        "discriminator": {
            "propertyName": "type",
            "mapping": {kind: f"{_REF}{event_name(kind)}" for kind in REQUIRED},
        },
    }
    items = {**batch["properties"]["batch"], "items": ref("Event"), "minItems": 1}
    items["maxItems"] = limits.batch_items_max
    batch["properties"]["batch"] = items
    batch["description"] = "Events of any type. Each is checked by itself: a bad one fails alone."
    made["Batch"] = batch
    _, answers = msgspec.json.schema_components(_ANSWERS, ref_template=_REF + "{name}")
    for name, answer in answers.items():
        made[name] = _tidy(answer)
    return made


def _event(event: Json, kind: str) -> Json:
    """The schema of `datafly.Event`, narrowed to one type."""
    properties: dict[str, Json] = {}
    for name, schema in event["properties"].items():
        if _ONLY_OF.get(name, kind) == kind:
            properties[name] = {**schema, **_NEEDED} if name in REQUIRED[kind] else schema
    properties["type"] = {**properties["type"], "const": kind}
    needed = ["type", *REQUIRED[kind]]
    first = {name: properties.pop(name) for name in needed}
    return {
        "type": "object",
        "title": event_name(kind),
        "description": f"An event of type `{kind}`. Members that are not listed are left out.",
        "required": needed,
        "properties": {**first, **properties},
    }


#: What `payload.required_text` asks for.
_NEEDED: Json = {"type": "string", "minLength": 1, "pattern": r"\S"}


def _call(event: Json, kind: str) -> Json:
    """The same without `type`: the path says it, and it may be repeated."""
    required = [name for name in event["required"] if name != "type"]
    properties = {**event["properties"]}
    properties["type"] = {**properties.pop("type"), "description": "May be left out: the path says it."}
    made = {**event, "title": call_name(kind), "required": required, "properties": properties}
    if not required:
        del made["required"]
    return made


def _of(struct: type[Struct]) -> Json:
    """
    The schema of a struct that is decoded.

    msgspec can't write a default of type Raw down, so the schema is made from a struct with the same members
    whose optional ones default to null; the defaults are left out of it anyway.
    """
    members = [
        (one.name, one.type) if one.required else (one.name, one.type, None)
        for one in msgspec.structs.fields(struct)
    ]
    _, made = msgspec.json.schema_components([msgspec.defstruct(struct.__name__, members)])
    return _tidy(made[struct.__name__])


def _tidy(schema: Json) -> Json:
    """`schema` with `anyOf: [X, null]` as `type: [X, "null"]`, and without defaults and empty schemas."""
    made = {name: _tidied(value) for name, value in schema.items() if name != "default"}
    if (choices := made.get("anyOf")) is not None and {"type": "null"} in choices:
        [other] = [one for one in choices if one != {"type": "null"}]
        del made["anyOf"]
        made = {**made, **other, "type": [other["type"], "null"]}
    if made.get("additionalProperties") == {}:
        del made["additionalProperties"]
    return made


def _tidied(value: Any) -> Any:
    if isinstance(value, dict):
        return _tidy(value)
    return [_tidied(one) for one in value] if isinstance(value, list) else value
