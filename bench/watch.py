"""What Headgate's processes use while they are loaded: CPU between two moments, peaks in between."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bench.children import BenchError
from bench.instance import Headgate, Usage

#: Seconds between looks at memory and queues. A look costs the supervisor a fraction of a millisecond.
EVERY_S = 1.0


@dataclass(slots=True)
class Used:
    """CPU seconds, and peaks of memory (bytes) and queue (events), by role; restarts and processes too."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    peak_queue: dict[str, int] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)


class Watch:
    """Looks while the `with` lasts; `used` is what it saw, whole once it is over."""

    def __init__(self, headgate: Headgate) -> None:
        self.used = Used()
        self._headgate = headgate
        self._first = self._look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._finish(self._look())

    def _loop(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self._look()
            except BenchError:
                # It may be too busy, or gone: the look at the end says which.
                continue

    def _look(self) -> Usage:
        seen = self._headgate.usage()
        for peaks, now in ((self.used.peak_bytes, seen.resident), (self.used.peak_queue, seen.queue)):
            for role, value in now.items():
                peaks[role] = max(peaks.get(role, 0), value)
        return seen

    def _finish(self, last: Usage) -> None:
        for role, seconds in last.cpu_s.items():
            self.used.cpu_s[role] = max(0.0, seconds - self._first.cpu_s.get(role, 0.0))
        for (role, slot), pid in last.pids.items():
            self.used.processes[role] = self.used.processes.get(role, 0) + 1
            if self._first.pids.get((role, slot), pid) != pid:
                self.used.replaced[role] = self.used.replaced.get(role, 0) + 1
