"""
When a crashed process is started again: at once, then after ever longer waits, then not at all.

    crash in a row   1   2      3      4      5      6 …
    wait before      0   0.1 s  0.2 s  0.4 s  0.8 s  doubling to 30 s

Each wait but the first is cut by up to a half at random, so that slots that fell together don't rise
together. A crash begins a new row when the one before was longer ago than the window. More than
`crashes_max` crashes within the window park the slot: by then it is not bad luck.

Pure: the caller brings the time and the chance.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable


class Backoff:
    """The crash history of one slot. All times are seconds of one monotonic clock."""

    def __init__(
        self,
        *,
        first_s: float = 0.1,
        max_s: float = 30.0,
        crashes_max: int = 5,
        window_s: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` gives numbers in [0, 1)."""
        self.first_s = first_s
        self.max_s = max_s
        self.crashes_max = crashes_max
        self.window_s = window_s
        self._chance = chance
        self._crashes: deque[float] = deque(maxlen=crashes_max + 1)
        self._row = 0

    def crashed(self, now: float) -> float | None:
        """Note a crash at `now`; give the seconds to wait before the next start, or None to park."""
        if self._crashes and now - self._crashes[-1] > self.window_s:
            self._row = 0
        self._row += 1
        self._crashes.append(now)
        within = sum(1 for crash in self._crashes if now - crash <= self.window_s)
        if within > self.crashes_max:
            return None
        if self._row == 1:
            return 0.0
        # The exponent is bounded, or a long row would overflow before `min` could help.
        wait_s = min(self.first_s * 2.0 ** min(self._row - 2, 60), self.max_s)
        return wait_s * (1.0 - 0.5 * self._chance())

    def forget(self) -> None:
        """Begin with a clean slate (after unparking)."""
        self._crashes.clear()
        self._row = 0
