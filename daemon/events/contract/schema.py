"""A contract as JSON Schema (draft 2020-12)."""

from __future__ import annotations

from typing import Any

from daemon.events.contract.definition import Contract, Property

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MEDIA_TYPE = "application/schema+json"


def json_schema(event_type: str, contract: Contract) -> dict[str, Any]:
    """The schema of the `properties` of events of this type. Whatever satisfies it satisfies the contract."""
    properties = contract.properties
    return {
        "$schema": DIALECT,
        "title": event_type,
        "type": "object",
        "properties": {name: _schema(one) for name, one in properties.items()},
        "required": [name for name, one in properties.items() if one.required],
        "additionalProperties": contract.additionalProperties == "allow",
    }


def _schema(one: Property) -> dict[str, Any]:
    kind = "string" if one.type == "datetime" else one.type
    schema: dict[str, Any] = {"type": kind if one.required else [kind, "null"]}
    if one.type == "datetime":
        schema["format"] = "date-time"
    return schema
