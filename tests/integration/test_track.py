"""
TrackLayer through the real HTTP server: POST /v1/events with a `tl_` key, POST /v1/browser/events.

Contracts C.2 to C.4, 0.4.29 to 0.4.31. What is right and wrong of an event's fields: tests/unit/test_tracklayer.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from daemon.config.schema import Tracklayer
from daemon.errors import LogUnavailable
from daemon.events.envelope import derived_id
from daemon.events.outcome import Outcome
from daemon.frontend.client import ClientAddress
from daemon.frontend.tracklayer.browser import network
from tests.support.front import KEY, Front, made
from tests.support.tracklayer import (
    FIREFOX,
    HEADLESS,
    LEAST,
    MERCHANT,
    OTHER_MERCHANT,
    PURCHASE,
    TL_KEY,
    browser,
    prepare,
    tl_key,
    track,
)


@pytest.fixture(autouse=True)
def merchants(front: Front) -> None:
    """There are two."""
    prepare(front)


def error(reply: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which has TrackLayer's shape."""
    body = reply.json()
    assert body["success"] is False, body
    assert set(body) - {"event_id"} == {"success", "error", "message", "details"}
    assert body["message"]
    assert reply.headers["x-request-id"]
    return reply.status_code, body["error"]


SEND = {"server": track, "browser": browser}


# --- what is taken ----------------------------------------------------------------------------------


async def test_the_documented_request(front: Front) -> None:
    """C.2: 202 with the event's id; the envelope has it all by its own names."""
    reply = await track(front)
    assert (reply.status_code, reply.json()) == (202, {"success": True, "event_id": "order-12345"})
    assert reply.headers["x-headgate-durability"] == "local"
    assert not {"set-cookie", "access-control-allow-origin"} & set(reply.headers)
    (envelope,) = front.outbox.envelopes()
    assert envelope == {
        "id": derived_id("tracklayer", "acme", MERCHANT, "server", "order-12345"),
        "schema": 1,
        "contract": "tracklayer",
        "channel": "server",
        "tenant": "acme",
        "source": MERCHANT,
        "type": "track",
        "event": "purchase",
        "context": {"source": "server"},
        "user_data": PURCHASE["user_data"],
        "value": 129.99,
        "currency": "USD",
        "order_id": "12345",
        "items": PURCHASE["items"],
        "timestamp": "2026-02-25T14:30:00.000Z",
        "receivedAt": envelope["receivedAt"],
        "messageId": "order-12345",
    }
    (record,) = front.outbox.records
    assert (record.contract, record.type, record.tenant, record.id) == (
        "tracklayer", "track", "acme", envelope["id"],
    )  # fmt: skip
    assert front.outcome(Outcome.ACCEPTED) == 1


@pytest.mark.parametrize("channel", SEND)
async def test_variants(front: Front, channel: str) -> None:
    """Text types, packed bodies, any case of the UUID, ISO times, lower-case currencies, empty values."""
    variants: list[tuple[Any, dict[str, str]]] = [
        ({}, {"content_type": "text/plain;charset=UTF-8"}),
        ({"merchant_id": MERCHANT.upper()}, {}),
        ({"event_time": "2026-02-25T15:30:00+01:00", "currency": "usd"}, {}),
        ({"event_time": 1772029800.0, "user_data": {"email": " ", "phone": None, "city": ""}}, {}),
        ({"value": None, "currency": "", "items": [], "custom_data": None, "consent_state": {}}, {}),
    ]
    for number, (changes, headers) in enumerate(variants):
        reply = await SEND[channel](front, {**PURCHASE, "event_id": f"e{number}", **changes}, **headers)
        assert reply.status_code == 202, reply.text
    packed = gzip.compress(json.dumps({**PURCHASE, "event_id": "packed"}).encode())
    assert (await SEND[channel](front, packed, content_encoding="gzip")).status_code == 202
    envelopes = front.outbox.envelopes()
    assert {envelope["source"] for envelope in envelopes} == {MERCHANT}
    assert {envelope["timestamp"] for envelope in envelopes} == {"2026-02-25T14:30:00.000Z"}
    assert {envelope.get("currency") for envelope in envelopes} == {"USD", None}
    assert "user_data" not in envelopes[3]
    assert not {"value", "currency", "items", "properties"} & envelopes[4].keys()


