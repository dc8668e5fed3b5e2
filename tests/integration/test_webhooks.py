"""POST /v1/webhook through the real HTTP server: every kind, what is refused, copies, rotation (contracts A.5, 0.2.19)."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any
from urllib.parse import quote_plus

import httpx
import msgspec
import pytest
import standardwebhooks
import stripe

from daemon.errors import LogUnavailable
from daemon.events.outcome import Outcome
from daemon.frontend.client import ClientAddress
from tests.support.front import Front
from tests.support.webhooks import (
    BODIES,
    HEADERS,
    SIGNATURES,
    SIGNING,
    TIMED,
    WAYS,
    body_of,
    event_name,
    signed,
)


def uri(front: Front, webhook_id: str) -> str:
    """The address as a sender has it."""
    return f"http://127.0.0.1:{front.port}/v1/webhook?source={webhook_id}"


async def send(front: Front, webhook_id: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """A POST as it is."""
    return await front.client.post(uri(front, webhook_id), content=body, headers=headers)


async def as_sent(
    front: Front, name: str, body: bytes | None = None, webhook_id: str = "", **more: Any
) -> httpx.Response:
    """A signed request of one of WAYS, to a webhook that is made for it where none is named."""
    webhook_id = webhook_id or front.webhooks.add(*WAYS[name])
    data = body_of(name) if body is None else body
    return await send(front, webhook_id, data, signed(name, data, uri(front, webhook_id), **more))


def code(reply: httpx.Response) -> str:
    """The error's code."""
    found: str = reply.json()["error"]["code"]
    return found


# --- what is taken ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WAYS)
async def test_every_kind(front: Front, name: str) -> None:
    reply = await as_sent(front, name)
    assert (reply.status_code, reply.json()) == (200, {"success": True}), reply.text
    assert reply.headers["x-headgate-durability"] == "local"
    assert not {"set-cookie", "access-control-allow-origin"} & set(reply.headers)
    (envelope,) = front.outbox.envelopes()
    assert (envelope["channel"], envelope["contract"], envelope["type"]) == ("webhook", "datafly", "track")
    assert (envelope["tenant"], envelope["source"]) == ("acme", "src_1")
    assert envelope["event"] == event_name(name)
    assert "ip" not in envelope.get("context", {})
    assert front.outcome(Outcome.ACCEPTED) == 1


async def test_what_stripes_own_library_has_signed(front: Front) -> None:
    webhook_id = front.webhooks.add({"source_type": "stripe"}, "whsec_theirs")
    body = json.dumps(BODIES["stripe"][0], indent=2).encode()
    timestamp = int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{timestamp}.{body.decode()}", "whsec_theirs")
    headers = {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": f"t={timestamp},v1={signature}",
    }
    assert (await send(front, webhook_id, body, headers)).status_code == 200
    (envelope,) = front.outbox.envelopes()
    assert (envelope["messageId"], envelope["userId"]) == ("evt_1", "cus_1")
    assert envelope["properties"]["amount"] == 1999
    assert envelope["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert front.outbox.records[0].key == b"acme/cus_1"


async def test_what_the_library_of_standard_webhooks_has_signed(front: Front) -> None:
    from datetime import UTC, datetime

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    webhook_id = front.webhooks.add({"source_type": "standard-webhooks"}, secret)
    body = '{"type":"invoice.paid","data":{"name":"ä"}}'
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_9",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign("msg_9", now, body),
    }
    assert (await send(front, webhook_id, body.encode(), headers)).status_code == 200
    (envelope,) = front.outbox.envelopes()
    assert (envelope["messageId"], envelope["properties"]) == ("msg_9", {"name": "ä"})


@pytest.mark.parametrize(
    "declared",
    ["application/json", "application/json; charset=UTF-8", "text/plain", "text/json", "application/cloudevents+json",
     "application/vnd.github.v3+json; charset=utf-8", None],
)  # fmt: skip
async def test_json_by_any_name(front: Front, declared: str | None) -> None:
    webhook_id = front.webhooks.add(*WAYS["stripe"])
    headers = signed("stripe", body_of("stripe"), uri(front, webhook_id))
    del headers["content-type"]
    reply = await send(
        front, webhook_id, body_of("stripe"), headers | ({"content-type": declared} if declared else {})
    )
    assert reply.status_code == 200


async def test_githubs_form(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["github"])
    body = b"payload=" + quote_plus(body_of("github")).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    reply = await send(front, webhook_id, body, signed("github", body, uri(front, webhook_id), headers=form))
    assert reply.status_code == 200, reply.text
    assert front.outbox.envelopes()[0]["properties"] == {"action": "opened", "issue": 7}
    bad = await send(
        front, webhook_id, b"x=1", signed("github", b"x=1", uri(front, webhook_id), headers=form)
    )
    assert (bad.status_code, code(bad)) == (400, "INVALID_PAYLOAD")


