"""Looks at one input after the other: what became of it, whether that may be, and what it cost."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets.target import Target

ROOT = Path(__file__).resolve().parents[2]

#: CPU time of one input, in seconds, beyond which it is looked at again; the least of three counts. Real ones take some
#: ten µs, and a bad regular expression minutes. It is CPU time, so that a busy machine changes nothing.
CPU_S_MAX = 0.25

#: So many times beyond it nobody has to count again.
_FAR = 20

#: The outcome of an input that broke the target's promise.
FAILED = "FAILED"


@dataclass
class Failure:
    """A broken promise. `key` tells it from others: where, and by what. `data` is the smallest input that showed it."""

    key: str
    about: str
    data: bytes
    times: int = 1


class Judge:
    """The books of one target: outcomes, failures, and the input that took longest."""

    def __init__(self, target: Target, cpu_s_max: float = CPU_S_MAX) -> None:
        self.target = target
        self.inputs = 0
        self.outcomes: Counter[str] = Counter()
        self.failures: dict[str, Failure] = {}
        self.slowest_s = 0.0
        self.slowest = b""
        self._cpu_s_max = cpu_s_max

    def see(self, data: bytes) -> None:
        """One more input."""
        self.inputs += 1
        outcome, failure, spent_s = self._tried(data)
        if spent_s > self._cpu_s_max:
            if spent_s < _FAR * self._cpu_s_max:
                spent_s = min(spent_s, self._tried(data)[2], self._tried(data)[2])
            if spent_s > self._cpu_s_max and failure is None:
                outcome = FAILED
                failure = Failure("slow", f"{spent_s:.3f} s of CPU for {len(data)} bytes", data)
        if spent_s > self.slowest_s:
            self.slowest_s, self.slowest = spent_s, data
        self.outcomes[outcome] += 1
        if failure is not None:
            self._note(failure)

    def key_of(self, data: bytes) -> str | None:
        """Which promise `data` breaks, None for none; the books stay as they are."""
        _, failure, spent_s = self._tried(data)
        if failure is not None:
            return failure.key
        return "slow" if spent_s > self._cpu_s_max else None

    def _tried(self, data: bytes) -> tuple[str, Failure | None, float]:
        failure: Failure | None = None
        began_s = time.thread_time()
        try:
            outcome = self.target.run(data)
        except Exception as error:  # noqa: BLE001  any that gets here is what is looked for
            outcome, failure = FAILED, Failure(_place(error), _words(error), data)
        return outcome, failure, time.thread_time() - began_s

    def _note(self, failure: Failure) -> None:
        known = self.failures.setdefault(failure.key, failure)
        if known is not failure:
            known.times += 1
            if len(failure.data) < len(known.data):
                known.data, known.about = failure.data, failure.about


#: Pieces of up to so many bytes are looked for everywhere, larger ones at multiples of their size.
_SMALL = 12


def shrunk(data: bytes, broken: Callable[[bytes], bool], tries_max: int = 2000) -> bytes:
    """The smallest input found by leaving out pieces of `data`, halves first, that is still `broken`."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data) and tries_max:
            tries_max -= 1
            shorter = data[:at] + data[at + size :]
            if broken(shorter):
                data = shorter
            else:
                at += size if size > _SMALL else 1
        size = size // 2 if size > _SMALL else size - 1
    return data


def _place(error: BaseException) -> str:
    """The error's type and the innermost line of ours that it went through."""
    place = "nowhere"
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if name.startswith(str(ROOT)) and "/.venv/" not in name:
            place = f"{name.removeprefix(f'{ROOT}/')}:{line}"
    return f"{type(error).__name__} at {place}"


def _words(error: BaseException) -> str:
    lines = traceback.format_exception(error)
    text = "".join(lines)
    return text if len(text) <= 6000 else f"{text[:3000]}\n…\n{text[-3000:]}"