async def test_what_an_event_may_carry(front: Front) -> None:
    """custom_data, consent_state and the page's address have their places in the envelope."""
    event = {
        **LEAST,
        "custom_data": {"coupon": "A", "deep": {"é": [1, 2]}},
        "consent_state": {"ad_storage": "denied", "ad_user_data": None, "functionality_storage": "granted"},
        "event_source_url": "https://shop.example.com/thanks?fbclid=1",
        "unknown": 1,
    }
    assert (await track(front, event)).status_code == 202
    (envelope,) = front.outbox.envelopes()
    assert envelope["properties"] == event["custom_data"]
    assert envelope["context"] == {
        "page": {"url": event["event_source_url"]},
        "consent": {"ad_storage": "denied", "functionality_storage": "granted"},
    }
    assert "unknown" not in envelope


@pytest.mark.parametrize("channel", SEND)
async def test_a_second_copy_is_a_conflict(front: Front, channel: str) -> None:
    """0.4.30: 409 with the id, within 24 hours on the same channel; nothing is published again."""
    assert (await SEND[channel](front)).status_code == 202
    reply = await SEND[channel](front, {**PURCHASE, "value": 5})
    assert error(reply) == (409, "duplicate_event")
    assert reply.json()["event_id"] == "order-12345"
    assert len(front.outbox.records) == 1
    assert front.outcome(Outcome.DUPLICATE) == 1


async def test_the_servers_copy_of_a_browser_event_is_taken(front: Front) -> None:
    """0.1.5: both copies, one of each, in one partition; another merchant's event of that id is another."""
    assert (await browser(front)).status_code == 202
    assert (await track(front)).status_code == 202
    assert (await browser(front, {**PURCHASE, "merchant_id": OTHER_MERCHANT})).status_code == 202
    first, second, other = front.outbox.records
    assert len({first.id, second.id, other.id}) == 3
    assert first.key == second.key == f"acme/{MERCHANT}/order-12345".encode()
    assert other.tenant == "globex"
    assert error(await track(front)) == (409, "duplicate_event")
    assert error(await browser(front)) == (409, "duplicate_event")


async def test_copies_at_once_are_one_event(front: Front) -> None:
    """One is accepted, the others wait for it and are its copies."""
    replies = await asyncio.gather(*(track(front) for _ in range(10)))
    assert sorted(reply.status_code for reply in replies) == [202] + [409] * 9
    assert len(front.outbox.records) == 1


async def test_what_the_gateway_knows_of_a_browser(front: Front) -> None:
    """0.4.31: address, user agent, and the page's address (the body's, else the Referer)."""
    front.kit.clients = ClientAddress(["127.0.0.1"])
    sent = {"x_forwarded_for": "203.0.113.9", "referer": "https://shop.example.com/cart"}
    await browser(front, {**LEAST, "event_id": "a"}, **sent)
    await browser(front, {**LEAST, "event_id": "b", "event_source_url": "https://shop.example.com/"}, **sent)
    await browser(front, {**LEAST, "event_id": "c"}, referer="nonsense")
    contexts = [envelope["context"] for envelope in front.outbox.envelopes()]
    assert contexts == [
        {"page": {"url": "https://shop.example.com/cart"}, "ip": "203.0.113.9", "userAgent": FIREFOX},
        {"page": {"url": "https://shop.example.com/"}, "ip": "203.0.113.9", "userAgent": FIREFOX},
        {"ip": "127.0.0.1", "userAgent": FIREFOX},
    ]
    assert {envelope["channel"] for envelope in front.outbox.envelopes()} == {"browser"}


@pytest.fixture
async def discreet_front() -> AsyncIterator[Front]:
    """Nothing readable of a person goes to the log."""
    async for one in made(tracklayer=Tracklayer(pii="hashed")):
        prepare(one)
        yield one


