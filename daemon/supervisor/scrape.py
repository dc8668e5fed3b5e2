"""
One exposition out of what all processes count.

Each child reports its metrics beside every beat, at each scrape and once more when it ends. `Ledger`
keeps the last report of each living process, and of the dead what must not be lost:

    shown(slot) = Σ reports of its living processes + what its dead ones had counted

Counters and histograms are kept for the dead, gauges go with their process. While a roll is on, a slot
has two processes, and both are summed.

The law of conservation: received − Σ outcomes is what is in flight, never below 0, and 0 at rest. When a
process dies, what it had received but not ended by its last report is in flight for ever: it is counted
as outcome `interrupted` there and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from daemon.actors.messages import Family

#: Prometheus' text format, as `generate_latest` writes it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Families whose samples add up.
ADDITIVE = frozenset({"counter", "histogram", "summary"})

#: Gauges that say how things are, not how many there are: of two processes of a slot the younger one's holds.
STATE_SUFFIXES = ("_up", "_open", "_info", "_start_time_seconds", "_files_max", "_free_bytes")

RECEIVED = "headgate_events_received"
ENDED = "headgate_events"
INTERRUPTED = (("outcome", "interrupted"),)

Place = tuple[str, int]
Labels = tuple[tuple[str, str], ...]


class _Sum:
    """One family, added up."""

    __slots__ = ("help", "kind", "name", "values")

    def __init__(self, name: str, kind: str, help: str) -> None:  # noqa: A002  the exposition's own word
        self.name = name
        self.kind = kind
        self.help = help
        self.values: dict[tuple[str, Labels], float] = {}

    def add(self, family: Family) -> None:
        adds_up = self.kind in ADDITIVE or (self.kind == "gauge" and not self.name.endswith(STATE_SUFFIXES))
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            self.values[key] = self.values.get(key, 0.0) + sample.value if adds_up else sample.value


class Ledger:
    """What every process of every slot has counted."""

    def __init__(self) -> None:
        #: place → key of the process → family name → last report. Processes in the order of their start.
        self._living: dict[Place, dict[int, dict[str, Family]]] = {}
        #: place → family name → what dead processes had counted.
        self._kept: dict[Place, dict[str, _Sum]] = {}

    def report(self, role: str, slot: int, process: int, families: Iterable[Family]) -> None:
        """The process with that key says what it has counted so far. Families it leaves out stay as they were."""
        reports = self._living.setdefault((role, slot), {}).setdefault(process, {})
        reports.update((family.name, family) for family in families)

    def gone(self, role: str, slot: int, process: int) -> None:
        """The process has ended: keep what it counted, and end what it had in flight."""
        place = (role, slot)
        reports = self._living.get(place, {}).pop(process, None)
        if reports is None:
            return
        kept = self._kept.setdefault(place, {})
        for family in reports.values():
            if family.kind in ADDITIVE:
                _into(kept, family)
        in_flight = _total(reports.get(RECEIVED)) - _total(reports.get(ENDED))
        if in_flight > 0:
            key = (f"{ENDED}_total", INTERRUPTED)
            ended = kept.setdefault(ENDED, _Sum(ENDED, "counter", "Events that ended, by outcome.")).values
            ended[key] = ended.get(key, 0.0) + in_flight

    def forget(self, role: str, slot: int) -> None:
        """The slot is no more: its gauges are gone, its counts stay."""
        self._living.pop((role, slot), None)

    def total(self, family: str) -> float:
        """The sum of all samples of a counter over all places, dead processes included."""
        return sum(
            sum(merged[family].values.values())
            for merged in map(self._merge, self._places())
            if family in merged
        )

    def last(self, role: str, family: str, labels: dict[str, str] | None = None) -> list[float]:
        """A gauge's values in the youngest process of each slot of `role`, with the given labels."""
        found: list[float] = []
        for (name, _), processes in self._living.items():
            reports = next(reversed(processes.values()), None) if name == role else None
            samples = reports[family].samples if reports and family in reports else ()
            found += [one.value for one in samples if labels is None or labels.items() <= one.labels.items()]
        return found

    def exposition(self, own: Sequence[Family] = ()) -> bytes:
        """
        Everything in Prometheus' text format, each sample with `role` and `slot`.

        `own` are the supervisor's: those about the daemon as a whole (`headgate_…`) stand without
        `role` and `slot`, those about its process (`headgate_process_…`, `python_…`) are of role
        supervisor, slot 0.
        """
        metrics: dict[str, Metric] = {}
        for family in own:
            process = family.name.startswith(("headgate_process_", "python_"))
            _show(metrics, _summed(family), ("supervisor", 0) if process else None)
        for place in self._places():
            for merged in self._merge(place).values():
                _show(metrics, merged, place)
        return generate_latest(_Fixed(list(metrics.values())))

    def _places(self) -> list[Place]:
        return sorted(self._living.keys() | self._kept.keys())

    def _merge(self, place: Place) -> dict[str, _Sum]:
        merged: dict[str, _Sum] = {}
        for name, kept in self._kept.get(place, {}).items():
            copy = merged[name] = _Sum(kept.name, kept.kind, kept.help)
            copy.values.update(kept.values)
        for reports in self._living.get(place, {}).values():
            for family in reports.values():
                _into(merged, family)
        return merged


class _Fixed(Collector):
    """Metrics that are made already, in the form that `generate_latest` asks for."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _into(sums: dict[str, _Sum], family: Family) -> None:
    merged = sums.get(family.name)
    if merged is None:
        merged = sums[family.name] = _Sum(family.name, family.kind, family.help)
    merged.add(family)


def _summed(family: Family) -> _Sum:
    merged = _Sum(family.name, family.kind, family.help)
    merged.add(family)
    return merged


def _total(family: Family | None) -> float:
    return sum(sample.value for sample in family.samples) if family is not None else 0.0


def _show(metrics: dict[str, Metric], family: _Sum, place: Place | None) -> None:
    metric = metrics.get(family.name)
    if metric is None:
        metric = metrics[family.name] = Metric(family.name, family.help, family.kind)
    where = {"role": place[0], "slot": str(place[1])} if place is not None else {}
    for (name, labels), value in family.values.items():
        metric.add_sample(name, {**where, **dict(labels)}, value)
