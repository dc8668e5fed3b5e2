"""Datafly: single events on every path, batches, the pixel's query."""

from __future__ import annotations

from daemon.events import clickids, datafly, pixel
from daemon.events.datafly import Event, Received
from daemon.events.envelope import Channel, derived_id
from daemon.events.payload import InvalidPayload
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.inputs.words import TIMES
from tests.fuzz.targets.common import NOW_S, NOW_TEXT, written
from tests.fuzz.targets.target import Target, refused

MEMBERS = Event.__struct_fields__
NAMES = (*MEMBERS, "page", "url", "referrer", "title", "campaign", "device", "locale", "timezone", "ip", "userAgent",
         "clickIds", "vendorIds", "consent", "writeKey", "batch", "sentAt", "library")  # fmt: skip

TYPE_VALUES = tuple(f'"{kind}"' for kind in (*sorted(datafly.TYPES), "TRACK", "tracks", ""))
VALUES = (
    *TYPE_VALUES, '{"url":"https://shop.example.com/p?gclid=abc&fbclid=x%20y#f"}', '{"page":{"url":"https://a.b/?ttclid=1"}}',
    '{"page":null,"ip":"1.2.3.4"}', '{"page":{"url":7}}', '{"page":[[[]]]}', '"dk_live_key"',
    *(f'"{time}"' for time in TIMES[:6]),
)  # fmt: skip
EVENT = Grammar("json", NAMES, VALUES)

#: The last part of a path → how its body is read.
_PATHS = ("t", "p", "i", "g", "events", *sorted(datafly.TYPES))
PATH = Grammar("text", _PATHS)


def _decoded(path: str, body: bytes) -> Event:
    if path in datafly.BROWSER_TYPES:
        return datafly.decode(body, datafly.BROWSER_TYPES[path])
    if path in datafly.TYPES:
        return datafly.decode_by_path(body, path)
    return datafly.decode_server(body)


def received(event: Event, channel: Channel, visitor: str | None, ip: str | None) -> Received:
    """What the gateway adds, with an id as it derives it."""
    told = event.messageId
    return Received(
        id=derived_id("datafly", "acme", "src_1", told) if told else "0" * 32,
        tenant="acme",
        source="src_1",
        channel=channel,
        received_at=NOW_TEXT,
        anonymous_id=visitor,
        user_id=None,
        ip=ip,
        user_agent="Mozilla/5.0",
        clicks=clickids.from_url(datafly.page_url(event) or ""),
        vendors={},
    )


def event(data: bytes) -> str:
    """One event on one of the paths."""
    path, body = split(data, 2)
    key = datafly.write_key(body)
    assert key is None or isinstance(key, str)
    try:
        found = _decoded(text_of(path), body)
    except InvalidPayload as error:
        return refused(error, error.message)
    assert found.type in datafly.TYPES
    if path.decode("latin-1") not in datafly.BROWSER_TYPES:
        datafly.correct_time(found, None, NOW_S)
    written(datafly.to_envelope(found, received(found, "browser", "visitor", "192.0.2.1")), len(body))
    written(datafly.to_envelope(found, received(found, "server", found.anonymousId, None)), len(body))
    return found.type


ITEMS_MAX, ITEM_BYTES_MAX = 500, 8 * 1024


def batch(data: bytes) -> str:
    """A batch: refused as a whole, or each item an event or an error."""
    try:
        found = datafly.decode_batch(data, ITEMS_MAX)
    except InvalidPayload as error:
        return refused(error, error.message)
    good = 0
    assert 1 <= len(found.batch) <= ITEMS_MAX
    for item in found.batch:
        try:
            one = datafly.decode_item(item, ITEM_BYTES_MAX)
        except InvalidPayload as error:
            refused(error, error.message)
            continue
        datafly.correct_time(one, found.sentAt, NOW_S)
        written(datafly.to_envelope(one, received(one, "batch", one.anonymousId, None)), len(bytes(item)))
        good += 1
    return "all accepted" if good == len(found.batch) else "some accepted" if good else "none accepted"


def query(data: bytes) -> str:
    """The pixel's query."""
    kind, rest = split(data, 2)
    text = text_of(rest)
    kinds: dict[str, str] = {name: name for name in pixel.TYPES}
    try:
        found, visitor = pixel.decode(text, kinds.get(text_of(kind), "track"))
    except InvalidPayload as error:
        return refused(error, error.message)
    written(datafly.to_envelope(found, received(found, "pixel", visitor, "192.0.2.1")), len(text.encode()))
    return "accepted"


QUERY_NAMES: tuple[str, ...] = (
    "wk=dk_live_key", "&", "=", "e=", "&uid=", "&gid=", "&aid=", "&mid=", "&ts=1772029800000", "&p.a=1", "&p.a.b=2", "&t.x=y",
    "&p..=1", "&p.=", "&cb=9", "%FF", "%C3%A9", "%ED%A0%80", "%00", "+", ";", "&p.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q=1",
)  # fmt: skip

#: The kind of pixel, and its query.
QUERY = (Grammar("text", pixel.TYPES), Grammar("text", QUERY_NAMES))

TARGETS = (
    Target("datafly-event", "a Datafly event on any path", event, (PATH, EVENT), 32 * 1024, share=3),
    Target("datafly-batch", "a Datafly batch", batch, (EVENT,), 64 * 1024, share=1.5),
    Target("datafly-pixel", "the query of Datafly's pixel", query, QUERY),
)
