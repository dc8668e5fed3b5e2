"""A run's figures as tables for people and as JSON for scripts."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.children import ROOT
from bench.generators import Load
from bench.instance import OWN_ROLES, Counts
from bench.watch import Used

#: Order of the rows.
ROLES = ("supervisor", "frontend", "publisher", "embedded")


@dataclass(slots=True)
class Result:
    """One round of load on Headgate."""

    load: Load
    used: Used
    events: Counts
    wrong: list[str] = field(default_factory=list)

    def cpu_per_1000(self, roles: tuple[str, ...]) -> float:
        """CPU seconds of these roles for 1,000 events that arrived; 0.0 without any."""
        if not self.events.received:
            return 0.0
        return 1000 * sum(self.used.cpu_s.get(role, 0.0) for role in roles) / self.events.received


@dataclass(frozen=True, slots=True)
class Round:
    """One round of load on the bare server, or on Headgate beside it."""

    who: str
    load: Load
    cpu_s: float
    by_role: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds for 1,000 requests; 0.0 without any."""
        return self._per_1000(self.cpu_s)

    def share(self, role: str) -> float:
        """The same of one role."""
        return self._per_1000(self.by_role.get(role, 0.0))

    def _per_1000(self, cpu_s: float) -> float:
        return 1000 * cpu_s / self.load.requests if self.load.requests else 0.0


def judge(load: Load, events: Counts) -> list[str]:
    """What is wrong with a run; empty when nothing is. `events` are the counts at rest."""
    wrong = [f"{count} × {what}" for what, count in sorted(load.faults.items())]
    if events.in_work != 0:
        wrong.append(
            f"conservation law violated: received {events.received}, ended {sum(events.outcomes.values())}, "
            f"{events.in_work} left at rest"
        )
    if not load.answered <= events.received <= load.answered + load.maybe:
        wrong.append(
            f"the generator got {load.answered} answers to events (and {load.maybe} may have arrived without one), "
            f"Headgate counted {events.received}"
        )
    durable = sum(events.records.values())
    if durable < events.outcomes.get("accepted", 0):
        wrong.append(
            f"{events.outcomes['accepted']} events were accepted, but only {durable} records are durable"
        )
    return wrong