async def test_persons_are_hashed_before_the_log_if_asked_for(discreet_front: Front) -> None:
    """0.4.32: with pii = hashed; F.1's vectors. What is not known is left out, what is wrong is still said."""
    person = {
        "email": " John_Smith@gmail.com ",
        "phone": ["+1 (650) 555-1212", ""],
        "country": "US",
        "browser_ids": {"fbp": "fb.1.1596403881668.1116446470"},
        "loyalty": "gold",
        "city": " ",
    }
    for channel, send in SEND.items():
        assert (await send(discreet_front, {**LEAST, "user_data": person})).status_code == 202, channel
        only_unknown = {**LEAST, "event_id": "x", "user_data": {"loyalty": "gold"}}
        assert (await send(discreet_front, only_unknown)).status_code == 202
        wrong = await send(discreet_front, {**LEAST, "user_data": {"email": 5}})
        assert error(wrong) == (400, "validation_failed")
    envelopes = discreet_front.outbox.envelopes()
    assert [envelope.get("user_data") for envelope in envelopes] == 2 * [
        {
            "email": "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
            "phone": ["e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"],
            "country": "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621",
            "browser_ids": {"fbp": "fb.1.1596403881668.1116446470"},
        },
        None,
    ]
    assert b"ohn_" not in b"".join(record.value for record in discreet_front.outbox.records)


# --- who may -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["tl_live_unknown0123", "tl_", "tl_live_a b", "tl_" + "x" * 5000])
async def test_unknown_keys(front: Front, token: str) -> None:
    """401 in TrackLayer's shape."""
    reply = await track(front, key=token)
    assert error(reply) == (401, "invalid_api_key")
    assert front.outcome(Outcome.INVALID_KEY) == 1


async def test_a_key_of_another_product_is_no_key(front: Front) -> None:
    """D: by the class of the key, whatever it stands for."""
    front.keys.api_keys["tl_live_odd0123456"] = tl_key(kind="cdp", merchant_id=None)
    assert error(await track(front, key="tl_live_odd0123456")) == (401, "invalid_api_key")
    front.keys.api_keys["cdp_live_0123456789"] = tl_key(kind="cdp", merchant_id=None)
    for other in (KEY, "cdp_live_0123456789", "eyJhbGciOiJIUzI1NiJ9.e30.x", None):
        reply = await track(front, key=other)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "INVALID_PIPELINE_KEY")


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (("events:write",), 202),
        (("events:read", "events:write"), 202),
        (("admin",), 202),
        (("events:read", "platforms:read"), 403),
    ],
)
async def test_scopes(front: Front, scopes: tuple[str, ...], status: int) -> None:
    """0.4.29: events:write, or admin, which is all of them; before the body is looked at."""
    front.keys.api_keys[TL_KEY] = tl_key(*scopes)
    reply = await track(front)
    assert reply.status_code == status
    if status == 403:
        assert error(await track(front, b"{")) == (403, "forbidden")
        assert front.outcome(Outcome.FORBIDDEN) == 2


async def test_another_merchants_event(front: Front) -> None:
    """0.4.29: 403; what is wrong with the event itself is said first."""
    reply = await track(front, {**PURCHASE, "merchant_id": OTHER_MERCHANT})
    assert error(reply) == (403, "merchant_mismatch")
    assert front.outcome(Outcome.FORBIDDEN) == 1
    bad = await track(front, {**PURCHASE, "merchant_id": OTHER_MERCHANT, "value": -1})
    assert error(bad) == (400, "validation_failed")
    assert not front.outbox.records


async def test_an_unknown_merchant(front: Front) -> None:
    """0.4.30: 404 to the page."""
    unknown = {**PURCHASE, "merchant_id": "00000000-0000-4000-8000-000000000000"}
    assert error(await browser(front, unknown)) == (404, "unknown_merchant")
    assert front.outcome(Outcome.INVALID_KEY) == 1


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", SEND)
async def test_every_problem_is_named(front: Front, channel: str) -> None:
    """400 with all fields that are wrong, not only the first."""
    reply = await SEND[channel](
        front, {"event_id": 5, "merchant_id": "x", "value": -1, "currency": "XYZ", "items": [{"price": "1"}]}
    )
    assert error(reply) == (400, "validation_failed")
    assert [one["field"] for one in reply.json()["details"]] == [
        "event_id", "event_name", "event_time", "merchant_id", "value", "currency", "items[0].price",
    ]  # fmt: skip
    assert all(one["message"].startswith(one["field"]) for one in reply.json()["details"])
    assert front.outcome(Outcome.INVALID_PAYLOAD) == 1


