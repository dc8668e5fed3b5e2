"""
Datafly's pixel: an event out of a query string (contracts A.4).

`wk` is the key, `e uid gid aid mid ts` are members, `p.*` and `t.*` are properties and traits by dotted
name; values stay strings. `cb` and what is not known are passed over.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw

from daemon.events.datafly import Event, check
from daemon.events.payload import ID_CHARS_MAX, InvalidPayload, optional_text

#: A transparent GIF of 1 × 1 pixel (GIF89a), 43 bytes.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")

#: The last part of the path → it is the type.
TYPES = ("track", "page", "identify", "group")

PARAMETERS_MAX = 500
#: Parts of a dotted name.
DEPTH_MAX = 16

_MEMBERS = {"e": "event", "uid": "userId", "gid": "groupId", "mid": "messageId"}


def decode(query: str, kind: str) -> tuple[Event, str | None]:
    """The event of type `kind`, checked, and the visitor's own id (`aid`). Raises InvalidPayload."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX, encoding="utf-8", errors="strict"
        )
    except UnicodeDecodeError:
        raise InvalidPayload("the query is not UTF-8") from None
    except ValueError:
        raise InvalidPayload(f"the query has more than {PARAMETERS_MAX} parameters") from None
    event = Event(type=kind)
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    for name, value in pairs:
        member = _MEMBERS.get(name)
        if member is not None:
            setattr(event, member, value)
        elif name == "aid":
            anonymous_id = optional_text(value, "aid", ID_CHARS_MAX)
        elif name == "ts":
            event.timestamp = _time(value)
        elif name.startswith("p."):
            _put(properties, name, value)
        elif name.startswith("t."):
            _put(traits, name, value)
    if properties:
        event.properties = Raw(msgspec.json.encode(properties))
    if traits:
        event.traits = Raw(msgspec.json.encode(traits))
    check(event)
    return event, anonymous_id


def _put(target: dict[str, Any], name: str, value: str) -> None:
    """`p.a.b` = x → {"a": {"b": x}}; the last value of a name wins."""
    parts = name.split(".")[1:]
    if not all(parts) or len(parts) > DEPTH_MAX:
        raise InvalidPayload(f"{name[:80]} is no dotted name", name[:80])
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise InvalidPayload(f"{name[:80]} goes below a name that has a value itself", name[:80])
    if isinstance(target.get(parts[-1]), dict):
        raise InvalidPayload(f"{name[:80]} has a value and names below it", name[:80])
    target[parts[-1]] = value


def _time(value: str) -> str | None:
    """Unix milliseconds as ISO 8601; None for an empty one."""
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise InvalidPayload("ts must be Unix milliseconds", "ts")
    try:
        time = datetime.fromtimestamp(int(value) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidPayload("ts must be Unix milliseconds", "ts") from None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
