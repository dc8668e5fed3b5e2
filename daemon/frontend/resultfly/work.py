"""A ResultFly event that waits for its tick, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from daemon.events import resultfly
from daemon.events.contract.validator import Validator
from daemon.events.envelope import Channel, encode, record_key
from daemon.events.outcome import Outcome
from daemon.events.resultfly import Event, Received
from daemon.frontend.kit import Kit, Times
from daemon.ports import Durability, Record, Visit


class ResultflyWork(Struct, gc=False):
    """`frontend.work.Work` for ResultFly."""

    visit: Visit
    event: Event
    received: Received
    now_s: float
    outcome: Outcome | None = None
    durability: Durability | None = None
    retry_after_s: float = 1.0

    @property
    def id(self) -> str:
        """The event's id."""
        return self.received.id

    def record(self) -> Record:
        """The record. Its key is the identifier with the highest precedence: a customer's events stay in order."""
        received = self.received
        first = received.identity[0]
        return Record(
            key=record_key(received.tenant, f"{first.type}:{first.value}"),
            value=encode(resultfly.to_envelope(self.event, received)),
            id=received.id,
            contract="resultfly",
            type="track",
            tenant=received.tenant,
            timestamp_ms=int(self.now_s * 1000),
        )


class WorkMaker:
    """Makes works; one per process."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._settings = kit.settings.resultfly
        self._times = Times()

    async def contracts(self, tenant: str) -> Mapping[str, Validator]:
        """The tenant's contracts. Raises StoreUnavailable."""
        found = self._kit.contracts.cached(tenant)
        return found if found is not None else await self._kit.contracts.find(tenant)

    def make(
        self, tenant: str, event: Event, contracts: Mapping[str, Validator], channel: Channel
    ) -> ResultflyWork:
        """A work for an event, once it has an identity and satisfies its contract. Raises InvalidPayload."""
        settings = self._settings
        identity = resultfly.identifiers(event, settings.region(tenant))
        resultfly.check_contract(event, contracts)
        event_id = resultfly.event_id(tenant, event.source, event.externalEventId)
        now_s = self._kit.now()
        received = Received(event_id, tenant, channel, self._times.iso(now_s), identity)
        visit = Visit(
            claim_id=event_id, claim_window_s=settings.window_s, claim_tag=event.eventType
        )  # fmt: skip
        return ResultflyWork(visit, event, received, now_s)
