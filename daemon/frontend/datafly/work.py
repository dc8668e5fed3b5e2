"""A Datafly event that waits for its tick."""

from __future__ import annotations

from daemon.events import datafly, identity
from daemon.events.datafly import Event, Received
from daemon.events.envelope import encode, record_key
from daemon.events.outcome import Outcome
from daemon.ports import Durability, Record, Visit


class DataflyWork:
    """`frontend.work.Work` for Datafly; `cookies` adds what a browser is to be given."""

    __slots__ = (
        "_click_ttl_s", "_cookie", "_event", "_made", "_now_s", "_received", "_sent",
        "durability", "outcome", "retry_after_s", "visit",
    )  # fmt: skip

    def __init__(
        self,
        visit: Visit,
        event: Event,
        received: Received,
        now_s: float,
        click_ttl_s: float,
        made: dict[str, str] | None = None,
        cookie: str | None = None,
    ) -> None:
        """`made` are fresh vendor ids for the cookies that were missing; `cookie` is the `_dfid` to set."""
        self.visit = visit
        self.outcome: Outcome | None = None
        self.durability: Durability | None = None
        self.retry_after_s = 1.0
        self._event = event
        self._received = received
        self._sent = received.vendors
        self._now_s = now_s
        self._click_ttl_s = click_ttl_s
        self._made = made or {}
        self._cookie = cookie

    @property
    def id(self) -> str:
        """The event's id."""
        return self._received.id

    def record(self) -> Record:
        """The record, with what the visitor's identity hash knows."""
        received = self._received
        known = self.visit.known
        if known:
            received.user_id = known.get("uid")
            clicks = identity.known_clicks(known, self._now_s, self._click_ttl_s)
            clicks.update(received.clicks)
            received.clicks = clicks
        if known or self._made:
            received.vendors = {**self._vendors(), **self._sent}
        event = self._event
        visitor = received.anonymous_id or event.userId or received.id
        return Record(
            key=record_key(received.tenant, visitor),
            value=encode(datafly.to_envelope(event, received)),
            id=received.id,
            contract="datafly",
            type=event.type,
            tenant=received.tenant,
            timestamp_ms=int(self._now_s * 1000),
        )

    def cookies(self) -> dict[str, str]:
        """The cookies to set: those that the request did not bring."""
        to_set: dict[str, str] = {}
        if self._cookie is not None:
            to_set[identity.VISITOR_COOKIE] = self._cookie
        if self._made or self.visit.known:
            to_set.update(self._vendors())
        return to_set

    def _vendors(self) -> dict[str, str]:
        """Vendor ids beside those in the request's cookies: what the visitor had before, else the fresh ones."""
        known = self.visit.known
        vendors = dict(self._made)
        if known:
            vendors.update(identity.known_vendors(known))
        for name in self._sent:
            vendors.pop(name, None)
        return vendors
