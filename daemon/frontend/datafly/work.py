"""A Datafly event that waits for its tick."""

from __future__ import annotations

from msgspec import Struct

from daemon.events import datafly, identity
from daemon.events.datafly import Event, Received
from daemon.events.envelope import encode, record_key
from daemon.events.outcome import Outcome
from daemon.ports import Durability, Record, Visit


class DataflyWork(Struct, gc=False):
    """
    `frontend.work.Work` for Datafly; `cookies` adds what a browser is to be given.

    `sent` are the vendor ids in the request's cookies, `made` fresh ones for those that were missing; `cookie` is the
    `_dfid` to set.
    """

    visit: Visit
    event: Event
    received: Received
    now_s: float
    click_ttl_s: float
    sent: dict[str, str] | None = None
    made: dict[str, str] | None = None
    cookie: str | None = None
    outcome: Outcome | None = None
    durability: Durability | None = None
    retry_after_s: float = 1.0

    @property
    def id(self) -> str:
        """The event's id."""
        return self.received.id

    def record(self) -> Record:
        """The record, with what the visitor's identity hash knows."""
        received = self.received
        known = self.visit.known
        if known:
            received.user_id = known.get("uid")
            clicks = identity.known_clicks(known, self.now_s, self.click_ttl_s)
            clicks.update(received.clicks)
            received.clicks = clicks
        if known or self.made:
            received.vendors = {**self._vendors(), **(self.sent or {})}
        event = self.event
        visitor = received.anonymous_id or event.userId or received.id
        tenant = received.tenant
        return Record(
            record_key(tenant, visitor),
            encode(datafly.to_envelope(event, received)),
            received.id,
            "datafly",
            event.type,
            tenant,
            int(self.now_s * 1000),
        )

    def cookies(self) -> dict[str, str]:
        """The cookies to set: those that the request did not bring."""
        to_set: dict[str, str] = {}
        if self.cookie is not None:
            to_set[identity.VISITOR_COOKIE] = self.cookie
        if self.made or self.visit.known:
            to_set.update(self._vendors())
        return to_set

    def _vendors(self) -> dict[str, str]:
        """Vendor ids beside those in the request's cookies: what the visitor had before, else the fresh ones."""
        known = self.visit.known
        vendors = dict(self.made or {})
        if known:
            vendors.update(identity.known_vendors(known))
        for name in self.sent or ():
            vendors.pop(name, None)
        return vendors
