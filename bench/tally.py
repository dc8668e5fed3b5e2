"""
Counts and latencies of a load run, per endpoint, in a form that adds up over processes.

locust's own statistics round to milliseconds, which is as much as a request takes here: so latencies are
kept in buckets 2 % wide (as HDR histograms do), from 10 µs up.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec

_GROWTH = math.log(1.02)
_FLOOR_S = 1e-5


class Latencies(msgspec.Struct):
    """A histogram of seconds. `buckets` maps a bucket's number to how many fell into it."""

    buckets: dict[int, int] = {}
    max_s: float = 0.0
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        number = math.ceil(math.log(max(seconds, _FLOOR_S) / _FLOOR_S) / _GROWTH)
        self.buckets[number] = self.buckets.get(number, 0) + 1
        self.max_s = max(self.max_s, seconds)
        self.total_s += seconds

    def merge(self, other: Latencies) -> None:
        """Take in what another process counted."""
        for number, count in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + count
        self.max_s = max(self.max_s, other.max_s)
        self.total_s += other.total_s

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float:
        """Seconds that `share` (0 to 1) of them took at most, 2 % too much at worst; 0.0 without any."""
        rank = math.ceil(share * self.count)
        running = 0
        for number in sorted(self.buckets):
            running += self.buckets[number]
            if running >= rank:
                return min(_FLOOR_S * math.exp(number * _GROWTH), self.max_s)
        return 0.0


class Tally(msgspec.Struct):
    """
    What a generator saw: answers by endpoint and status, latencies by endpoint, and what was wrong.

    `answers` maps endpoint → status ("200", "429", "no answer") → how many; `faults` are answers that
    should not be (a cookie set twice, a duplicate that was not told) → how many.
    """

    answers: dict[str, dict[str, int]] = {}
    latencies: dict[str, Latencies] = {}
    faults: dict[str, int] = {}
    seconds: float = 0.0

    def add(self, endpoint: str, status: str, seconds: float) -> None:
        """Count one answer."""
        by_status = self.answers.setdefault(endpoint, {})
        by_status[status] = by_status.get(status, 0) + 1
        self.latencies.setdefault(endpoint, Latencies()).add(seconds)

    def fault(self, what: str) -> None:
        """Count something that is wrong with an answer."""
        self.faults[what] = self.faults.get(what, 0) + 1

    def merge(self, other: Tally) -> None:
        """Take in what another process counted."""
        for endpoint, by_status in other.answers.items():
            mine = self.answers.setdefault(endpoint, {})
            for status, count in by_status.items():
                mine[status] = mine.get(status, 0) + count
        for endpoint, latencies in other.latencies.items():
            self.latencies.setdefault(endpoint, Latencies()).merge(latencies)
        for what, count in other.faults.items():
            self.faults[what] = self.faults.get(what, 0) + count
        self.seconds = max(self.seconds, other.seconds)

    def requests(self, prefix: str = "") -> int:
        """Answers of the endpoints that begin with `prefix`."""
        return sum(
            sum(by_status.values())
            for endpoint, by_status in self.answers.items()
            if endpoint.startswith(prefix)
        )

    def statuses(self) -> Counter[str]:
        """Answers by status, over all endpoints."""
        found: Counter[str] = Counter()
        for by_status in self.answers.values():
            found.update(by_status)
        return found

    def overall(self) -> Latencies:
        """Latencies of all POSTs together."""
        every = Latencies()
        for endpoint, latencies in self.latencies.items():
            if endpoint.startswith("POST"):
                every.merge(latencies)
        return every


def to_builtins(tally: Tally) -> Any:
    """As plain dicts and lists, the way messages between processes want it."""
    return msgspec.to_builtins(tally)


def from_builtins(data: Any) -> Tally:
    """The other way round."""
    return msgspec.convert(data, Tally, strict=False)
