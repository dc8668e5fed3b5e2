"""What changed between two contracts, in words, and whether events that were good may be refused from now on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from daemon.events.contract.definition import Contract, Property, member

#: (old type, new type): every value of the one is a value of the other.
_WIDER = frozenset({("integer", "number"), ("datetime", "string")})


class Change(Struct, frozen=True):
    """
    One difference. `path` is where, empty for the event type as a whole; `text` says it.

    `breaking`: an event that satisfied the old contract may not satisfy the new one for this alone.
    """

    kind: Literal["added", "removed", "changed"]
    path: str
    text: str
    breaking: bool


def differences(old: Contract | None, new: Contract | None) -> list[Change]:
    """All of them; None stands for an event type that is not there. Without any, the two are equal."""
    if old is None or new is None:
        if old is None and new is not None:
            return [Change("added", "", f"event type with {_count(new)}", breaking=False)]
        if old is not None and new is None:
            return [Change("removed", "", f"event type with {_count(old)}", breaking=True)]
        return []
    return list(_between(old, new))


def _between(old: Contract, new: Contract) -> Iterator[Change]:
    open_before, open_now = old.additionalProperties == "allow", new.additionalProperties == "allow"
    for name, one in old.properties.items():
        path = member("properties", name)
        other = new.properties.get(name)
        if other is None:
            yield Change("removed", path, f"{path} ({_words(one)})", breaking=not open_now)
        else:
            yield from _of_property(path, one, other)
    for name, one in new.properties.items():
        if name not in old.properties:
            path = member("properties", name)
            # where others were allowed, events may carry that name with any value already
            yield Change("added", path, f"{path} ({_words(one)})", breaking=one.required or open_before)
    if open_before != open_now:
        text = f"additionalProperties: {old.additionalProperties} → {new.additionalProperties}"
        yield Change("changed", "additionalProperties", text, breaking=open_before)


def _of_property(path: str, old: Property, new: Property) -> Iterator[Change]:
    if old.type != new.type:
        breaking = (old.type, new.type) not in _WIDER
        yield Change("changed", f"{path}.type", f"{path}: {old.type} → {new.type}", breaking=breaking)
    if old.required != new.required:
        text = f"{path}: {_need(old)} → {_need(new)}"
        yield Change("changed", f"{path}.required", text, breaking=new.required)


def _words(one: Property) -> str:
    return f"{one.type}, {_need(one)}"


def _need(one: Property) -> str:
    return "required" if one.required else "optional"


def _count(contract: Contract) -> str:
    count = len(contract.properties)
    return f"{count} {'property' if count == 1 else 'properties'}"
