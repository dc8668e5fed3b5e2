"""What a running Headgate shows at /metrics is what the catalogue, the alerts and the dashboard are about."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bench.instance import Headgate, counts
from daemon.roles import ROLES
from scripts.metrics_reference import entries, groups
from tests.servers.tools import need

#: Not in the catalogue: prometheus-client's own.
OTHERS = ("python_gc_", "python_info")


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Headgate(tmp_path_factory.mktemp("hg"), {"HEADGATE_FRONTEND__COUNT": "2"}) as headgate:
        source = headgate.create_source(1, rate=1000, burst=1000)
        headers = {"Authorization": f"Bearer {source.key}", "Content-Type": "application/json"}
        for body, status in ((b'{"type":"track","event":"Seen"}', 200), (b'{"type":"track"}', 400)):
            reply = httpx.post(f"{headgate.url}/v1/t", content=body, headers=headers, timeout=20)
            assert reply.status_code == status
        assert headgate.counts_at_rest().in_work == 0
        shown = httpx.get(f"{headgate.admin}/metrics", timeout=10)
        assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
        yield shown.text


@pytest.fixture(scope="module")
def families(exposition: str) -> list[Metric]:
    return list(text_string_to_metric_families(exposition))


def test_promtool_accepts_it(exposition: str) -> None:
    done = subprocess.run(
        [need("promtool"), "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("headgate_")]
    assert said == []
    assert done.returncode in (0, 3), done.stderr  # 3: advice on prometheus-client's own names


def test_all_of_the_catalogue_is_shown_and_nothing_else(families: list[Metric]) -> None:
    shown = {sample.name for family in families for sample in family.samples}
    known = {name for entry in entries() for name in entry.samples}
    assert known - shown == set()
    assert {name for name in shown - known if not name.startswith(OTHERS)} == set()


def test_kinds_and_label_values_are_the_catalogues(families: list[Metric]) -> None:
    by_name = {entry.name: entry for entry in entries()}
    for family in families:
        if family.name not in by_name:
            continue
        entry = by_name[family.name]
        assert family.type == entry.kind
        assert family.documentation == entry.meaning
        if entry.label and entry.label != "role":
            values = {sample.labels[entry.label] for sample in family.samples}
            assert values <= set(entry.values)


def test_roles_are_those_that_the_document_names(families: list[Metric]) -> None:
    daemon = {"supervisor"}
    every = {role.name for role in ROLES} | daemon
    roles = {
        family.name: {sample.labels.get("role", "supervisor") for sample in family.samples}
        for family in families
    }
    for group in groups():
        named = every if group.roles == "every process" else set(group.roles.split(", "))
        for entry in group.entries:
            if entry.label != "role":
                assert roles[entry.name] <= named, entry.name
    assert {"frontend", "publisher", "processor", "supervisor", "embedded"} == roles[
        "headgate_process_cpu_seconds"
    ]


def test_counts_are_what_was_sent(exposition: str) -> None:
    found = counts(exposition)
    assert found.received == 2
    assert {name: count for name, count in found.outcomes.items() if count} == {
        "accepted": 1,
        "invalid_payload": 1,
    }
    assert found.records == {"kafka": 0, "local": 1}


def test_the_instance_is_as_the_alerts_want_it(families: list[Metric]) -> None:
    def value(name: str, **labels: str) -> float:
        found = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"{name} {labels} is not shown"
        return min(found)

    assert value("headgate_ready") == 1
    assert value("headgate_slots", state="READY") == 5
    assert value("headgate_slots", state="PARKED") == 0
    assert value("headgate_store_up", role="frontend", store="redis") == 1
    assert value("headgate_store_up", role="frontend", store="postgres") == 1
    assert value("headgate_log_breaker_open") == 0, "without Kafka there is nothing to be away"
    assert value("headgate_spool_records") == 0, "without Kafka nothing waits for it"
    assert value("headgate_disk_free_bytes", role="publisher") > 0
    assert value("headgate_process_resident_bytes", role="frontend") > 10 * 1024 * 1024
    assert value("headgate_process_cpu_seconds_total", role="embedded") > 0


def test_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with Headgate(tmp_path, {"HEADGATE_FRONTEND__COUNT": "1"}) as headgate:
        pids = [int(slot["pid"]) for slot in headgate.slots()["slots"]]
        assert len(pids) == 4
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()