@pytest.mark.parametrize("channel", SEND)
async def test_bodies_that_are_no_events(front: Front, channel: str) -> None:
    """400, 413, 415: before anything is published, in TrackLayer's shape."""
    deep = b'{"custom_data":' + b'{"a":' * 400 + b"1" + b"}" * 401
    for body in (b"", b"{", b"[]", b'"x"', b"\xff", b'{"event_id":"\\ud800"}', b'{"value":NaN}', deep):
        reply = await SEND[channel](front, body or b" ")
        assert error(reply) == (400, "validation_failed"), body
        assert reply.json()["details"] == [{"field": "", "message": reply.json()["message"]}]
    packed = await SEND[channel](front, b"not gzip", content_encoding="gzip")
    assert error(packed) == (400, "validation_failed")
    big = {**PURCHASE, "custom_data": {"a": "x" * 600_000}}
    assert error(await SEND[channel](front, big)) == (413, "payload_too_large")
    bomb = gzip.compress(json.dumps(big).encode())
    assert error(await SEND[channel](front, bomb, content_encoding="gzip")) == (413, "payload_too_large")
    for headers in (
        {"content_type": "application/xml"},
        {"content_type": "application/json; charset=latin-1"},
        {"content_encoding": "compress"},
        {"content_type": "application/x-www-form-urlencoded"},
    ):
        assert error(await SEND[channel](front, **headers)) == (415, "unsupported_media_type")
    assert not front.outbox.records


async def test_over_the_keys_rate(front: Front) -> None:
    """429 with Retry-After and the quota."""
    front.limiter.waits = [2.2]
    reply = await track(front)
    assert error(reply) == (429, "rate_limited")
    assert reply.headers["retry-after"] == "3"
    assert reply.headers["ratelimit-policy"].startswith('"key";q=1000')


@pytest.mark.parametrize("channel", SEND)
async def test_when_it_can_not_be_durable(front: Front, channel: str) -> None:
    """503 with Retry-After; the id is free for the next try."""
    front.outbox.error = LogUnavailable("disk full", 4.0)
    reply = await SEND[channel](front)
    assert error(reply) == (503, "unavailable")
    assert reply.headers["retry-after"] == "4"
    front.outbox.error = None
    assert (await SEND[channel](front)).status_code == 202


async def test_when_no_store_answers(front: Front) -> None:
    """503, neither 401 nor 404: nobody knows."""
    front.keys.away = front.merchants.away = True
    for send in SEND.values():
        reply = await send(front)
        assert error(reply) == (503, "unavailable")
        assert reply.headers["retry-after"] == "3"


async def test_the_shared_path(front: Front) -> None:
    """0.2.16: a signature beside a tl_ key is a 400, in Datafly's shape; an empty one counts as absent."""
    reply = await track(front, x_signature="sha256=0")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "INVALID_PAYLOAD")
    assert (await track(front, x_signature="")).status_code == 202


async def test_methods_and_paths(front: Front) -> None:
    """405 with Allow and 404, in the shape of whose path it is."""
    for method in ("GET", "PUT", "DELETE"):
        reply = await front.client.request(method, "/v1/browser/events")
        assert error(reply) == (405, "method_not_allowed")
        assert reply.headers["allow"] == "POST, OPTIONS"
        keyed = await front.client.request(
            method, "/v1/events", headers={"authorization": f"Bearer {TL_KEY}"}
        )
        assert error(keyed) == (405, "method_not_allowed")
        assert keyed.headers["allow"] == "POST"
    assert error(await front.client.get("/v1/browser/nothing")) == (404, "not_found")
    assert (await front.client.get("/v1/events")).json()["error"]["code"] == "METHOD_NOT_ALLOWED"


# --- any page ----------------------------------------------------------------------------------------