async def test_the_signed_bytes_are_those_on_the_wire(front: Front) -> None:
    body = gzip.compress(body_of("github"))
    reply = await as_sent(front, "github", body, headers={"content-encoding": "gzip"})
    assert reply.status_code == 200
    assert front.outbox.envelopes()[0]["event"] == "issues"


# --- what is refused --------------------------------------------------------------------------------


def _flipped(text: str, place: int) -> str:
    data = bytearray(text.encode())
    data[place] ^= 1
    return data.decode()


@pytest.mark.parametrize("name", SIGNING)
@pytest.mark.parametrize("place", [0, 7, -1])
async def test_one_flipped_bit_of_the_body(front: Front, name: str, place: int) -> None:
    webhook_id = front.webhooks.add(*WAYS[name])
    body = body_of(name)
    reply = await send(
        front, webhook_id, _flipped(body.decode(), place).encode(), signed(name, body, uri(front, webhook_id))
    )
    assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")
    assert not front.outbox.records
    assert front.outcome(Outcome.INVALID_KEY) == 1


@pytest.mark.parametrize("name", SIGNATURES)
async def test_one_flipped_bit_of_the_signature(front: Front, name: str) -> None:
    webhook_id = front.webhooks.add(*WAYS[name])
    body = body_of(name)
    headers = signed(name, body, uri(front, webhook_id))
    for place in (-1, -2, -5):
        wrong = {**headers, SIGNATURES[name]: _flipped(headers[SIGNATURES[name]], place)}
        reply = await send(front, webhook_id, body, wrong)
        assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")
    missing = {key: value for key, value in headers.items() if key != SIGNATURES[name]}
    reply = await send(front, webhook_id, body, missing)
    assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")
    assert not front.outbox.records


@pytest.mark.parametrize("name", TIMED)
async def test_one_flipped_bit_of_the_time(front: Front, name: str) -> None:
    webhook_id = front.webhooks.add(*WAYS[name])
    body = body_of(name)
    headers = signed(name, body, uri(front, webhook_id))
    place = headers[TIMED[name]].index(",") - 1 if name == "stripe" else -1
    headers[TIMED[name]] = _flipped(headers[TIMED[name]], place)
    reply = await send(front, webhook_id, body, headers)
    assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")
    assert not front.outbox.records


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize(("off_s", "status"), [(-290, 200), (290, 200), (-310, 401), (310, 401)])
async def test_the_clock_skew(front: Front, name: str, off_s: int, status: int) -> None:
    reply = await as_sent(front, name, now_s=time.time() + off_s)
    assert reply.status_code == status
    if status == 401:
        assert code(reply) == "TIMESTAMP_OUT_OF_RANGE"
        assert not front.outbox.records


@pytest.mark.parametrize(
    "query", ["", "?source=", "?source=wh_99", "?source=src_1", "?source=wh_%00", "?x=wh_1"]
)
async def test_an_unknown_webhook(front: Front, query: str) -> None:
    front.webhooks.add(*WAYS["stripe"])
    reply = await front.client.post(f"/v1/webhook{query}", content=b"{}")
    assert (reply.status_code, code(reply)) == (404, "NOT_FOUND")
    assert front.outcome(Outcome.INVALID_KEY) == 1


@pytest.mark.parametrize("source_id", ["src_2", "src_99"])
async def test_a_webhook_of_a_disabled_source(front: Front, source_id: str) -> None:
    webhook_id = front.webhooks.add(*WAYS["stripe"], source_id=source_id)
    reply = await as_sent(front, "stripe", webhook_id=webhook_id)
    assert (reply.status_code, code(reply)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"", "the body is empty"),
        (b"\xff", "not UTF-8"),
        (b"[" * 5000, "deeper"),
        (b"{}", "no event name: $.type gave nothing"),
        (b'{"type":""}', "no event name"),
        (b'{"type":{}}', "must be a string or an integer, not an object"),
        (b'{"type":"t","data":{"object":{"customer":[]}}}', "userId ($.data.object.customer) must be"),
        (b'{"type":"t","created":"soon"}', "timestamp"),
    ],
)
async def test_bad_bodies_with_a_good_signature(front: Front, body: bytes, message: str) -> None:
    reply = await as_sent(front, "stripe", body)
    assert (reply.status_code, code(reply)) == (400, "INVALID_PAYLOAD")
    assert message in reply.json()["error"]["message"]
    assert front.outcome(Outcome.INVALID_PAYLOAD) == 1
    assert not front.outbox.records


