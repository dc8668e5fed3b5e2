"""From the ledger and the faults to the figures that are judged: availability and latency, quiet and during each fault."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.faults import Played
from tests.chaos.ledger import Attempt, Ledger

#: Faults of Kafka's area in which something else is broken too.
NOT_KAFKA_ALONE = ("disk full", "spool spoiled")
#: After a fault is over, requests are not counted as quiet for so long, seconds.
AFTERMATH_S = 1.0


class Share(NamedTuple):
    """Requests, how many of them got a 2xx (or were told that they are durable already), and their p99 in seconds."""

    requests: int
    good: int
    p99_s: float

    @property
    def availability(self) -> float:
        """Between 0 and 1; 1 where nobody asked."""
        return self.good / self.requests if self.requests else 1.0


@dataclass
class Figures:
    """All that the report tells. `kafka_away` has the requests that met an outage of Kafka and nothing else."""

    overall: Share
    quiet: Share
    kafka_away: Share
    by_kind: dict[str, Share] = field(default_factory=dict)
    #: the same without requests that met another kind of fault too
    by_kind_alone: dict[str, Share] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    by_input: dict[str, tuple[int, int]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    no_answer: Counter[str] = field(default_factory=Counter)


def figures_of(ledger: Ledger, played: Sequence[Played]) -> Figures:
    """Compute everything. A request counts for a fault when it was on its way at any time between begin and recovery."""
    attempts = sorted(ledger.attempts, key=lambda one: one.sent_at)
    busy = _merged([(one.began_at, one.recovered_at + AFTERMATH_S) for one in played])
    quiet = [one for one in attempts if not _touches(busy, one)]
    away, others = _kafka_away(played)
    result = Figures(
        overall=share(attempts),
        quiet=share(quiet),
        kafka_away=share(one for one in attempts if _touches(away, one) and not _touches(others, one)),
        counts=Counter(one.fault.kind for one in played),
    )
    for kind in sorted(result.counts):
        spans = _merged([(one.began_at, one.recovered_at) for one in played if one.fault.kind == kind])
        others = _merged(
            [(one.began_at, one.recovered_at + AFTERMATH_S) for one in played if one.fault.kind != kind]
        )
        met = [one for one in attempts if _touches(spans, one)]
        result.by_kind[kind] = share(met)
        result.by_kind_alone[kind] = share(one for one in met if not _touches(others, one))
    for name in sorted({*ledger.sent.values()}):
        sent = sum(other == name for other in ledger.sent.values())
        result.by_input[name] = sent, sum(one.input == name for one in ledger.acked.values())
    for one in attempts:
        if not one.ok and one.status:
            result.refusals[f"{one.status} {_short(one.why)}"] += 1
        elif not one.ok:
            result.no_answer[_short(one.why)] += 1
    return result


def share(attempts: Iterable[Attempt]) -> Share:
    """How they fared."""
    found = list(attempts)
    times = sorted(one.came_at - one.sent_at for one in found)
    return Share(len(found), sum(one.ok for one in found), quantile(times, 0.99))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least `q` of them do not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else 0.0


Spans = list[tuple[float, float]]


def _kafka_away(played: Sequence[Played]) -> tuple[Spans, Spans]:
    """When Kafka was away, and when anything else was wrong. An outage ends when Kafka is written to again."""
    kafka = [one for one in played if one.fault.area == "kafka" and one.fault.kind not in NOT_KAFKA_ALONE]
    others = [one for one in played if one not in kafka]
    return (
        _merged([(one.began_at, one.recovered_at) for one in kafka]),
        _merged([(one.began_at, one.recovered_at + AFTERMATH_S) for one in others]),
    )


def _merged(spans: Spans) -> Spans:
    found: Spans = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _touches(spans: Spans, one: Attempt) -> bool:
    """Whether the request was on its way at any time within one of `spans`, which are apart and in order."""
    at = bisect_left(spans, (one.sent_at,))
    return (at > 0 and spans[at - 1][1] >= one.sent_at) or (at < len(spans) and spans[at][0] <= one.came_at)


def _short(text: str) -> str:
    """A reason without what differs from one to the next."""
    return " ".join("…" if any(c.isdigit() for c in word) else word for word in text.split())[:120]
