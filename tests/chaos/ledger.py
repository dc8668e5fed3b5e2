"""What every id was told: sent, acknowledged, refused, and how long it took. Times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

#: Refusals that a well-formed event may get; everything else but a 2xx is a fault.
ALLOWED = (503,)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. `status` is 0 when there was no answer; `why` says what went wrong then, or what the answer said."""

    input: str
    sent_at: float
    came_at: float
    status: int
    ok: bool
    first: bool
    events: int
    why: str = ""


@dataclass(slots=True)
class Acked:
    """An id that is durable by what its caller was told."""

    input: str
    at: float
    durability: str


@dataclass
class Ledger:
    """Filled by the callers, read when they are done."""

    attempts: list[Attempt] = field(default_factory=list)
    #: every id that was ever sent → its input
    sent: dict[str, str] = field(default_factory=dict)
    acked: dict[str, Acked] = field(default_factory=dict)
    #: ids whose callers have given up
    given_up: set[str] = field(default_factory=set)

    def sends(self, ids: Sequence[str], name: str) -> None:
        """These ids are on their way for the first time."""
        for one in ids:
            self.sent[one] = name

    def acks(self, ids: Sequence[str], name: str, at: float, durability: str) -> None:
        """These ids were acknowledged; what was said first counts."""
        for one in ids:
            self.acked.setdefault(one, Acked(name, at, durability))

    def unexpected(self) -> list[Attempt]:
        """Answers that a well-formed request must never get."""
        return [one for one in self.attempts if one.status and not one.ok and one.status not in ALLOWED]
