"""Metrics as messages: what prometheus-client collects, taken at one moment in a form that can be sent and added up."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from daemon.actors.messages import Family, Sample


def families(collector: Collector) -> list[Family]:
    """
    All families of `collector` with their samples.

    The times at which series were created are left out: they are no help once series of several
    processes are added up.
    """
    return [_family(metric) for metric in collector.collect()]


def _family(metric: Metric) -> Family:
    samples = [
        Sample(sample.name, dict(sample.labels), float(sample.value))
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]
    return Family(metric.name, metric.type, metric.documentation, samples)


def merged(collectors: Iterable[Collector]) -> list[Family]:
    """The families of several collectors, one after the other."""
    return [family for collector in collectors for family in families(collector)]
