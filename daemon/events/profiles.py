"""
Whose event it is: identity resolution for ResultFly (contracts 0.3.28a, B.7).

A profile is the set of identifiers that were seen together. Precedence is EXTERNAL > EMAIL > PHONE >
DEVICE_KEY, and a profile has at most one EXTERNAL. An event

* whose identifiers nobody has makes a profile;
* with identifiers of one profile belongs to it, and links those that nobody has yet;
* with identifiers of several profiles merges them where at most one of them has an EXTERNAL. The profile
  with the better identifier is left; between equals, the one whose identifier in this event is better;
* never joins two different EXTERNALs: it belongs to its own EXTERNAL's profile, what others hold stays with
  them, and the conflict is recorded.

A `Book` is opened with what the store knows of the identifiers of some events, takes the events one after
the other, and holds what has changed at the end. Cutting the same events into other books changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from daemon.events.stored import Identifier, StoredEvent

#: The types of identifiers, the best first.
TYPES = ("EXTERNAL", "EMAIL", "PHONE", "DEVICE_KEY")
_RANK = {name: rank for rank, name in enumerate(TYPES)}
_EXTERNAL = 0


class Handle(NamedTuple):
    """An identifier as the store finds it; `digest` is 128 bits of a hash of its value, as 32 hex digits."""

    tenant: str
    type: str
    digest: str


class Cause(NamedTuple):
    """The event that changed something, and when it was received."""

    event_id: str
    at: datetime


class Created(NamedTuple):
    """A new profile. `best` is the precedence of its best identifier; `merged_into` if it did not last."""

    profile: str
    tenant: str
    best: int
    merged_into: str | None
    at: datetime


class Link(NamedTuple):
    """An identifier that nobody had, and the profile that has it now."""

    handle: Handle
    value: str
    profile: str
    cause: Cause


class Merge(NamedTuple):
    """The profile `gone` became part of `into`; `text` says why."""

    gone: str
    into: str
    tenant: str
    text: str
    cause: Cause


class Conflict(NamedTuple):
    """`events` events of `profile` carried an identifier that stays with `kept_by` (None: with nobody)."""

    profile: str
    handle: Handle
    value: str
    kept_by: str | None
    events: int
    first: Cause
    last: Cause


class _Carried(NamedTuple):
    rank: int
    handle: Handle
    value: str


def digest(value: str) -> str:
    """What the value of an identifier is found by."""
    return blake2b(value.encode(), digest_size=16).hexdigest()


def handles(event: StoredEvent) -> list[Handle]:
    """The identifiers of an event, as the store has to be asked for them."""
    return [one.handle for one in _carried(event.tenant, event.identity)]


def profile_id(event_id: str) -> str:
    """The id of the profile that this event makes: a UUID (version 8, RFC 9562) as 32 hex digits."""
    text = blake2b(event_id.encode(), digest_size=16, person=b"profile").hexdigest()
    return f"{text[:12]}8{text[13:16]}8{text[17:]}"


class Book:
    """Profiles as far as some events touch them. Ids of profiles are 32 hex digits."""

    def __init__(self, owners: Mapping[Handle, str], best: Mapping[str, int]) -> None:
        """`owners` has the known ones of the events' handles, `best` the best rank of each profile in it."""
        self._owners = dict(owners)
        self._best = dict(best)
        self._before = dict(best)
        self._into: dict[str, str] = {}
        self._created: dict[str, tuple[str, datetime]] = {}
        self._links: list[Link] = []
        self._merges: list[Merge] = []
        self._conflicts: dict[tuple[str, Handle], Conflict] = {}

    def resolve(self, event: StoredEvent) -> str | None:
        """The profile of the event, which takes its place after those before it; None without identifiers."""
        carried = _carried(event.tenant, event.identity)
        if not carried:
            return None
        cause = Cause(event.id, event.received_at)
        external = carried[0] if carried[0].rank == _EXTERNAL else None
        # A second EXTERNAL is a contradiction in the event itself: the first one counts.
        others = [one for one in carried if one.rank == _EXTERNAL and one is not external]
        rest = [one for one in carried if one not in others]
        #: profile → the best of its identifiers in this event, the best first
        known: dict[str, _Carried] = {}
        for one in rest:
            owner = self._owner(one.handle)
            if owner is not None:
                known.setdefault(owner, one)
        own = self._own(external, known)
        if own is None:
            own = profile_id(event.id)
            self._created[own] = (event.tenant, event.received_at)
            self._best[own] = min(one.rank for one in rest)
        for profile, through in known.items():
            if profile == own:
                continue
            if self._best[profile] == _EXTERNAL and (external is not None or self._best[own] == _EXTERNAL):
                for one in rest:
                    if self._owner(one.handle) == profile:
                        self._conflict(own, one, profile, cause)
            else:
                self._merge(profile, own, event.tenant, (known[own], through), cause)
        for one in rest:
            if self._owner(one.handle) is None:
                self._owners[one.handle] = own
                self._links.append(Link(one.handle, one.value, own, cause))
                self._best[own] = min(self._best[own], one.rank)
        for one in others:
            self._conflict(own, one, self._owner(one.handle), cause)
        return own

    def _own(self, external: _Carried | None, known: Mapping[str, _Carried]) -> str | None:
        """The profile that the event belongs to; None: a new one."""
        if external is not None:
            owner = self._owner(external.handle)
            if owner is not None:
                return owner
            # A new EXTERNAL goes to a profile that has none.
            known = {profile: one for profile, one in known.items() if self._best[profile] != _EXTERNAL}
        # The first of the best: `known` is in the order of the event's own identifiers.
        return min(known, key=lambda profile: self._best[profile], default=None)

    def _owner(self, handle: Handle) -> str | None:
        profile = self._owners.get(handle)
        return None if profile is None else self._last(profile)

    def _last(self, profile: str) -> str:
        """The profile that is left of `profile`."""
        while profile in self._into:
            profile = self._into[profile]
        return profile

    def _merge(
        self, gone: str, into: str, tenant: str, through: tuple[_Carried, _Carried], cause: Cause
    ) -> None:
        left, lost = (one.handle.type for one in through)
        self._into[gone] = into
        self._best[into] = min(self._best[into], self._best[gone])
        self._merges.append(Merge(gone, into, tenant, f"{left} and {lost} in event {cause.event_id}", cause))

    def _conflict(self, own: str, carried: _Carried, kept_by: str | None, cause: Cause) -> None:
        known = self._conflicts.get((own, carried.handle))
        events, first = (known.events, known.first) if known is not None else (0, cause)
        self._conflicts[own, carried.handle] = Conflict(
            own, carried.handle, carried.value, kept_by, events + 1, first, cause
        )

    # --- what has changed

    @property
    def created(self) -> list[Created]:
        """New profiles as they are at the end, in the order in which they came."""
        return [
            Created(
                profile,
                tenant,
                self._best[profile],
                self._last(profile) if profile in self._into else None,
                at,
            )
            for profile, (tenant, at) in self._created.items()
        ]

    @property
    def links(self) -> list[Link]:
        """New identifiers, with the profiles that have them at the end."""
        return [link._replace(profile=self._last(link.profile)) for link in self._links]

    @property
    def merges(self) -> list[Merge]:
        """All merges, in their order."""
        return self._merges

    @property
    def moved(self) -> dict[str, str]:
        """Profiles that the store knows and that are no more: whose identifiers go where."""
        return {gone: self._last(gone) for gone in self._into if gone not in self._created}

    @property
    def better(self) -> dict[str, int]:
        """Profiles that the store knows and that have a better identifier than before."""
        return {
            profile: self._best[profile]
            for profile, best in self._before.items()
            if profile not in self._into and self._best[profile] != best
        }

    @property
    def conflicts(self) -> list[Conflict]:
        """Conflicts, each pair of profile and identifier once."""
        return list(self._conflicts.values())


def _carried(tenant: str, identity: Iterable[Identifier]) -> list[_Carried]:
    """The identifiers that count, each once, the best first and otherwise in their order."""
    found = {
        Handle(tenant, one.type, digest(one.value)): one
        for one in identity
        if one.type in _RANK and one.value.strip()
    }
    carried = [_Carried(_RANK[one.type], handle, one.value) for handle, one in found.items()]
    carried.sort(key=lambda one: one.rank)
    return carried
