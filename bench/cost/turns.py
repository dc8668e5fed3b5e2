"""One turn: a server under one scenario's load for some seconds, and what that cost it."""

from __future__ import annotations

import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.children import ROOT
from bench.cost.requests import Access, Given, Scenario, write
from bench.generators import Load, Wrk
from bench.instance import Headgate
from bench.report import judge

LUA = ROOT / "bench/cost/raw.lua"

#: Counters of /metrics whose growth per request is shown: name → what it is called here.
COUNTERS = {
    "headgate_redis_trips_total": "redis_trips",
    "headgate_lease_renewals_total": "lease_renewals",
    "headgate_outbox_frames_total": "frames",
    "headgate_outbox_frame_records_sum": "frame_records",
    "headgate_tick_events_count": "ticks",
    "headgate_tick_events_sum": "tick_events",
}
#: The same of one with a label: its value → what it is called here.
LOOKUPS = {"memory": "keys_in_memory", "redis": "keys_from_redis", "postgres": "keys_from_postgres"}


@dataclass(frozen=True, slots=True)
class Turn:
    """
    What was measured. `cpu_s` is by role, `events` those that arrived; times in seconds, memory in bytes.

    `counters` are the growths of COUNTERS. `wrong` says what makes the turn void; empty when nothing does.
    """

    scenario: str
    round: int
    events: int
    requests: int
    seconds: float
    p50_s: float
    p99_s: float
    cpu_s: dict[str, float]
    resident: dict[str, int] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    def cpu_us(self, *roles: str) -> float:
        """CPU microseconds of these roles (none: all) per event; 0.0 without any."""
        if not self.events:
            return 0.0
        return (
            1e6 * sum(used for role, used in self.cpu_s.items() if not roles or role in roles) / self.events
        )


class Bench:
    """Runs turns; `folder` takes the requests' files."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._turns = 0
        self._written: set[tuple[str, str]] = set()

    def _load(
        self, scenario: Scenario, url: str, access: Access, seconds: float, pause_ms: float, of: str
    ) -> Load:
        self._turns += 1
        prepared = self._folder / f"{of}-{scenario.name}.requests"
        if scenario.fresh or (of, scenario.name) not in self._written:
            write(scenario, Given(access, seconds, self._turns), prepared)
            self._written.add((of, scenario.name))
        generator = Wrk(scenario.connections, 1, 0)
        more = (str(scenario.keys), f"{pause_ms:.3f}")
        return generator.send(url, LUA, prepared, self._folder, seconds, self._turns, more)

    def noop(
        self, url: str, pid: int, scenario: Scenario, access: Access, number: int, seconds: float
    ) -> Turn:
        """A turn of the bare server."""
        process = psutil.Process(pid)
        before = process.cpu_times()
        load = self._load(scenario, url, access, seconds, 0.0, "noop")
        after = process.cpu_times()
        row = load.rows[0]
        used = after.user + after.system - before.user - before.system
        wrong = (f"{load.failed} requests failed",) if load.failed else ()
        return Turn(
            "noop", number, load.requests, load.requests, load.seconds, row.p50_s, row.p99_s, {"noop": used},
            {"noop": process.memory_info().rss}, {}, wrong,
        )  # fmt: skip

    def headgate(
        self,
        headgate: Headgate,
        scenario: Scenario,
        access: Access,
        number: int,
        *,
        pause_ms: float = 0.0,
        of: str = "headgate",
        seconds: float | None = None,
    ) -> Turn:
        """A turn of Headgate."""
        headgate.counts_at_rest()
        counted_before = _counters(headgate)
        before, used_before = headgate.counts(), headgate.usage()
        load = self._load(scenario, headgate.url, access, seconds or self._seconds, pause_ms, of)
        # What wrk dropped at the end of its time is still in work, and counted: so is its CPU.
        headgate.counts_at_rest()
        used, counted = headgate.usage(), _counters(headgate)
        events = headgate.counts().since(before)
        row = load.rows[0]
        wrong = [] if scenario.events > 1 else judge(load, events)
        if load.failed:
            wrong.append(f"{load.failed} requests were not answered with 2xx")
        others = {name: count for name, count in events.outcomes.items() if count and name != "accepted"}
        if others:
            wrong.append(f"not all events were accepted: {others}")
        if used.pids != used_before.pids:
            wrong.append("a process ended during the turn")
        return Turn(
            scenario.name, number, events.received, load.requests, load.seconds, row.p50_s, row.p99_s,
            {role: seconds - used_before.cpu_s.get(role, 0.0) for role, seconds in used.cpu_s.items()},
            dict(used.resident),
            {name: value - counted_before.get(name, 0.0) for name, value in counted.items()},
            tuple(wrong),
        )  # fmt: skip


def _counters(headgate: Headgate) -> dict[str, float]:
    # The supervisor merges what the children say each second: wait for the last word.
    time.sleep(1.1)
    with urllib.request.urlopen(f"{headgate.admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = dict.fromkeys((*COUNTERS.values(), *LOOKUPS.values()), 0.0)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in COUNTERS:
                found[COUNTERS[sample.name]] += sample.value
            elif sample.name == "headgate_key_lookups_total" and sample.labels["found"] in LOOKUPS:
                found[LOOKUPS[sample.labels["found"]]] += sample.value
    return found


def as_json(turn: Turn) -> dict[str, Any]:
    """A turn for scripts."""
    return {
        "scenario": turn.scenario, "round": turn.round, "events": turn.events, "requests": turn.requests,
        "seconds": turn.seconds, "p50_s": turn.p50_s, "p99_s": turn.p99_s, "cpu_s": turn.cpu_s,
        "resident_bytes": turn.resident, "counters": turn.counters, "wrong": list(turn.wrong),
    }  # fmt: skip
