"""
What the operating system says of a process and of the disk that it writes to.

Two rooms of the catalogue that fill themselves: they read `/proc` and `statvfs` when somebody scrapes, and
cost nothing in between. prometheus-client's own collector is not used, as it knows neither the servers below
`embedded` nor the disk, and its names would not say whose they are once the supervisor has merged them.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from daemon.observe.catalog import Room
from daemon.observe.metrics import Counter, Gauge

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ReadCounter(Counter):
    """A counter that somebody else keeps, read when asked. It never goes back, whatever the reading says."""

    def __init__(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        super().__init__(name, meaning)
        self.read = read

    def collect(self) -> Metric:
        """As prometheus-client wants it."""
        cell = self.at()
        cell.n = max(cell.n, self.read())
        return super().collect()


class ProcessMetrics(Room):
    """The process itself; with `servers_below`, the servers that it runs as children too."""

    def __init__(self, *, servers_below: bool = False) -> None:
        self.cpu = ReadCounter(
            "headgate_process_cpu_seconds",
            "Seconds of CPU, user and system, over all threads and the child processes that have ended; for "
            "`embedded` also those of the servers that run.",
            (lambda: cpu_seconds() + sum(map(_cpu_seconds_of, _below()))) if servers_below else cpu_seconds,
        )
        self.resident = Gauge(
            "headgate_process_resident_bytes",
            "Bytes of memory in use (for `embedded` with the servers, shared pages counted once).",
            read=(lambda: resident_bytes() + sum(map(_own_bytes_of, _below())))
            if servers_below
            else resident_bytes,
        )
        self.files = Gauge("headgate_process_open_files", "File descriptors in use.", read=open_files)
        self.files_max = Gauge(
            "headgate_process_open_files_max",
            "File descriptors that the process may have.",
            read=open_files_max,
        )
        self.started = Gauge("headgate_process_start_time_seconds", "When it started, in Unix seconds.")
        self.started.at().n = _started_at()


class DiskMetrics(Room):
    """The disk of the data folder."""

    def __init__(self, folder: Path) -> None:
        self.free = Gauge(
            "headgate_disk_free_bytes",
            "Bytes that Headgate can still write to the disk of its data folder.",
            read=lambda: free_bytes(folder),
        )


def cpu_seconds() -> float:
    """Seconds of CPU of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def resident_bytes() -> float:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES


def open_files() -> float:
    """File descriptors of this process, without the one that lists them."""
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (a listing, not paths)


def open_files_max() -> float:
    """File descriptors that this process may have; infinity without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def free_bytes(folder: Path) -> float:
    """Bytes free to this user on the disk of `folder`; NaN, which no alert fires on, while there is none."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return math.nan
    return disk.f_bavail * disk.f_frsize


def _started_at() -> float:
    # Out of two clocks, as a hardened service sees no more of /proc than its own processes: no btime of /proc/stat.
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted_at + int(_stat("self")[19]) / _TICKS_PER_S


def _stat(pid: int | str) -> list[bytes]:
    """The fields of /proc/<pid>/stat from `state` on: the name before it may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _below() -> Iterator[int]:
    """The ids of all living descendants. One that ends meanwhile takes its own out of the list, no more."""
    waiting = ["self"]
    while waiting:
        parent = waiting.pop()
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                for child in (task / "children").read_text("ascii").split():
                    waiting.append(child)
                    yield int(child)
        except OSError:
            continue


def _cpu_seconds_of(pid: int) -> float:
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _own_bytes_of(pid: int) -> float:
    """Its share of memory: PostgreSQL's processes have their buffers in common, and would count them each."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0.0
