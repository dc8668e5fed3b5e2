"""Process and disk metrics say what the operating system says."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from daemon.observe.metrics import Instrument
from daemon.observe.process import DiskMetrics, ProcessMetrics, ReadCounter

SPIN = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"


def value(instrument: Instrument) -> float:
    samples = instrument.collect().samples
    assert len(samples) == 1
    return float(samples[0].value)


def test_they_agree_with_another_reader() -> None:
    here = psutil.Process()
    room = ProcessMetrics()
    before = time.process_time()
    cpu = value(room.cpu)
    assert before - 0.05 <= cpu <= sum(here.cpu_times()[:4]) + 0.05
    assert abs(value(room.resident) - here.memory_info().rss) < 64 * 1024 * 1024
    # psutil counts the descriptor with which it lists them.
    assert value(room.files) == here.num_fds() - 1
    assert value(room.files_max) == here.rlimit(psutil.RLIMIT_NOFILE)[0]
    assert abs(value(room.started) - here.create_time()) < 2


def test_an_open_file_is_counted(tmp_path: Path) -> None:
    room = ProcessMetrics()
    before = value(room.files)
    with (tmp_path / "one").open("w"):
        assert value(room.files) == before + 1


def test_servers_below_are_counted_when_asked_for() -> None:
    alone, with_them = ProcessMetrics(), ProcessMetrics(servers_below=True)
    before = value(with_them.cpu)
    # A grandchild: PostgreSQL's processes are children of a child.
    parent = f"import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-c', {SPIN!r}]))"
    child = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        assert value(with_them.cpu) - before >= 0.29
        assert value(with_them.cpu) - value(alone.cpu) >= 0.29
        assert value(with_them.resident) > value(alone.resident) + 1024 * 1024
    finally:
        child.communicate(b"\n", timeout=10)
    # Ended and waited for, their time is in ours: it goes on counting, and never back.
    assert value(with_them.cpu) - before >= 0.29


def test_a_read_counter_never_goes_back() -> None:
    readings = iter([3.0, 2.0, 5.0])
    counter = ReadCounter("headgate_something", "Something.", lambda: next(readings))
    assert [value(counter) for _ in range(3)] == [3, 3, 5]


def test_disk(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert 0 < value(DiskMetrics(tmp_path).free) <= disk.f_blocks * disk.f_frsize
    assert math.isnan(value(DiskMetrics(tmp_path / "not there").free))
