"""The origins that some enabled source lists: what a preflight is answered by."""

from __future__ import annotations

from collections.abc import Iterable


class OriginSet:
    """Origins of all enabled sources, each counted, so that one source's change is one source's work."""

    def __init__(self) -> None:
        self._by_source: dict[str, tuple[str, ...]] = {}
        self._counts: dict[str, int] = {}
        self._wildcards = 0

    def listed(self, origin: str) -> bool:
        """Whether some source lists `origin`, as such or by a wildcard (`https://*.example.com`)."""
        origin = origin.lower()
        counts = self._counts
        if origin in counts:
            return True
        if not self._wildcards:
            return False
        scheme, _, host = origin.partition("://")
        while "." in host:
            host = host.partition(".")[2]
            if f"{scheme}://*.{host}" in counts:
                return True
        return False

    def set(self, source_id: str, origins: tuple[str, ...]) -> None:
        """These are the source's origins now; none when it is disabled or gone."""
        for origin in self._by_source.pop(source_id, ()):
            left = self._counts[origin] - 1
            if left:
                self._counts[origin] = left
            else:
                del self._counts[origin]
            self._wildcards -= "://*." in origin
        if origins:
            self._by_source[source_id] = origins
        for origin in origins:
            self._counts[origin] = self._counts.get(origin, 0) + 1
            self._wildcards += "://*." in origin

    def knows(self, source_id: str) -> bool:
        """Whether origins of this source are in the set."""
        return source_id in self._by_source

    def replace(self, rows: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """These are all sources with origins."""
        self._by_source.clear()
        self._counts.clear()
        self._wildcards = 0
        for source_id, origins in rows:
            self.set(source_id, origins)
