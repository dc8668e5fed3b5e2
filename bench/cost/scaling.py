"""Along which axes the cost of an event is measured, and at which points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.cost.requests import KEY_MARK, SINGLE, Scenario, browser


@dataclass(frozen=True, slots=True)
class Point:
    """One point: its name on the axis, and what is sent."""

    at: str
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Group:
    """Points that are measured on one Headgate, in turns."""

    frontends: int
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that changes while everything else stays: 1 frontend, 64 connections, 450 B."""

    name: str
    unit: str
    groups: Sequence[Group]

    @property
    def title(self) -> str:
        """What its picture shows."""
        return f"CPU of an event against {self.unit}, in units of the bare server's request"


def _varied(at: str, **changes: Any) -> Point:
    return Point(at, replace(SINGLE, name=f"{SINGLE.name}, {at}", **changes))


_KEYED = browser(450, key=f"dk_test_{KEY_MARK}")

AXES = (
    Axis("keys", "keys", [Group(1, [_varied(f"{n:,}", make=_KEYED, keys=n) for n in (1, 100, 10_000, 100_000)])]),
    Axis("connections", "connections", [Group(1, [_varied(f"{n:,}", connections=n) for n in (8, 64, 256, 1024)])]),
    Axis("size", "bytes", [Group(1, [_varied(f"{n:,}", make=browser(n)) for n in (450, 1024, 4096, 32_768)])]),
    Axis("frontends", "frontends", [Group(n, [_varied(f"{n}")]) for n in (1, 2, 4)]),
)  # fmt: skip
