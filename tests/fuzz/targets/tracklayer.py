"""TrackLayer: an event, field by field, and what is said of all that is wrong with it."""

from __future__ import annotations

import json

from daemon.events import tracklayer
from daemon.events.envelope import derived_id
from daemon.events.tracklayer import InvalidEvent
from daemon.events.tracklayer.event import TrackEvent, page_url
from daemon.events.tracklayer.user import IDS, ONE_ID, ONE_TEXT, TEXTS
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.common import NOW_TEXT, written
from tests.fuzz.targets.target import Target, refused

NAMES = (
    "event_id", "event_name", "event_time", "merchant_id", "source", "user_data", "consent_state", "custom_data",
    "event_source_url", "value", "currency", "order_id", "items", "id", "quantity", "price", "browser_ids", "fbp", "fbc",
    "ad_storage", "ad_user_data", "analytics_storage", "ad_personalization", *TEXTS, *IDS, *ONE_TEXT, *ONE_ID,
)  # fmt: skip
VALUES = (
    '"3f2504e0-4f89-41d3-9a0c-0305e82c3301"', "1772029800", '"2026-02-25T14:30:00Z"', '"EUR"', '"usd "', "19.90", "-1",
    '{"email":"a@example.com","phone":["+49 30 1"],"external_ids":[1,"2"]}', '{"ad_storage":"granted"}', '{"ad_storage":"x"}',
    '[{"id":"sku","quantity":1,"price":9.5}]', '[{"id":7}]', '{"browser_ids":{"fbp":"fb.1.1.1","x":null}}',
    '"https://shop.example.com/p?gclid=1"',
)  # fmt: skip
EVENT = Grammar("json", NAMES, VALUES)


def event(data: bytes) -> str:
    """One event, from its bytes to its row."""
    body, referer = split(data, 2)
    try:
        found = tracklayer.decode(body)
    except InvalidEvent as error:
        assert error.problems
        answer = json.loads(tracklayer.error_body("validation_failed", error.message, error.problems))
        assert len(answer["details"]) == len(error.problems)
        return refused(error, error.message)
    _written(found, len(body), page_url(text_of(referer)))
    return "accepted"


def _written(found: TrackEvent, body_bytes: int, referer: str | None) -> None:
    event_id = derived_id("tracklayer", "acme", found.merchant_id, "browser", found.event_id)
    for channel, ip in (("browser", "192.0.2.1"), ("server", None)):
        received = tracklayer.Received(
            event_id,
            "acme",
            "browser" if channel == "browser" else "server",
            NOW_TEXT,
            ip,
            "Mozilla/5.0",
            referer,
        )
        written(tracklayer.to_envelope(found, received), body_bytes)


TARGETS = (
    Target(
        "tracklayer-event", "a TrackLayer event, to its row", event,
        (EVENT, Grammar("text", ("https://", "?", "#"))), 32 * 1024, share=3,
    ),
)  # fmt: skip