def machine() -> dict[str, Any]:
    """Where the run was: figures of two machines do not compare."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "commit": commit or "unknown",
    }


def as_json(result: Result) -> dict[str, Any]:
    """A round on Headgate, for scripts. Times in seconds, memory in bytes."""
    return {
        "seconds": result.load.seconds,
        "requests": result.load.requests,
        "requests_per_s": _per_s(result.load.requests, result.load.seconds),
        "events_per_s": _per_s(result.events.received, result.load.seconds),
        "failed": result.load.failed,
        "endpoints": [{**dataclasses.asdict(row), "requests": row.requests} for row in result.load.rows],
        "processes": {
            role: {
                "processes": result.used.processes[role],
                "cpu_s": result.used.cpu_s[role],
                "cpu_s_per_1000_events": result.cpu_per_1000((role,)),
                "peak_resident_bytes": result.used.peak_bytes[role],
                "peak_queue_events": result.used.peak_queue[role],
                "replaced": result.used.replaced.get(role, 0),
            }
            for role in result.used.processes
        },
        "cpu_s_per_1000_events": result.cpu_per_1000(OWN_ROLES),
        "events": {
            "answered": result.load.answered,
            "maybe_arrived": result.load.maybe,
            "received": result.events.received,
            "outcomes": result.events.outcomes,
            "in_work_at_rest": result.events.in_work,
            "durable": result.events.records,
        },
        "wrong": result.wrong,
    }


def round_json(one: Round) -> dict[str, Any]:
    """A round of a comparison, for scripts."""
    return {
        "who": one.who,
        "requests": one.load.requests,
        "requests_per_s": _per_s(one.load.requests, one.load.seconds),
        "failed": one.load.failed,
        "cpu_s_per_1000_requests": one.cpu_per_1000,
        "by_role": {role: one.share(role) for role in one.by_role},
        "endpoints": [dataclasses.asdict(row) for row in one.load.rows],
    }


def show(console: Console, result: Result) -> None:
    """A round on Headgate, for people."""
    _show_requests(console, result.load)
    _show_processes(console, result)
    events = result.events
    ended = ", ".join(f"{name} {count}" for name, count in events.outcomes.items() if count) or "none"
    durable = ", ".join(f"{where} {count}" for where, count in events.records.items() if count) or "none"
    console.print(f"events: answered {result.load.answered}, received {events.received}; {ended}")
    console.print(f"durable records: {durable}")
    console.print(f"received − Σ outcomes at rest: {events.in_work}")
    for line in result.wrong:
        console.print(f"[red]wrong:[/] {escape(line)}")


def _show_requests(console: Console, load: Load) -> None:
    table = Table(title="requests", title_justify="left", box=box.SIMPLE)
    table.add_column("endpoint")
    for name in ("requests", "per s", "2xx", "other answers", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(name, justify="right")
    for row in load.rows:
        good = sum(count for status, count in row.answers.items() if status.startswith("2"))
        other = ", ".join(f"{s} {c}" for s, c in sorted(row.answers.items()) if not s.startswith("2"))
        times = (f"{1000 * value:.1f}" for value in (row.p50_s, row.p95_s, row.p99_s, row.max_s))
        table.add_row(
            row.endpoint,
            str(row.requests),
            f"{_per_s(row.requests, load.seconds):.0f}",
            str(good),
            other or "–",
            *times,
        )
    console.print(table)


def _show_processes(console: Console, result: Result) -> None:
    used = result.used
    table = Table(title="processes", title_justify="left", box=box.SIMPLE)
    table.add_column("role")
    for name in ("processes", "CPU s", "CPU s per 1,000 events", "peak MiB", "peak queue", "replaced"):
        table.add_column(name, justify="right")
    for role in (*ROLES, *sorted(used.processes.keys() - set(ROLES))):
        if role not in used.processes:
            continue
        table.add_row(
            role,
            str(used.processes[role]),
            f"{used.cpu_s[role]:.2f}",
            f"{result.cpu_per_1000((role,)):.4f}",
            f"{used.peak_bytes[role] / 2**20:.0f}",
            str(used.peak_queue[role]),
            str(used.replaced.get(role, 0)),
        )
    table.add_section()
    own = sum(used.cpu_s.get(role, 0.0) for role in OWN_ROLES)
    table.add_row("without stores", "", f"{own:.2f}", f"{result.cpu_per_1000(OWN_ROLES):.4f}", "", "", "")
    console.print(table)


def ratios(rounds: list[Round], who: str, unit: str) -> tuple[float, float, float]:
    """
    CPU per request of `who` in units of `unit`: of the least of each, and the lowest and highest of pairs.

    The least, because what disturbs a measurement only ever adds. Pairs are neighbours in time.
    """
    mine = [one.cpu_per_1000 for one in rounds if one.who == who]
    theirs = [one.cpu_per_1000 for one in rounds if one.who == unit]
    if not mine or not theirs or min(theirs) <= 0:
        return (0.0, 0.0, 0.0)
    pairs = [a / b for a, b in zip(mine, theirs, strict=True) if b > 0]
    return (min(mine) / min(theirs), min(pairs), max(pairs))


def show_rounds(console: Console, rounds: list[Round], unit: str) -> None:
    """A comparison, for people."""
    table = Table(title=f"CPU per request, in units of the {unit}", title_justify="left", box=box.SIMPLE)
    table.add_column("server")
    for name in ("requests", "per s", "failed", "p50 ms", "p99 ms", "CPU s per 1,000 requests"):
        table.add_column(name, justify="right")
    for one in rounds:
        posts = [row for row in one.load.rows if row.endpoint.startswith("POST")]
        table.add_row(
            one.who,
            str(one.load.requests),
            f"{_per_s(one.load.requests, one.load.seconds):.0f}",
            str(one.load.failed),
            f"{1000 * max((row.p50_s for row in posts), default=0.0):.1f}",
            f"{1000 * max((row.p99_s for row in posts), default=0.0):.1f}",
            f"{one.cpu_per_1000:.4f}",
        )
    console.print(table)
    for who in dict.fromkeys(one.who for one in rounds):
        least, low, high = ratios(rounds, who, unit)
        spread = "" if who == unit else f"   (pairs: {low:.2f} to {high:.2f})"
        console.print(f"{who}: {least:.2f}{spread}")
    split = {role: [one.share(role) for one in rounds if role in one.by_role] for role in ROLES}
    parts = ", ".join(f"{role} {min(found):.4f}" for role, found in split.items() if found)
    if parts:
        console.print(f"of Headgate's CPU s per 1,000 requests, least: {parts}")


def _per_s(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
