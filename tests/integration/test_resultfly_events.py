"""ResultFly's events through the real HTTP server, with the stores and the log in memory (contracts B and 0.3)."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from daemon.errors import LogUnavailable
from daemon.events.outcome import Outcome
from daemon.events.resultfly import EVENTS_WRITE, NO_IDENTITY, SCOPES, event_id
from tests.support.cdp import INVALID, MALFORMED, NO_OBJECT, PURCHASE, TYPE, VALID, Bad, purchase
from tests.support.contracts import cdp_key
from tests.support.front import Front

EVENTS = "/v1/cdp/events"
BATCH = "/v1/cdp/events/batch"
KEY = "cdp_live_key"


@pytest.fixture
def cdp(front: Front) -> Front:
    """A front with a key and a registered event type."""
    front.keys.api_keys[KEY] = cdp_key(1, *SCOPES)
    front.keys.api_keys["cdp_live_reader"] = cdp_key(2, *(set(SCOPES) - {EVENTS_WRITE}))
    front.keys.api_keys["cdp_live_other"] = cdp_key(3, *SCOPES, tenant="other")
    front.contracts.register(TYPE, PURCHASE)
    front.contracts.register("refund", {"properties": {}, "additionalProperties": "allow"})
    return front


async def send(
    front: Front, body: Any, path: str = EVENTS, key: str | None = KEY, **headers: str
) -> httpx.Response:
    return await front.post(path, body, key, **headers)


def of_batch(*items: Any) -> bytes:
    encoded = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
    return b'{"items":[%b]}' % b",".join(encoded)


# --- the documented examples


async def test_accepted_and_duplicate(cdp: Front) -> None:
    first = await send(cdp, purchase())
    wanted = event_id("acme", "brand.pos", "order-1")
    assert (first.status_code, first.json()) == (200, {"status": "accepted", "event_id": wanted})
    assert first.headers["x-headgate-durability"] == "local"
    assert "x-headgate-duplicate" not in first.headers
    # what else is in it does not matter: the id does
    again = await send(cdp, purchase(identity={"email": "other@example.com"}, occurredAt=...))
    assert (again.status_code, again.json()) == (200, {"status": "duplicate", "original_event_id": wanted})
    assert again.headers["x-headgate-duplicate"] == "1"
    assert "x-headgate-durability" not in again.headers
    assert len(cdp.outbox.records) == 1
    assert (cdp.outcome(Outcome.ACCEPTED), cdp.outcome(Outcome.DUPLICATE)) == (1, 1)


async def test_the_envelope(cdp: Front) -> None:
    identity = {
        "email": " Jane@Example.COM",
        "deviceKey": "Dev-1",
        "externalUserId": " U1",
        "phone": "+49 (30) 123456",
    }
    await send(cdp, purchase(identity=identity))
    [envelope] = cdp.outbox.envelopes()
    received_at = envelope.pop("receivedAt")
    assert received_at.endswith("Z")
    assert envelope == {
        "id": event_id("acme", "brand.pos", "order-1"),
        "schema": 1,
        "contract": "resultfly",
        "channel": "server",
        "tenant": "acme",
        "source": "brand.pos",
        "type": "track",
        "event": TYPE,
        "properties": purchase()["properties"],
        "identity": [
            {"type": "EXTERNAL", "value": " U1"},
            {"type": "EMAIL", "value": "jane@example.com"},
            {"type": "PHONE", "value": "+4930123456"},
            {"type": "DEVICE_KEY", "value": "Dev-1"},
        ],
        "timestamp": "2026-02-25T14:30:00Z",
        "messageId": "order-1",
    }
    [record] = cdp.outbox.records
    assert (record.id, record.contract, record.type, record.tenant) == (
        envelope["id"],
        "resultfly",
        "track",
        "acme",
    )
    assert record.key == b"acme/EXTERNAL: U1"
    await send(
        cdp,
        of_batch(purchase("order-2", occurredAt=..., properties=...), purchase("order-3", occurredAt=...)),
        BATCH,
    )
    [_, last] = cdp.outbox.envelopes()
    assert (last["channel"], last["timestamp"]) == ("batch", last["receivedAt"])


async def test_a_batch_has_one_result_per_item_in_order(cdp: Front) -> None:
    await send(cdp, purchase("known"))
    reply = await send(
        cdp,
        of_batch(
            purchase("a"),
            purchase("b", identity={}),
            purchase("a"),
            purchase("known"),
            purchase("c", eventType="unheard_of"),
            purchase("a", eventType="refund"),
            purchase("known", eventType="refund"),
            purchase("d"),
        ),
        BATCH,
    )
    assert reply.status_code == 200
    a, d, known = (event_id("acme", "brand.pos", one) for one in ("a", "d", "known"))
    results = reply.json()["results"]
    assert reply.json().keys() == {"results"}
    assert results[0] == {"status": "accepted", "event_id": a}
    assert results[1] == {"status": "error", "error_code": "validation_failed", "message": NO_IDENTITY}
    assert results[2] == {"status": "duplicate", "original_event_id": a}
    assert results[3] == {"status": "duplicate", "original_event_id": known}
    assert (results[4]["status"], results[4]["error_code"]) == ("error", "unknown_event_type")
    assert (results[5]["status"], results[5]["error_code"]) == ("error", "event_conflict")
    assert (results[6]["status"], results[6]["error_code"]) == ("error", "event_conflict")
    assert results[7] == {"status": "accepted", "event_id": d}
    assert reply.headers["x-headgate-durability"] == "local"
    assert [one["messageId"] for one in cdp.outbox.envelopes()] == ["known", "a", "d"]
    counts = {outcome: cdp.outcome(outcome) for outcome in Outcome if cdp.outcome(outcome)}
    assert counts == {
        Outcome.ACCEPTED: 3, Outcome.DUPLICATE: 2, Outcome.INVALID_PAYLOAD: 2, Outcome.CONFLICT: 2,
    }  # fmt: skip


async def test_another_event_type_under_the_same_id_is_a_conflict(cdp: Front) -> None:
    assert (await send(cdp, purchase())).status_code == 200
    reply = await send(cdp, purchase(eventType="refund"))
    assert reply.status_code == 409
    assert reply.json()["error_code"] == "event_conflict"
    assert "externalEventId" in reply.json()["message"]
    assert (await send(cdp, purchase())).json()["status"] == "duplicate"
    # another source, another tenant: another event
    assert (await send(cdp, purchase(source="brand.crm", eventType="refund"))).json()["status"] == "accepted"
    cdp.contracts.register("refund", {"properties": {}, "additionalProperties": "allow"}, "other")
    assert (await send(cdp, purchase(eventType="refund"), key="cdp_live_other")).json()[
        "status"
    ] == "accepted"
    assert cdp.outcome(Outcome.CONFLICT) == 1


async def test_a_batch_whose_copies_differ_when_the_id_is_another_ones_from_before(cdp: Front) -> None:
    await send(cdp, purchase("a", eventType="refund"))
    reply = await send(cdp, of_batch(purchase("a"), purchase("a", eventType="refund")), BATCH)
    assert [one["status"] for one in reply.json()["results"]] == ["error", "duplicate"]


# --- what is invalid, alone and in a batch


async def test_invalid_payloads(cdp: Front) -> None:
    """Each has its status, its code and its very message; nothing of them is published."""
    assert len(INVALID) >= 60
    for bad in [*INVALID, *NO_OBJECT, *MALFORMED]:
        reply = await cdp.post(EVENTS, bad.encoded, KEY)
        wanted = {"status": "error", "error_code": bad.code, "message": bad.message}
        assert (reply.status_code, reply.json()) == (bad.status, wanted), bad
        assert reply.headers["x-request-id"]
    assert not cdp.outbox.records
    assert cdp.outcome(Outcome.INVALID_PAYLOAD) == len(INVALID) + len(NO_OBJECT) + len(MALFORMED)


async def test_invalid_payloads_beside_good_ones(cdp: Front) -> None:
    """In a batch each fails alone, with the same message."""
    bad = [*INVALID, *NO_OBJECT]
    items: list[Any] = []
    for number, one in enumerate(bad):
        items += [purchase(f"good-{number}"), one.encoded]
    reply = await send(cdp, of_batch(*items), BATCH)
    assert reply.status_code == 200
    results = reply.json()["results"]
    assert [one["status"] for one in results[::2]] == ["accepted"] * len(bad)
    for one, result in zip(bad, results[1::2], strict=True):
        message = one.message.replace("the body", "the event")
        assert result == {"status": "error", "error_code": one.code, "message": message}, one
    assert [one["messageId"] for one in cdp.outbox.envelopes()] == [f"good-{n}" for n in range(len(bad))]


async def test_what_may_look_wrong_is_taken(cdp: Front) -> None:
    for number, body in enumerate(VALID):
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        cdp.visits.claims.clear()
        reply = await cdp.post(EVENTS, encoded, KEY)
        assert reply.json().get("status") == "accepted", (body, reply.json())
        assert len(cdp.outbox.records) == number + 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "items is required"),
        (b'{"batch":[]}', "items is required"),
        (b'{"items":null}', "items must be an array, not null"),
        (b'{"items":{}}', "items must be an array, not an object"),
        (b'{"items":"x"}', "items must be an array, not a string"),
        (b'{"items":[]}', "items must hold at least one event"),
        (b'{"items":[' + b"{}," * 500 + b"{}]}", "items holds 501 events; at most 500 are taken"),
        (b"[]", "the body must be an object, not an array"),
        (b"null", "the body must be an object, not null"),
    ],
    ids=lambda one: str(one)[:30],
)
async def test_batches_that_are_none(cdp: Front, body: bytes, message: str) -> None:
    reply = await cdp.post(BATCH, body, KEY)
    wanted = {"status": "error", "error_code": "validation_failed", "message": message}
    assert (reply.status_code, reply.json()) == (422, wanted)


async def test_malformed_batches(cdp: Front) -> None:
    for bad in (*MALFORMED, Bad("", b'{"items":[{]}'), Bad("", b'{"items":[' + b"\xff]}")):
        body = bad.encoded if not bad.encoded.startswith(b'{"source"') else of_batch(bad.encoded)
        reply = await cdp.post(BATCH, body, KEY)
        assert (reply.status_code, reply.json()["error_code"]) == (400, "malformed_json"), bad


async def test_500_items_are_taken_and_a_large_one_fails_alone(cdp: Front) -> None:
    large = purchase("large", properties={**purchase()["properties"], "currency": "x" * 65536})
    just = purchase("just")
    just["properties"]["currency"] = "x" * (65536 - len(json.dumps(just)) + 3)
    assert len(json.dumps(just)) == 65536
    items = [purchase(str(number)) for number in range(498)]
    reply = await send(cdp, of_batch(*items, large, just), BATCH)
    results = reply.json()["results"]
    assert [one["status"] for one in results] == ["accepted"] * 498 + ["error", "accepted"]
    assert results[498] == {
        "status": "error",
        "error_code": "payload_too_large",
        "message": "the event is over 65536 bytes",
    }
    assert cdp.outcome(Outcome.TOO_LARGE) == 1
    assert cdp.outbox.publishes == 1


# --- keys


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer dk_live_key",
        "Bearer tl_live_key",
        "Bearer sk_key",
        "Bearer cdp_live_unknown",
        "Bearer cdp_live_merchant",
        "Bearer " + "cdp_" + "x" * 300,
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
        "Basic Y2RwX2xpdmVfa2V5Og==",
        "cdp_live_key",
        "Bearer cdp_live_kéy",
    ],
)
async def test_bad_keys(cdp: Front, path: str, header: str | None) -> None:
    merchant = cdp_key(9, *SCOPES)
    cdp.keys.api_keys["cdp_live_merchant"] = type(merchant)(
        "key_9", "merchant", "acme", "m", SCOPES, None, None
    )
    headers = {} if header is None else {"authorization": header.encode()}
    reply = await cdp.client.post(path, json=purchase(), headers=headers)  # type: ignore[arg-type]
    assert reply.status_code == 401
    assert (reply.json()["status"], reply.json()["error_code"]) == ("error", "invalid_api_key")
    assert cdp.outcome(Outcome.INVALID_KEY) == 1


async def test_a_key_without_the_scope(cdp: Front) -> None:
    for path in (EVENTS, BATCH):
        reply = await send(cdp, purchase(), path, "cdp_live_reader")
        assert reply.status_code == 403
        assert reply.json() == {
            "status": "error",
            "error_code": "forbidden",
            "message": "this key lacks the scope cdp:events:write",
        }
    assert cdp.outcome(Outcome.FORBIDDEN) == 2


async def test_bearer_in_any_case(cdp: Front) -> None:
    assert (await cdp.post(EVENTS, purchase(), None, authorization=f"bearer  {KEY}")).status_code == 200


# --- the frame


async def test_other_paths_and_methods(cdp: Front) -> None:
    for path in (
        "/v1/cdp",
        "/v1/cdp/",
        "/v1/cdp/nothing",
        "/v1/cdp/events/",
        "/v1/cdp/events/batch/x",
        "/v1/cdp/eventsx",
    ):
        reply = await cdp.client.post(path, json={})
        assert (reply.status_code, reply.json()["error_code"]) == (404, "not_found"), path
    for path in (EVENTS, BATCH):
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
            reply = await cdp.client.request(method, path)
            assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
            assert reply.json()["error_code"] == "method_not_allowed"
            assert not [name for name in reply.headers if name.startswith("access-control")], "servers only"
    reply = await cdp.client.get("/v1/cdpx")
    assert reply.json()["error"]["code"] == "NOT_FOUND", "Datafly's"
    assert cdp.metrics.received.total() == 0


async def test_types_encodings_and_lengths(cdp: Front) -> None:
    good = json.dumps(purchase()).encode()
    cases: list[tuple[int, str, bytes, dict[str, str]]] = [
        (415, "unsupported_media_type", good, {"content_type": "application/xml"}),
        (415, "unsupported_media_type", good, {"content_type": "application/x-www-form-urlencoded"}),
        (415, "unsupported_media_type", good, {"content_type": "application/json; charset=latin1"}),
        (415, "unsupported_media_type", good, {"content_encoding": "lzma"}),
        (413, "payload_too_large", b" " * (512 * 1024 + 1), {}),
        (413, "payload_too_large", gzip.compress(b" " * (512 * 1024 + 1)), {"content_encoding": "gzip"}),
        (400, "malformed_json", good, {"content_encoding": "gzip"}),
    ]
    for status, code, body, headers in cases:
        reply = await cdp.post(EVENTS, body, KEY, **headers)
        assert (reply.status_code, reply.json()["error_code"]) == (status, code), headers
    reply = await cdp.post(BATCH, b" " * (5 * 1024 * 1024 + 1), KEY)
    assert (reply.status_code, reply.json()["error_code"]) == (413, "payload_too_large")
    for headers in ({"content_type": "text/plain"}, {"content_type": "application/json; charset=UTF-8"}):
        assert (await cdp.post(EVENTS, good, KEY, **headers)).status_code == 200
    assert (await cdp.post(EVENTS, gzip.compress(good), KEY, content_encoding="gzip")).status_code == 200


async def test_the_rate_limit(cdp: Front) -> None:
    for path in (EVENTS, BATCH):
        cdp.limiter.waits = [2.5]
        reply = await send(cdp, purchase(), path)
        assert (reply.status_code, reply.json()["error_code"]) == (429, "rate_limited")
        assert reply.headers["retry-after"] == "3"
        assert reply.headers["ratelimit"] == '"key";r=0;t=3'
        assert "ratelimit-policy" in reply.headers
    # a batch costs one request
    cdp.limiter.waits = [0.0, 9.0]
    assert (await send(cdp, of_batch(*(purchase(str(n)) for n in range(50))), BATCH)).status_code == 200
    assert cdp.limiter.waits == [9.0]


async def test_what_can_not_be_made_durable(cdp: Front) -> None:
    cdp.outbox.error = LogUnavailable("away", retry_after_s=3.0)
    for path, body in ((EVENTS, purchase()), (BATCH, of_batch(purchase("a"), purchase("b", source=7)))):
        reply = await send(cdp, body, path)
        assert (reply.status_code, reply.json()["error_code"]) == (503, "unavailable")
        assert reply.headers["retry-after"] == "3"
    # a batch of which something was durable before says what was not
    cdp.outbox.error = None
    await send(cdp, purchase("known"))
    cdp.outbox.error = LogUnavailable("away", retry_after_s=3.0)
    reply = await send(
        cdp, of_batch(purchase("known"), purchase("c"), purchase("c"), purchase("d", source=7)), BATCH
    )
    assert reply.status_code == 200
    assert [one.get("error_code", one["status"]) for one in reply.json()["results"]] == [
        "duplicate",
        "unavailable",
        "unavailable",
        "validation_failed",
    ]
    assert reply.headers["retry-after"] == "3"
    assert "x-headgate-durability" not in reply.headers
    # nothing of it is claimed: it can be sent again at once
    cdp.outbox.error = None
    reply = await send(cdp, of_batch(purchase("known"), purchase("c")), BATCH)
    assert [one["status"] for one in reply.json()["results"]] == ["duplicate", "accepted"]


async def test_a_store_that_is_away(cdp: Front) -> None:
    cdp.contracts.away = True
    for path, body in ((EVENTS, purchase()), (BATCH, of_batch(purchase()))):
        reply = await send(cdp, body, path)
        assert (reply.status_code, reply.json()["error_code"]) == (503, "unavailable")
        assert reply.headers["retry-after"] == "3"
    reply = await cdp.post(EVENTS, b"{", KEY)
    assert reply.status_code == 400, "bad input is told all the same"
    cdp.keys.away = True
    assert (await send(cdp, purchase())).status_code == 503


async def test_copies_at_once_are_one_event(cdp: Front) -> None:
    cdp.outbox.hold = asyncio.Event()
    sending = [asyncio.create_task(send(cdp, purchase())) for _ in range(8)]
    sending += [asyncio.create_task(send(cdp, of_batch(purchase(), purchase()), BATCH))]
    while not cdp.outbox.publishes:
        await asyncio.sleep(0.005)
    cdp.outbox.hold.set()
    replies = await asyncio.gather(*sending)
    assert {one.status_code for one in replies} == {200}
    statuses = [one.json()["status"] for one in replies[:-1]]
    statuses += [one["status"] for one in replies[-1].json()["results"]]
    assert statuses.count("accepted") == 1
    assert statuses.count("duplicate") == 9
    assert len(cdp.outbox.records) == 1


async def test_ids_are_unambiguous_and_of_the_tenants_name(cdp: Front) -> None:
    ids = set()
    for source, told in (("a", "|bc"), ("a|", "bc"), ("a|b", "c"), ("a:b", "c"), ("a", "b:c")):
        ids.add((await send(cdp, purchase(told, source=source))).json()["event_id"])
    cdp.contracts.register(TYPE, PURCHASE, "other")
    ids.add((await send(cdp, purchase("c", source="a|b"), key="cdp_live_other")).json()["event_id"])
    assert len(ids) == 6
    assert all(len(one) == 30 and one.startswith("evt_") for one in ids)


async def test_the_books_balance_when_a_caller_leaves(cdp: Front) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", cdp.port)
    writer.write(
        f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
    )
    await writer.drain()
    while not cdp.kit.accounts.requests:
        await asyncio.sleep(0.005)
    writer.close()
    while cdp.kit.accounts.requests:
        await asyncio.sleep(0.005)
    assert cdp.outcome(Outcome.TIMEOUT) == 1
