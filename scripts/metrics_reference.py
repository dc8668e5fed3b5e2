"""
`python -m scripts.metrics_reference` prints `docs/metrics.md`: every metric, what it means, its labels.

The text comes from the catalogue (`daemon/observe/catalog.py` and `process.py`), where metrics are defined,
so that the document can't say something else than `/metrics` does; a test fails when the file is behind.
It stands here and not in `daemon.observe`, because the closed sets of label values live above that room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from daemon.events.outcome import Outcome
from daemon.events.stored import Reason
from daemon.observe.catalog import (
    GateMetrics,
    IngestMetrics,
    LocalLogMetrics,
    OutboxMetrics,
    ProcessorMetrics,
    PublisherMetrics,
    Room,
    StoreMetrics,
    SupervisorMetrics,
)
from daemon.observe.metrics import Instrument
from daemon.observe.process import DiskMetrics, ProcessMetrics
from daemon.roles import ROLES
from daemon.supervisor.slot import State

HEAD = """\
# Metrics

Made by `python -m scripts.metrics_reference` from the catalogue in `daemon/observe/`; a test fails when this
file is behind it. Alerts that use them: `config/prometheus/rules.yml`; dashboard:
`config/grafana/headgate.json`.

`GET /metrics` on the admin port (9090) answers for all processes at once, in the text format of Prometheus.
Every process counts for itself; the supervisor collects, adds the labels `role` and `slot`, and keeps what a
dead process had counted, so that no counter goes back when a process is replaced.

- Counters end in `_total`. A histogram `x` shows as `x_bucket{le=…}`, `x_sum` and `x_count`.
- Base units: seconds, bytes, events, records. Times are wall seconds unless they say CPU.
- Label values come from closed sets, and all of them show from the start. No tenant, key, path, address or
  user agent is ever a label: per-tenant figures are in PostgreSQL.
- `python_gc_…` and `python_info` of prometheus-client are there too, per process.
- `headgate_events_received_total` − Σ `headgate_events_total` is what is in work: never below 0, and 0 at
  rest. Anything else is a bug (alert `HeadgateConservationViolated`).
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One metric of the catalogue.

    `name` is as declared, `samples` are the names that /metrics shows; `bounds` are a histogram's upper bounds.
    """

    name: str
    kind: str
    meaning: str
    label: str | None
    values: tuple[str, ...]
    bounds: tuple[str, ...]
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The metrics of one room, and the roles whose processes have it."""

    title: str
    roles: str
    entries: tuple[Entry, ...]


def groups() -> list[Group]:
    """The whole catalogue, room by room."""
    frontend, publisher, processor, everyone = "frontend", "publisher", "processor", "every process"
    rooms: list[tuple[str, str, Room]] = [
        ("Events and requests", frontend, IngestMetrics(list(Outcome))),
        ("The gate before all events", frontend, GateMetrics()),
        ("The queue to the publishers", f"{frontend}, {processor}", OutboxMetrics()),
        ("Stores, claims, keys and limits", f"{frontend}, {publisher}", StoreMetrics()),
        ("The event log", publisher, PublisherMetrics()),
        ("The local log's files", publisher, LocalLogMetrics()),
        ("From the log to PostgreSQL", processor, ProcessorMetrics(list(Reason))),
        ("The supervisor", "supervisor", SupervisorMetrics(tuple(role.name for role in ROLES), tuple(State))),
        ("Processes", everyone, ProcessMetrics()),
        ("Disk", publisher, DiskMetrics(Path("/"))),
    ]
    return [
        Group(title, roles, tuple(_entry(instrument) for instrument in room.instruments()))
        for title, roles, room in rooms
    ]


def entries() -> list[Entry]:
    """All metrics."""
    return [entry for group in groups() for entry in group.entries]


def _entry(instrument: Instrument) -> Entry:
    family = instrument.collect()
    label = instrument.label
    return Entry(
        name=family.name,
        kind=family.type,
        meaning=family.documentation,
        label=label,
        values=_seen(sample.labels[label] for sample in family.samples) if label else (),
        bounds=_seen(sample.labels["le"] for sample in family.samples if "le" in sample.labels),
        samples=_seen(sample.name for sample in family.samples),
    )


def _seen(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def text() -> str:
    """The document."""
    lines = [HEAD]
    for group in groups():
        lines += [f"## {group.title}", "", f"Of: {group.roles}.", ""]
        lines += ["| Metric | Kind | Meaning | Label |", "|---|---|---|---|"]
        for entry in group.entries:
            shown = entry.samples[0] if entry.kind == "counter" else entry.name
            values = f"`{entry.label}`: {', '.join(entry.values)}" if entry.label else ""
            lines.append(f"| `{shown}` | {entry.kind} | {entry.meaning.replace('|', '/')} | {values} |")
        lines.append("")
    lines += ["## Buckets", "", "| Histogram | Upper bounds |", "|---|---|"]
    lines += [f"| `{entry.name}` | {', '.join(entry.bounds)} |" for entry in entries() if entry.bounds]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(text(), end="")
