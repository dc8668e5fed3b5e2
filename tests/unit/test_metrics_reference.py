"""docs/metrics.md is what the catalogue says, and the catalogue is whole and well-named."""

from __future__ import annotations

import re

import pytest

from daemon.observe import catalog, process
from daemon.observe.catalog import Room
from scripts import metrics_reference
from scripts.metrics_reference import Entry, entries, groups, text
from tests.servers.tools import ROOT


def test_document_is_up_to_date() -> None:
    written = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert written == text(), "run: python -m scripts.metrics_reference > docs/metrics.md"


def test_every_room_of_the_catalogue_is_in_it() -> None:
    rooms = {
        name
        for module in (catalog, process)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Room) and value is not Room
    }
    assert rooms, "no room found: the test looks in the wrong place"
    assert rooms <= vars(metrics_reference).keys()
    assert len(groups()) == len(rooms)


def test_no_metric_is_there_twice() -> None:
    names = [entry.name for entry in entries()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_names_and_meanings(entry: Entry) -> None:
    assert re.fullmatch(r"headgate_[a-z][a-z_]*[a-z]", entry.name)
    assert not entry.name.endswith("_total"), "prometheus-client adds it"
    assert entry.meaning.endswith("."), "a meaning is a sentence"
    if entry.kind == "counter":
        assert entry.samples == (f"{entry.name}_total",)
    if entry.kind == "histogram":
        assert entry.samples == (f"{entry.name}_bucket", f"{entry.name}_count", f"{entry.name}_sum")
        assert entry.bounds[-1] == "+Inf"
        assert entry.name.endswith(("_seconds", "_bytes", "_records", "_events")), (
            "a histogram names its unit"
        )
    if entry.label:
        if not entry.name.startswith("headgate_slot"):
            assert entry.label not in {"role", "slot", "instance", "job", "le"}, "a label that others add"
        assert entry.values, "a closed set of values, all shown from the start"
        for value in entry.values:
            assert re.fullmatch(r"[A-Za-z_]+", value)