async def test_any_page_may_send_and_read(front: Front) -> None:
    """0.4.31: a preflight for everybody; every answer is readable, and none allows credentials."""
    preflight = await front.client.options("/v1/browser/events", headers={"origin": "https://any.example"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
    assert preflight.headers["access-control-max-age"] == "7200"
    replies = [
        preflight,
        await browser(front, origin="null"),
        await browser(front),
        await browser(front, {**PURCHASE, "merchant_id": "nope"}),
        await browser(front, {**PURCHASE, "merchant_id": MERCHANT[::-1].replace("-", "0")}),
        await browser(front, content_type="text/html"),
        await browser(front, user_agent=HEADLESS),
        await front.client.get("/v1/browser/events"),
        await front.client.get("/v1/browser/x"),
    ]
    assert [reply.status_code for reply in replies] == [204, 202, 409, 400, 400, 415, 202, 405, 404]
    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers.get_list("access-control-allow-origin") == ["*"]
        assert "access-control-allow-credentials" not in reply.headers
        assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    "agent", [HEADLESS, "", "curl/8.14", "Googlebot/2.1 (+http://www.google.com/bot.html)"]
)
async def test_bots_are_thanked_and_dropped(front: Front, agent: str) -> None:
    """0.4.31: 202, counted, not published; whatever the body is, and without using anything up."""
    for body in (PURCHASE, b"{", {**PURCHASE, "merchant_id": OTHER_MERCHANT}):
        reply = await browser(front, body, user_agent=agent)
        assert (reply.status_code, reply.json()) == (202, {"ok": True, "dropped": "bot"})
        assert "x-headgate-durability" not in reply.headers
    assert front.outcome(Outcome.BOT) == 3
    assert not front.outbox.records
    assert not front.visits.windows
    assert (await browser(front)).status_code == 202


async def test_a_server_may_be_called_anything(front: Front) -> None:
    """Bots are a matter of pages."""
    assert (await track(front, user_agent="curl/8.14")).status_code == 202


# --- thirty in a minute ------------------------------------------------------------------------------


class Clock:
    """Time that a test moves."""

    def __init__(self, front: Front) -> None:
        self.now_s = 1000.0
        front.visits.now = lambda: self.now_s


async def send(front: Front, number: int, **headers: str) -> httpx.Response:
    """An event of a page with an id of its own."""
    return await browser(front, {**LEAST, "event_id": f"e{number}"}, **headers)


async def test_the_31st_event_of_a_minute(front: Front) -> None:
    """429 with a Retry-After after which one more is accepted, and only one; others are untouched."""
    clock = Clock(front)
    front.kit.clients = ClientAddress(["127.0.0.1"])
    for number in range(30):
        assert (await send(front, number)).status_code == 202
        clock.now_s += 0.5
    reply = await send(front, 30)
    assert error(reply) == (429, "rate_limited")
    assert reply.headers["retry-after"] == "45"
    assert reply.headers["ratelimit-policy"] == '"address";q=30;w=60'
    assert front.outcome(Outcome.RATE_LIMITED) == 1

    assert (await send(front, 30, x_forwarded_for="198.51.100.7")).status_code == 202
    other = await browser(front, {**LEAST, "event_id": "o", "merchant_id": OTHER_MERCHANT})
    assert other.status_code == 202

    clock.now_s += 44.9
    assert (await send(front, 31)).status_code == 429
    clock.now_s += 0.1
    assert (await send(front, 31)).status_code == 202
    assert (await send(front, 32)).status_code == 429


async def test_only_accepted_events_use_it_up(front: Front) -> None:
    """Refused events, copies, and events that could not be made durable take no place."""
    for number in range(29):
        assert (await send(front, number)).status_code == 202
    for _ in range(5):
        assert (await send(front, 3)).status_code == 409
        assert (await browser(front, {**LEAST, "event_id": 7})).status_code == 400
        assert (await send(front, 99, user_agent=HEADLESS)).json() == {"ok": True, "dropped": "bot"}
        front.outbox.error = LogUnavailable("disk full")
        assert (await send(front, 50)).status_code == 503
        front.outbox.error = None
    assert (await send(front, 50)).status_code == 202
    assert (await send(front, 51)).status_code == 429
    # a copy is told so although the window is full
    assert (await send(front, 50)).status_code == 409


@pytest.fixture
async def strict_front() -> AsyncIterator[Front]:
    """Two events in ten seconds."""
    async for one in made(tracklayer=Tracklayer(browser_events_max=2, browser_window_s=10.0)):
        prepare(one)
        yield one


async def test_count_and_window_are_settings(strict_front: Front) -> None:
    """And are what the answer says."""
    clock = Clock(strict_front)
    assert [(await send(strict_front, n)).status_code for n in range(2)] == [202, 202]
    reply = await send(strict_front, 2)
    assert reply.headers["ratelimit-policy"] == '"address";q=2;w=10'
    assert "2 events in 10 seconds" in reply.json()["message"]
    clock.now_s += float(reply.headers["retry-after"])
    assert (await send(strict_front, 2)).status_code == 202


def test_what_counts_as_one_address() -> None:
    """An IPv4 address; of IPv6 the /64 that a home or a phone is given."""
    assert network("203.0.113.9") == "203.0.113.9"
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::9") == "2001:db8:1:3::/64"
    assert network("nowhere") == "nowhere"
