"""Relief for hot keys: a visitor with too many events a second is spread over partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


class HotKeys:
    """
    Counts the records of each key in the running second.

    A key over the bound gets a salt, so that one partition (and whoever reads it) is not flooded; its
    order is lost while it is hot, which is counted.
    """

    #: Keys that are counted at once; with more than that, no single one is hot.
    KEYS_MAX = 50_000
    SALTS = 16

    def __init__(self, per_s_max: int) -> None:
        self._per_s_max = per_s_max
        self._second = 0
        self._counts: Counter[bytes] = Counter()

    def all_cool(self, keys: Sequence[bytes], now_s: float) -> bool:
        """
        Whether none of `keys` is hot now, in which case they are counted: nearly always, and at once.

        Else nothing was counted, and each is to be asked for by itself (`salted`).
        """
        if int(now_s) != self._second:
            self._begin(int(now_s))
        counts = self._counts
        if len(counts) + len(keys) > self.KEYS_MAX:
            return False
        counts.update(keys)
        if max(map(counts.__getitem__, keys)) <= self._per_s_max:
            return True
        counts.subtract(keys)
        return False

    def salted(self, key: bytes, now_s: float) -> bytes | None:
        """The key to use instead of `key` if it is hot now, else None."""
        second = int(now_s)
        if second != self._second:
            self._begin(second)
        count = self._counts.get(key, 0) + 1
        if count > 1 or len(self._counts) < self.KEYS_MAX:
            self._counts[key] = count
        if count <= self._per_s_max:
            return None
        return b"%b#%d" % (key, count % self.SALTS)

    def _begin(self, second: int) -> None:
        self._second = second
        self._counts = Counter()
