"""From an event to the canonical envelope."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from daemon.events.envelope import Channel, Envelope
from daemon.events.tracklayer.event import TrackEvent


class Received(Struct, gc=False):
    """
    What the gateway adds: where and when an event came in.

    `ip`, `user_agent` and `referer` are those of a browser's request, None for a server's.
    """

    id: str
    tenant: str
    channel: Channel
    received_at: str
    ip: str | None = None
    user_agent: str | None = None
    referer: str | None = None


def to_envelope(event: TrackEvent, received: Received) -> Envelope:
    """The canonical envelope of a checked event; `user_data` keeps the input's names (contracts 0.4.30)."""
    envelope = Envelope(
        id=received.id,
        contract="tracklayer",
        channel=received.channel,
        tenant=received.tenant,
        source=event.merchant_id,
        type="track",
        event=event.event_name,
        timestamp=event.timestamp,
        receivedAt=received.received_at,
        messageId=event.event_id,
    )
    if event.custom_data is not None:
        envelope.properties = event.custom_data
    if context := _context(event, received):
        envelope.context = context
    if event.user_data is not None:
        envelope.user_data = event.user_data
    if event.value is not None:
        envelope.value = event.value
    if event.currency is not None:
        envelope.currency = event.currency
    if event.order_id is not None:
        envelope.order_id = event.order_id
    if event.items is not None:
        envelope.items = event.items
    return envelope


def _context(event: TrackEvent, received: Received) -> dict[str, Any]:
    context: dict[str, Any] = {}
    if url := event.url or received.referer:
        context["page"] = {"url": url}
    if event.consent is not None:
        context["consent"] = event.consent
    if event.source is not None:
        context["source"] = event.source
    if received.ip is not None:
        context["ip"] = received.ip
    if received.user_agent:
        context["userAgent"] = received.user_agent
    return context
