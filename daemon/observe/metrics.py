"""
Metrics that cost next to nothing to count, collected through prometheus-client.

prometheus-client takes a lock and a dictionary look-up for every increment, which is more than some
whole steps of the hot path take. So the counters here are plain numbers on plain objects (every
process counts in one thread), and `Instruments` is a prometheus-client collector that turns them
into families when somebody asks.

    cell = counter.at("accepted")    # once, at start
    cell.n += 1                      # on the hot path
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

#: Seconds; from the fastest request seen on loopback to the time at which a request is given up.
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip

#: Counts of things that go together (events of a tick, records of a frame).
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class Cell:
    """One number; add to `n`."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n: float = 0


class Counter:
    """A number that only grows, per combination of label values out of closed sets."""

    def __init__(self, name: str, meaning: str, label: str | None = None, values: Iterable[str] = ()) -> None:
        """`label`, if any, takes just the `values`: they show as 0 from the start."""
        self.name = name
        self.meaning = meaning
        self.label = label
        self._cells: dict[str, Cell] = {value: Cell() for value in values} if label else {"": Cell()}

    def at(self, value: str = "") -> Cell:
        """The cell of a label value. Raises KeyError for a value outside the closed set."""
        return self._cells[value]

    def total(self) -> float:
        """The sum over all label values."""
        return sum(cell.n for cell in self._cells.values())

    def collect(self) -> Metric:
        """As prometheus-client wants it."""
        family = CounterMetricFamily(self.name, self.meaning, labels=[self.label] if self.label else [])
        for value, cell in self._cells.items():
            family.add_metric([value] if self.label else [], cell.n)
        return family


class Gauge:
    """A number that goes up and down: set `n`, or give a function that reads it when asked."""

    def __init__(
        self,
        name: str,
        meaning: str,
        label: str | None = None,
        values: Iterable[str] = (),
        read: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.meaning = meaning
        self.label = label
        self.read = read
        self._cells: dict[str, Cell] = {value: Cell() for value in values} if label else {"": Cell()}

    def at(self, value: str = "") -> Cell:
        """The cell of a label value. Raises KeyError for a value outside the closed set."""
        return self._cells[value]

    def collect(self) -> Metric:
        """As prometheus-client wants it."""
        family = GaugeMetricFamily(self.name, self.meaning, labels=[self.label] if self.label else [])
        if self.read is not None:
            self._cells[""].n = self.read()
        for value, cell in self._cells.items():
            family.add_metric([value] if self.label else [], cell.n)
        return family


class Series:
    """One histogram's counts."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_many(self, value: float, times: int) -> None:
        """Count the same observation `times` times (all requests of one tick waited as long)."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Histogram:
    """A distribution, per label value out of a closed set."""

    def __init__(
        self,
        name: str,
        meaning: str,
        bounds: Sequence[float] = LATENCY_BUCKETS_S,
        label: str | None = None,
        values: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.meaning = meaning
        self.label = label
        self._series = {value: Series(bounds) for value in values} if label else {"": Series(bounds)}

    def at(self, value: str = "") -> Series:
        """The series of a label value. Raises KeyError for a value outside the closed set."""
        return self._series[value]

    def collect(self) -> Metric:
        """As prometheus-client wants it."""
        family = HistogramMetricFamily(self.name, self.meaning, labels=[self.label] if self.label else [])
        for value, series in self._series.items():
            running = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip(series.bounds, series.counts, strict=False):
                running += count
                buckets.append((_bound(bound), running))
            buckets.append(("+Inf", running + series.counts[-1]))
            family.add_metric([value] if self.label else [], buckets=buckets, sum_value=series.total)
        return family


Instrument = Counter | Gauge | Histogram


class Instruments(Collector):
    """The instruments of one process, as one prometheus-client collector."""

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self._instruments = list(instruments)

    def add(self, *instruments: Instrument) -> None:
        """Show these too."""
        self._instruments.extend(instruments)

    def collect(self) -> Iterable[Metric]:
        """All families, in the order in which they were added."""
        return [instrument.collect() for instrument in self._instruments]


def _bound(bound: float) -> str:
    return str(float(bound))
