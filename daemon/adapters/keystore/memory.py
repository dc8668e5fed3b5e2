"""What one process knows of keys: bounded, and never older than a change that it has heard of."""

from __future__ import annotations

from msgspec import Struct

from daemon.ports import ApiKey, Source

#: Unknown keys remembered: a flood of random ones must not push the known out, nor grow without end.
UNKNOWN_MAX = 65_536
#: Changes remembered, to recognise what was read before them. As many as PostgreSQL keeps.
CHANGES_MAX = 10_000
#: Entries looked at to find one to evict: so long a run of used ones means that all are in use.
_SECOND_CHANCES = 16


class Change(Struct, frozen=True, array_like=True):
    """A row of the table `changes`: number, source (or None), SHA-256 of the keys it concerns."""

    seq: int
    source_id: str | None
    digests: tuple[bytes, ...]


#: What a key may stand for.
Held = Source | ApiKey


class Entry:
    """A known key. `until` is when it is to be loaded again, on the monotonic clock."""

    __slots__ = ("digest", "held", "seen", "until")

    def __init__(self, digest: bytes, held: Held, until: float) -> None:
        self.digest = digest
        self.held = held
        self.until = until
        self.seen = False


class KeyMemory:
    """Known and unknown keys by SHA-256."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self.entries: dict[bytes, Entry] = {}
        #: unknown key -> until when it is believed to be so
        self._unknown: dict[bytes, float] = {}
        #: key -> number of its last change
        self._changed: dict[bytes, int] = {}
        #: what was read before this change may be outdated, whatever it is
        self._floor = 0

    def fresh(self, digest: bytes, seq: int) -> bool:
        """Whether something read when `seq` was the last change still holds, as far as is known."""
        return seq >= self._changed.get(digest, self._floor)

    def keep(self, digest: bytes, held: Held, until: float) -> None:
        """Remember a known key until then."""
        self._unknown.pop(digest, None)
        entries = self.entries
        if digest not in entries and len(entries) >= self._entries_max:
            self._evict()
        entries[digest] = Entry(digest, held, until)

    def keep_unknown(self, digest: bytes, until: float) -> None:
        """Remember until then that there is no such key."""
        self.entries.pop(digest, None)
        unknown = self._unknown
        unknown.pop(digest, None)
        if len(unknown) >= UNKNOWN_MAX:
            del unknown[next(iter(unknown))]
        unknown[digest] = until

    def is_unknown(self, digest: bytes, now: float) -> bool:
        """Whether the key was found not to exist a moment ago."""
        until = self._unknown.get(digest)
        if until is None:
            return False
        if until > now:
            return True
        del self._unknown[digest]
        return False

    def apply(self, change: Change) -> None:
        """Forget the keys of a change, and refuse what is still on its way from before it."""
        for digest in change.digests:
            if self._changed.get(digest, 0) < change.seq:
                self._changed.pop(digest, None)
                self._changed[digest] = change.seq
                self.entries.pop(digest, None)
                self._unknown.pop(digest, None)
        while len(self._changed) > CHANGES_MAX:
            oldest = next(iter(self._changed))
            self._floor = max(self._floor, self._changed.pop(oldest))

    def forget_all(self, floor: int) -> None:
        """Changes were missed, or nothing could be verified for too long: start anew at change `floor`."""
        self.entries.clear()
        self._unknown.clear()
        self._changed.clear()
        self._floor = floor

    def _evict(self) -> None:
        # The clock algorithm on the dict's order: used since the last pass means another round.
        entries = self.entries
        for _ in range(_SECOND_CHANCES):
            digest = next(iter(entries))
            entry = entries.pop(digest)
            if not entry.seen:
                return
            entry.seen = False
            entries[digest] = entry
        del entries[next(iter(entries))]
