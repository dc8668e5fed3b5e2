"""Identity resolution as contracts 0.3.28a has it: one event at a time, profiles as sets. Knows nothing of batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.events.profiles import TYPES, profile_id
from daemon.events.stored import StoredEvent


@dataclass
class Model:
    """Everything that is known, after some events."""

    #: profile → its identifiers, as (tenant, type, value)
    profiles: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    merges: list[tuple[str, str]] = field(default_factory=list)
    conflicts: dict[tuple[str, str, str], tuple[str | None, int]] = field(default_factory=dict)

    def owner(self, identifier: tuple[str, str, str]) -> str | None:
        return next((profile for profile, has in self.profiles.items() if identifier in has), None)

    def externals(self, profile: str) -> set[tuple[str, str, str]]:
        return {one for one in self.profiles[profile] if one[1] == "EXTERNAL"}

    def best(self, profile: str) -> int:
        return min(TYPES.index(one[1]) for one in self.profiles[profile])

    def carried(self, one: StoredEvent) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        for kind in TYPES:
            for entry in one.identity:
                identifier = (one.tenant, entry.type, entry.value)
                if entry.type == kind and entry.value.strip() and identifier not in found:
                    found.append(identifier)
        return found

    def own(self, external: tuple[str, str, str] | None, carried: list[tuple[str, str, str]]) -> str | None:
        found = self.owner(external) if external else None
        if found is not None:
            return found
        candidates: list[str] = []
        for piece in carried:
            owner = self.owner(piece)
            if owner is not None and not (external and self.externals(owner)) and owner not in candidates:
                candidates.append(owner)
        return min(candidates, key=self.best) if candidates else None

    def take(self, one: StoredEvent) -> str | None:
        carried = self.carried(one)
        if not carried:
            return None
        external = carried[0] if carried[0][1] == "EXTERNAL" else None
        foreign = [piece for piece in carried if piece[1] == "EXTERNAL" and piece != external]
        carried = [piece for piece in carried if piece not in foreign]
        own = self.own(external, carried)
        if own is None:
            own = profile_id(one.id)
            self.profiles[own] = set()
        for piece in carried:
            found = self.owner(piece)
            if found is None or found == own:
                continue
            if self.externals(found) and (self.externals(own) or external):
                self.conflict(own, piece, found)
            else:
                self.profiles[own] |= self.profiles.pop(found)
                self.merges.append((found, own))
        for piece in carried:
            if self.owner(piece) is None:
                self.profiles[own].add(piece)
        for piece in foreign:
            self.conflict(own, piece, self.owner(piece))
        return own

    def conflict(self, own: str, piece: tuple[str, str, str], kept_by: str | None) -> None:
        key = (own, piece[1], piece[2])
        self.conflicts[key] = (kept_by, self.conflicts.get(key, (None, 0))[1] + 1)