@pytest.mark.parametrize(
    ("headers", "status", "wanted"),
    [
        ({"content-type": "application/xml"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-type": "image/svg+xml"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-type": "application/json; charset=latin-1"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-type": "application/ld+json; charset=utf-16"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-encoding": "compress"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"content-encoding": "gzip"}, 400, "INVALID_PAYLOAD"),
    ],
)
async def test_types_and_encodings(front: Front, headers: dict[str, str], status: int, wanted: str) -> None:
    reply = await as_sent(front, "stripe", headers=headers)
    assert (reply.status_code, code(reply)) == (status, wanted)


async def test_too_large(front: Front) -> None:
    limit = front.kit.settings.limits.body_bytes_max
    reply = await as_sent(front, "stripe", b" " * (limit + 1))
    assert (reply.status_code, code(reply)) == (413, "PAYLOAD_TOO_LARGE")
    bomb = gzip.compress(b" " * (limit + 1))
    reply = await as_sent(front, "stripe", bomb, headers={"content-encoding": "gzip"})
    assert (reply.status_code, code(reply)) == (413, "PAYLOAD_TOO_LARGE")
    assert front.outcome(Outcome.TOO_LARGE) == 2


async def test_the_sources_limit(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["stripe"])
    front.limiter.waits.append(3.2)
    unsigned = await send(front, webhook_id, body_of("stripe"), {})
    assert unsigned.status_code == 401
    assert front.limiter.waits, "who can't sign takes nothing out of the source's bucket"
    reply = await as_sent(front, "stripe", webhook_id=webhook_id)
    assert (reply.status_code, code(reply), reply.headers["retry-after"]) == (429, "RATE_LIMITED", "4")


async def test_stores_or_the_log_away(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["stripe"])
    front.outbox.error = LogUnavailable("nothing takes events", retry_after_s=2.0)
    reply = await as_sent(front, "stripe", webhook_id=webhook_id)
    assert (reply.status_code, code(reply), reply.headers["retry-after"]) == (503, "UNAVAILABLE", "2")
    front.outbox.error = None
    front.webhooks.away = True
    reply = await as_sent(front, "stripe", webhook_id=webhook_id)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "3")
    front.webhooks.away = False
    assert (await as_sent(front, "stripe", webhook_id=webhook_id)).status_code == 200
    assert len(front.outbox.records) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "HEAD"])
async def test_other_methods(front: Front, method: str) -> None:
    reply = await front.client.request(method, "/v1/webhook?source=wh_1")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


async def test_headers_that_are_no_text(front: Front) -> None:
    """Bytes that are no UTF-8 in the headers that are looked at: refused like any other wrong value."""
    webhook_id = front.webhooks.add(*WAYS["shopify"])
    good = signed("shopify", body_of("shopify"), uri(front, webhook_id))
    for header in ("x-shopify-hmac-sha256", "x-shopify-topic", "x-shopify-webhook-id", "content-type"):
        sent = [
            (name.encode(), b"\xff\xfe" if name == header else value.encode()) for name, value in good.items()
        ]
        reply = await front.client.post(uri(front, webhook_id), content=body_of("shopify"), headers=sent)
        assert reply.status_code in {200, 400, 401, 415}, (header, reply.status_code, reply.text)


# --- copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in WAYS if name != "custom none"])
async def test_a_delivery_sent_twice_is_one_event(front: Front, name: str) -> None:
    """The provider's own id tells it, though the second try be signed anew."""
    webhook_id = front.webhooks.add(*WAYS[name])
    first = await as_sent(front, name, webhook_id=webhook_id)
    second = await as_sent(front, name, webhook_id=webhook_id, now_s=time.time() + 5)
    assert (first.status_code, second.status_code) == (200, 200)
    assert "x-headgate-duplicate" not in first.headers
    assert second.headers["x-headgate-duplicate"] == "1"
    assert second.json() == {"success": True}
    assert len(front.outbox.records) == 1
    assert front.outcome(Outcome.DUPLICATE) == 1


async def test_a_copy_that_comes_while_the_first_is_published(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["stripe"])
    front.outbox.hold = asyncio.Event()
    first = asyncio.create_task(as_sent(front, "stripe", webhook_id=webhook_id))
    while not front.outbox.publishes:
        await asyncio.sleep(0.005)
    second = await as_sent(front, "stripe", webhook_id=webhook_id)
    assert second.status_code == 503
    front.outbox.hold.set()
    assert (await first).status_code == 200
    assert len(front.outbox.records) == 1


# --- several events in one request ------------------------------------------------------------------


def _hubspot(*numbers: int, **more: Any) -> bytes:
    base = {"portalId": 2, "subscriptionId": 1, "objectId": 3, "occurredAt": 1700000000000}
    events = [{**base, "eventId": n, "subscriptionType": f"contact.s{n}", **more} for n in numbers]
    return json.dumps(events).encode()


