"""`make bench` as a process: it measures, it compares, and it leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers.tools import ROOT


def bench(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures(folder: Path, *arguments: str) -> dict[str, Any]:
    with bench(folder, *arguments, "--json", "-") as running:
        out, said = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert list(folder.iterdir()) == [], "its folder is gone"
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_run_on_the_mock_broker(tmp_path: Path) -> None:
    found = figures(
        tmp_path,
        "--seconds",
        "2",
        "--users",
        "8",
        "--think",
        "0.1",
        "--sources",
        "2",
        "--frontends",
        "2",
        "--mock-kafka",
    )
    assert found["wrong"] == []
    assert found["log_errors"] == []
    assert "mock" in found["log"]
    events = found["events"]
    assert events["received"] == events["answered"] > 10
    assert events["in_work_at_rest"] == 0
    assert events["received"] == sum(events["outcomes"].values())
    assert events["durable"]["kafka"] == events["outcomes"]["accepted"] > 0
    assert events["durable"]["local"] == 0
    assert {name: one["processes"] for name, one in found["processes"].items()} == {
        "supervisor": 1,
        "frontend": 2,
        "publisher": 1,
        "processor": 1,
        "embedded": 1,
    }
    assert found["processes"]["frontend"]["cpu_s"] > 0
    assert found["processes"]["embedded"]["peak_resident_bytes"] > 10 * 1024 * 1024
    by_endpoint = {row["endpoint"]: row for row in found["endpoints"]}
    assert by_endpoint["OPTIONS preflight"]["answers"].keys() <= {"200", "204"}
    for letter in "pt":
        row = by_endpoint[f"POST /v1/{letter}"]
        assert row["answers"] == {"200": row["requests"]}
        assert 0 < row["p50_s"] <= row["p99_s"] <= row["max_s"]


def test_a_comparison(tmp_path: Path) -> None:
    found = figures(
        tmp_path, "--compare", "--generator", "locust", "--rounds", "1", "--seconds", "1", "--users", "4",
        "--think", "0.02", "--sources", "1", "--frontends", "1",
    )  # fmt: skip
    assert found["wrong"] == []
    assert [one["who"] for one in found["rounds"]] == ["bare server", "Headgate", "Headgate with its stores"]
    assert all(one["requests"] > 0 and one["failed"] == 0 for one in found["rounds"][1:])
    assert found["ratio"]["Headgate with its stores"]["least"] >= found["ratio"]["Headgate"]["least"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with bench(tmp_path, "--seconds", "600", "--users", "2", "--sources", "1", "--frontends", "1") as running:
        below: list[psutil.Process] = []
        end = time.monotonic() + 60
        while not any("locustfile" in " ".join(one.cmdline()) for one in below):
            assert time.monotonic() < end, "it has not got to its load"
            assert running.poll() is None
            time.sleep(0.1)
            try:
                below = psutil.Process(running.pid).children(recursive=True)
                [one.cmdline() for one in below]
            except psutil.NoSuchProcess:
                below = []
        assert len(below) >= 5, "supervisor, embedded, publisher, frontend, locust"
        running.send_signal(number)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 130, said
    assert [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tmp_path.iterdir()) == []
