"""A TrackLayer event that waits for its tick."""

from __future__ import annotations

from msgspec import Struct

from daemon.events import tracklayer
from daemon.events.envelope import Channel, IdDeriver, encode, record_key
from daemon.events.outcome import Outcome
from daemon.events.tracklayer import Received, TrackEvent
from daemon.frontend.kit import Kit, Times
from daemon.ports import Durability, Record, Visit, Window

#: Merchants whose prepared hashes are kept, each for its channels.
_DERIVERS_MAX = 10_000


class TrackLayerWork(Struct, gc=False):
    """`frontend.work.Work` for TrackLayer."""

    visit: Visit
    event: TrackEvent
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
        """
        The record. Its key is the merchant's own id of the event, so that what the page and the server say of one
        event stands in one partition, where it is merged.
        """
        event, received = self.event, self.received
        return Record(
            key=record_key(received.tenant, f"{event.merchant_id}/{event.event_id}"),
            value=encode(tracklayer.to_envelope(event, received)),
            id=received.id,
            contract="tracklayer",
            type="track",
            tenant=received.tenant,
            timestamp_ms=int(self.now_s * 1000),
        )


class WorkMaker:
    """Makes works: ids, receipt times, and what a tick has to ask for."""

    def __init__(self, kit: Kit, channel: Channel) -> None:
        self._channel: Channel = channel
        self._claim_window_s = kit.settings.claims.window_s
        self._times = Times()
        self._derivers: dict[tuple[str, str], IdDeriver] = {}

    def work(
        self,
        tenant: str,
        event: TrackEvent,
        now_s: float,
        *,
        window: Window | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
        referer: str | None = None,
    ) -> TrackLayerWork:
        """A work for an event that came in at `now_s` (Unix seconds)."""
        event_id = self._id(tenant, event)
        received = Received(
            id=event_id,
            tenant=tenant,
            channel=self._channel,
            received_at=self._times.iso(now_s),
            ip=ip,
            user_agent=user_agent,
            referer=referer,
        )
        visit = Visit(claim_id=event_id, claim_window_s=self._claim_window_s, window=window)
        return TrackLayerWork(visit, event, received, now_s)

    def _id(self, tenant: str, event: TrackEvent) -> str:
        """The same over restarts and for ever; another one for each channel (contracts 0.1.4)."""
        key = (tenant, event.merchant_id)
        deriver = self._derivers.get(key)
        if deriver is None:
            if len(self._derivers) >= _DERIVERS_MAX:
                self._derivers.clear()
            deriver = IdDeriver("tracklayer", tenant, event.merchant_id, self._channel)
            self._derivers[key] = deriver
        return deriver.of(event.event_id)