async def test_hubspots_events_are_one_each_and_share_a_publish(front: Front) -> None:
    reply = await as_sent(front, "hubspot", _hubspot(1, 2, 3, 2))
    assert (reply.status_code, reply.json()) == (200, {"success": True})
    assert [one["event"] for one in sorted(front.outbox.envelopes(), key=lambda one: str(one["event"]))] == [
        "contact.s1", "contact.s2", "contact.s3",
    ]  # fmt: skip
    assert front.outbox.publishes == 1
    assert (front.outcome(Outcome.ACCEPTED), front.outcome(Outcome.DUPLICATE)) == (3, 1)


async def test_a_second_batch_brings_only_what_is_new(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["hubspot"])
    await as_sent(front, "hubspot", _hubspot(1, 2), webhook_id)
    mixed = await as_sent(front, "hubspot", _hubspot(2, 3), webhook_id)
    assert "x-headgate-duplicate" not in mixed.headers
    again = await as_sent(front, "hubspot", _hubspot(1, 2, 3), webhook_id)
    assert again.headers["x-headgate-duplicate"] == "1"
    assert len(front.outbox.records) == 3
    # the same eventId of another portal is another event
    other = await as_sent(front, "hubspot", _hubspot(1, portalId=9), webhook_id)
    assert "x-headgate-duplicate" not in other.headers


async def test_a_bad_event_of_several_fails_alone(front: Front) -> None:
    body = json.dumps([{"eventId": 1, "subscriptionType": "a"}, {"eventId": 2}, 5]).encode()
    reply = await as_sent(front, "hubspot", body)
    assert reply.status_code == 200
    answer = reply.json()
    assert (answer["success"], answer["accepted"]) == (True, 1)
    assert [error["index"] for error in answer["errors"]] == [1, 2]
    assert (front.outcome(Outcome.ACCEPTED), front.outcome(Outcome.INVALID_PAYLOAD)) == (1, 2)
    all_bad = await as_sent(front, "hubspot", b"[{},{}]")
    assert (all_bad.status_code, code(all_bad)) == (400, "INVALID_PAYLOAD")
    too_many = await as_sent(front, "hubspot", _hubspot(*range(501)))
    assert (too_many.status_code, code(too_many)) == (400, "INVALID_PAYLOAD")
    assert len(front.outbox.records) == 1


async def test_events_that_are_not_durable_are_asked_for_again(front: Front) -> None:
    webhook_id = front.webhooks.add(*WAYS["hubspot"])
    front.outbox.error = LogUnavailable("nothing takes events", retry_after_s=2.0)
    reply = await as_sent(front, "hubspot", _hubspot(1, 2), webhook_id)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert front.outcome(Outcome.UNAVAILABLE) == 2
    front.outbox.error = None
    assert (await as_sent(front, "hubspot", _hubspot(1, 2), webhook_id)).status_code == 200
    assert len(front.outbox.records) == 2


# --- HubSpot's address, rotation --------------------------------------------------------------------


@pytest.mark.parametrize(("trusted", "status"), [((), 401), (("127.0.0.1",), 200)])
async def test_hubspots_address_behind_a_proxy(front: Front, trusted: tuple[str, ...], status: int) -> None:
    """0.2.19: scheme and host out of trusted proxies' headers, else as received."""
    front.kit.clients = ClientAddress(trusted)
    webhook_id = front.webhooks.add(*WAYS["hubspot"])
    public = f"https://data.example.com/v1/webhook?source={webhook_id}"
    proxy = {"x-forwarded-proto": "https", "x-forwarded-host": "evil.example, data.example.com"}
    headers = signed("hubspot", body_of("hubspot"), public, headers=proxy)
    reply = await send(front, webhook_id, body_of("hubspot"), headers)
    assert reply.status_code == status
    if status == 401:
        assert uri(front, webhook_id) in reply.json()["error"]["message"]


@pytest.mark.parametrize("name", SIGNATURES)
async def test_both_secrets_are_good_until_the_overlap_is_over(front: Front, name: str) -> None:
    webhook_id = front.webhooks.add(*WAYS[name])
    old, new = WAYS[name][1], "whsec_bmV3IG9uZQ=="
    assert old is not None
    front.webhooks.rows[webhook_id] = msgspec.structs.replace(
        front.webhooks.rows[webhook_id],
        secret=new.encode(),
        previous=old.encode(),
        previous_until_s=time.time() + 60,
    )
    for secret in (old, new):
        assert (await as_sent(front, name, webhook_id=webhook_id, secret=secret)).status_code == 200
    later = time.time() + 61
    front.kit.now = lambda: later
    statuses = [
        (await as_sent(front, name, webhook_id=webhook_id, secret=secret, now_s=later)).status_code
        for secret in (old, new)
    ]
    assert statuses == [401, 200]


def test_the_samples_headers_are_what_the_presets_read() -> None:
    assert set(HEADERS) == {"shopify", "github"}
