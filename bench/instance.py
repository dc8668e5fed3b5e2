"""A Headgate of the bench's own: temporary data folder, free ports, its sources, and what it says of itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.children import ROOT, BenchError, Child

HEADGATE = Path(sys.executable).parent / "headgate"

#: First start of the embedded servers: initdb takes seconds.
START_LIMIT_S = 90.0
#: Headgate's own drain limit is 10 s per stage.
STOP_LIMIT_S = 40.0
COMMAND_LIMIT_S = 60.0
REST_LIMIT_S = 15.0

#: Roles whose CPU is Headgate's own work; the embedded servers stand for stores that are elsewhere.
OWN_ROLES = ("supervisor", "frontend", "publisher")


@dataclass(frozen=True, slots=True)
class Source:
    """A source that the bench made."""

    id: str
    key: str
    origin: str
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes have used so far, and hold and queue now, by role; `pids` by (role, slot)."""

    cpu_s: dict[str, float]
    resident: dict[str, int]
    pids: dict[tuple[str, int], int]
    queue: dict[str, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of /metrics that must add up."""

    received: int
    outcomes: dict[str, int]
    records: dict[str, int]

    @property
    def in_work(self) -> int:
        """Received and not ended: never below 0, and 0 at rest."""
        return self.received - sum(self.outcomes.values())

    def since(self, earlier: Counts) -> Counts:
        """What was added after `earlier`."""
        return Counts(
            self.received - earlier.received,
            {name: count - earlier.outcomes.get(name, 0) for name, count in self.outcomes.items()},
            {name: count - earlier.records.get(name, 0) for name, count in self.records.items()},
        )


def counts(exposition: str) -> Counts:
    """The counts in a text that /metrics gave, over all processes."""
    received = 0
    outcomes: dict[str, int] = {}
    records: dict[str, int] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            number = int(sample.value) if sample.name.endswith("_total") else 0
            if sample.name == "headgate_events_received_total":
                received += number
            elif sample.name == "headgate_events_total":
                outcome = sample.labels["outcome"]
                outcomes[outcome] = outcomes.get(outcome, 0) + number
            elif sample.name == "headgate_log_records_total":
                where = sample.labels["durability"]
                records[where] = records.get(where, 0) + number
    return Counts(received, outcomes, records)


class Headgate:
    """Starts `headgate run`, waits until it is ready, and ends it at the end of the `with`."""

    def __init__(self, folder: Path, overrides: Mapping[str, str]) -> None:
        """`overrides` are HEADGATE_… variables; those of the caller's environment hold too, beneath them."""
        if not HEADGATE.exists():
            raise BenchError(f"there is no {HEADGATE}: run `make dev`")
        ingest, dashboard, admin = _free_ports(3)
        self.url = f"http://127.0.0.1:{ingest}"
        self.admin = f"http://127.0.0.1:{admin}"
        self._env = {
            **os.environ,
            **overrides,
            # as JSON, so that errors() can read it
            "HEADGATE_OBSERVE__LOG_FORMAT": "json",
            "HEADGATE_INGEST_PORT": str(ingest),
            "HEADGATE_DASHBOARD_PORT": str(dashboard),
            "HEADGATE_ADMIN_PORT": str(admin),
            "HEADGATE_DATA_DIR": str(folder / "data"),
        }
        self._child = Child(
            "headgate", [str(HEADGATE), "run"], folder, env=self._env, stop_limit_s=STOP_LIMIT_S
        )

    def __enter__(self) -> Self:
        try:
            self._wait_ready()
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_LIMIT_S
        reasons = "no answer"
        while time.monotonic() < end:
            if not self._child.running():
                raise BenchError(f"headgate run ended at once:\n{self._child.last_lines()}")
            try:
                with urllib.request.urlopen(f"{self.admin}/readyz", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                reasons = error.read().decode("utf-8", "replace")
            except OSError:
                pass
            time.sleep(0.1)
        raise BenchError(
            f"Headgate was not ready after {START_LIMIT_S:g} s ({reasons}):\n{self._child.last_lines()}"
        )

    def create_source(self, number: int, *, rate: int, burst: int) -> Source:
        """A source whose pages are at https://shop-<number>.example."""
        origin = f"https://shop-{number}.example"
        made = self.command(
            "sources", "create", "--tenant", "bench", "--name", f"shop {number}",
            "--origin", origin, "--rate", str(rate), "--burst", str(burst),
        )  # fmt: skip
        return Source(made["id"], made["pipeline_key"], origin, made["secret_key"])

    def command(self, *args: str) -> Any:
        """What `headgate <args> --json` prints, decoded."""
        argv = [str(HEADGATE), *args, "--json"]
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT_S,
        )
        if done.returncode != 0:
            what = " ".join(args[:2])
            raise BenchError(f"headgate {what} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def errors(self) -> list[str]:
        """What it has logged at level error or above, one line each."""
        found: list[str] = []
        for line in self._child.log.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
                found.append(f"{entry.get('role')} {entry.get('slot')}: {entry.get('message')}")
        return found

    def slots(self) -> dict[str, Any]:
        """/slots."""
        found: dict[str, Any] = json.loads(_get(f"{self.admin}/slots"))
        return found

    def counts(self) -> Counts:
        """The counters, now."""
        return counts(_get(f"{self.admin}/metrics"))

    def counts_at_rest(self) -> Counts:
        """The counters once nothing is in work; the last ones where that does not come to pass in time."""
        end = time.monotonic() + REST_LIMIT_S
        found = self.counts()
        while found.in_work != 0 and time.monotonic() < end:
            time.sleep(0.2)
            found = self.counts()
        return found

    def usage(self) -> Usage:
        """CPU and memory of all processes, by role, read from the operating system."""
        seen = self.slots()
        places = [("supervisor", 0, int(seen["supervisor"]), 0)]
        places += [
            (str(slot["role"]), int(slot["slot"]), int(slot["pid"]), int(slot["queue"] or 0))
            for slot in seen["slots"]
            if slot["pid"]
        ]
        cpu: dict[str, float] = {}
        memory: dict[str, int] = {}
        queue: dict[str, int] = {}
        for role, _, pid, depth in places:
            seconds, held = _used(pid, with_children=role == "embedded")
            cpu[role] = cpu.get(role, 0.0) + seconds
            memory[role] = memory.get(role, 0) + held
            queue[role] = queue.get(role, 0) + depth
        return Usage(cpu, memory, {(role, slot): pid for role, slot, pid, _ in places}, queue)


def _used(pid: int, *, with_children: bool) -> tuple[float, int]:
    """CPU seconds and bytes of a process; with its children, shared pages counted once."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        seconds = times.user + times.system
        if not with_children:
            return seconds, process.memory_info().rss
        # Those that have ended are in their parent's children_*.
        seconds += times.children_user + times.children_system
        held = process.memory_full_info().pss
        below = process.children(recursive=True)
    except psutil.Error:
        return 0.0, 0
    for child in below:
        try:
            times = child.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
            held += child.memory_full_info().pss
        except psutil.Error:
            continue
    return seconds, held


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            body: bytes = answer.read()
    except OSError as error:
        raise BenchError(f"{url} does not answer: {error}") from error
    return body.decode()


def _free_ports(count: int) -> list[int]:
    """Free ports of loopback. All are held until all are known, so that none comes twice."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
