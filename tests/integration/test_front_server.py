"""
What servers send: signed events, batches, Segment-style requests, pixels; through the real HTTP server.

Contracts A.2 to A.6, 0.2.13 to 0.2.18, 0.2.23, F.6.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
import uuid
from typing import Any

import httpx
import pytest

from daemon.errors import LogUnavailable
from daemon.events import pixel
from daemon.events.outcome import Outcome
from daemon.events.signatures import datafly_signature
from tests.support.front import KEY, TRACK, Front, cookies_of

SECRET = "sk_the_secret"


@pytest.fixture(autouse=True)
def secrets(front: Front) -> None:
    """Source 1 has a secret key; source 3 has none."""
    front.keys.secrets["src_1"] = SECRET.encode()


async def signed(
    front: Front, path: str, body: bytes, *, at_ms: int | None = None, secret: str = SECRET, **headers: str
) -> httpx.Response:
    """A signed POST; header names with _ for -, an empty value leaves one out."""
    timestamp = str(int(time.time() * 1000) if at_ms is None else at_ms)
    sent = {
        "content-type": "application/json", "x-timestamp": timestamp, "x-pipeline-key": KEY,
        "x-signature": datafly_signature(secret.encode(), timestamp, body),
    }  # fmt: skip
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    return await front.client.post(
        path, content=body, headers={name: value for name, value in sent.items() if value != "-"}
    )


def code(reply: httpx.Response) -> str:
    """The error's code."""
    found: str = reply.json()["error"]["code"]
    return found


# --- POST /v1/events --------------------------------------------------------------------------------


def test_the_documented_vector() -> None:
    """F.6."""
    body = b'{"type":"track","event":"Order Completed","userId":"user_98765"}'
    assert datafly_signature(b"test_secret", "1772029800000", body) == (
        "sha256=71b0826fab417a510415118f22e8064967e5e7b0878e4df582e2c45bebcad34c"
    )


async def test_a_signed_event(front: Front) -> None:
    """A.2: 200; its own context stands; no cookies, no CORS."""
    event = {**TRACK, "userId": "u1", "context": {"ip": "198.51.100.9", "userAgent": "theirs"}}
    reply = await signed(front, "/v1/events", json.dumps(event).encode(), origin="https://shop.example.com")
    assert (reply.status_code, reply.json()) == (200, {"success": True})
    assert not {"set-cookie", "access-control-allow-origin"} & set(reply.headers)
    (envelope,) = front.outbox.envelopes()
    assert envelope["channel"] == "server"
    assert envelope["context"] == {"ip": "198.51.100.9", "userAgent": "theirs"}
    assert "anonymousId" not in envelope
    assert front.outbox.records[0].key == b"acme/u1"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("", {"x_pipeline_key": "-", "authorization": f"Bearer {KEY}"}),
        ("?source=src_1", {"x_pipeline_key": "-"}),
    ],
)
async def test_how_a_signed_request_names_its_source(
    front: Front, query: str, headers: dict[str, Any]
) -> None:
    """0.2.15: X-Pipeline-Key, the Bearer key, ?source=."""
    reply = await signed(front, f"/v1/events{query}", json.dumps(TRACK).encode(), **headers)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("query", "headers", "wanted"),
    [
        ("", {"x_pipeline_key": "-"}, "INVALID_PIPELINE_KEY"),
        ("", {"x_pipeline_key": "dk_live_unknown"}, "INVALID_PIPELINE_KEY"),
        ("", {"x_pipeline_key": "dk_live_off"}, "INVALID_PIPELINE_KEY"),
        ("?source=src_2", {"x_pipeline_key": "-"}, "INVALID_PIPELINE_KEY"),
        ("?source=src_9", {"x_pipeline_key": "-"}, "INVALID_PIPELINE_KEY"),
        ("", {"x_pipeline_key": "dk_live_bare"}, "INVALID_SIGNATURE"),
        ("", {"x_signature": "-"}, "INVALID_PIPELINE_KEY"),
        ("", {"x_signature": "-", "authorization": f"Bearer {KEY}"}, "INVALID_PIPELINE_KEY"),
        ("", {"x_signature": ""}, "INVALID_PIPELINE_KEY"),
        ("", {"x_signature": "sha256="}, "INVALID_SIGNATURE"),
        ("", {"x_signature": "nonsense"}, "INVALID_SIGNATURE"),
        ("", {"x_timestamp": "-"}, "INVALID_SIGNATURE"),
        ("", {"x_timestamp": "soon"}, "INVALID_SIGNATURE"),
        ("", {"x_timestamp": "1.5"}, "INVALID_SIGNATURE"),
        ("", {"x_timestamp": "9" * 30}, "INVALID_SIGNATURE"),
    ],
)
async def test_what_does_not_authenticate(
    front: Front, query: str, headers: dict[str, Any], wanted: str
) -> None:
    """401, and no event; a failed check never falls back to the key."""
    reply = await signed(front, f"/v1/events{query}", json.dumps(TRACK).encode(), **headers)
    assert (reply.status_code, code(reply)) == (401, wanted)
    assert not front.outbox.records
    assert front.outcome(Outcome.INVALID_KEY) == 1


async def test_one_flipped_bit(front: Front) -> None:
    """In the body, the timestamp or the signature: 401, no event."""
    body = json.dumps(TRACK).encode()
    now = int(time.time() * 1000)
    signature = datafly_signature(SECRET.encode(), str(now), body)
    flipped = bytes([body[5] ^ 1])
    attempts = [
        (body[:5] + flipped + body[6:], str(now), signature),
        (body, str(now ^ 1), signature),
        (body, str(now), signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        (body, str(now), signature.upper()),
    ]
    for data, timestamp, sent in attempts:
        reply = await signed(front, "/v1/events", data, x_timestamp=timestamp, x_signature=sent)
        assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")
    assert not front.outbox.records


@pytest.mark.parametrize(
    ("offset_ms", "status"), [(-299_000, 200), (299_000, 200), (-301_000, 401), (301_000, 401)]
)
async def test_the_clock_skew(front: Front, offset_ms: int, status: int) -> None:
    """5 minutes either way."""
    reply = await signed(
        front, "/v1/events", json.dumps(TRACK).encode(), at_ms=int(time.time() * 1000) + offset_ms
    )
    assert reply.status_code == status
    if status == 401:
        assert code(reply) == "TIMESTAMP_OUT_OF_RANGE"


async def test_the_signed_bytes_are_those_on_the_wire(front: Front) -> None:
    """0.2.15: before inflating."""
    body = gzip.compress(json.dumps(TRACK).encode())
    assert (await signed(front, "/v1/events", body, content_encoding="gzip")).status_code == 200


async def test_a_replay_is_a_duplicate(front: Front) -> None:
    """0.2.15: the body's messageId dedups it."""
    body = json.dumps({**TRACK, "messageId": "m-1"}).encode()
    now = int(time.time() * 1000)
    first, second = [await signed(front, "/v1/events", body, at_ms=now) for _ in range(2)]
    assert "x-headgate-duplicate" not in first.headers
    assert second.headers["x-headgate-duplicate"] == "1"


async def test_the_path_is_shared_with_tracklayer(front: Front) -> None:
    """0.2.16: both credentials: 400, whatever they hold; a tl_ key alone is answered in TrackLayer's shape."""
    body = json.dumps(TRACK).encode()
    attempts: list[dict[str, Any]] = [{"x_signature": "x"}, {}]
    for headers in attempts:
        reply = await signed(front, "/v1/events", body, authorization="Bearer tl_live_x", **headers)
        assert (reply.status_code, code(reply)) == (400, "INVALID_PAYLOAD")
    reply = await signed(front, "/v1/events", body, authorization="Bearer tl_live_x", x_signature="")
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"type":"click"}', b'{"type":"track"}', b"[]"])
async def test_bad_events(front: Front, body: bytes) -> None:
    """400 after a good signature."""
    reply = await signed(front, "/v1/events", body)
    assert (reply.status_code, code(reply)) == (400, "INVALID_PAYLOAD")


# --- POST /v1/batch ---------------------------------------------------------------------------------


def batch_of(*events: Any, **rest: Any) -> bytes:
    """A batch's body."""
    return json.dumps({"batch": events, **rest}).encode()


async def batch(front: Front, body: bytes, **headers: str) -> httpx.Response:
    """A batch with the key."""
    return await front.post("/v1/batch", body, **headers)


async def test_a_batch(front: Front) -> None:
    """A.3: one publish for all, in order, without `errors`."""
    reply = await batch(
        front, batch_of(*[{**TRACK, "event": f"e{n}", "anonymousId": "a"} for n in range(500)])
    )
    assert (reply.status_code, reply.json()) == (200, {"success": True, "accepted": 500})
    assert reply.headers["x-headgate-durability"] == "local"
    assert front.outbox.publishes == 1
    assert [envelope["event"] for envelope in front.outbox.envelopes()] == [f"e{n}" for n in range(500)]
    assert {envelope["channel"] for envelope in front.outbox.envelopes()} == {"batch"}
    assert front.outcome(Outcome.ACCEPTED) == 500


async def test_a_bad_item_fails_alone(front: Front) -> None:
    """A.3: zero-based indexes, in order; the rest is accepted."""
    items: list[Any] = [TRACK, {"event": "x"}, "text", None, 5, [], {"type": "click"}, {"type": "track"},
             {**TRACK, "userId": 1}, {**TRACK, "properties": {"x": "y" * 70_000}}, TRACK]  # fmt: skip
    reply = await batch(front, batch_of(*items))
    answer = reply.json()
    assert reply.status_code == 200
    assert answer["accepted"] == 2
    assert [error["index"] for error in answer["errors"]] == list(range(1, 10))
    assert answer["errors"][0] == {"index": 1, "message": "Missing required field: type"}
    assert "65536" in answer["errors"][8]["message"]
    assert front.outcome(Outcome.INVALID_PAYLOAD) == 9
    assert front.metrics.received.total() == 11


async def test_duplicates_in_batches(front: Front) -> None:
    """0.2.17: they count as accepted; a second copy in the same batch too; one event each."""
    one, two = {**TRACK, "messageId": "m1"}, {**TRACK, "messageId": "m2"}
    assert (await batch(front, batch_of(one, one, two))).json() == {"success": True, "accepted": 3}
    assert (await batch(front, batch_of(two, one))).json() == {"success": True, "accepted": 2}
    assert len(front.outbox.records) == 2
    assert front.outcome(Outcome.DUPLICATE) == 3


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"{", "INVALID_PAYLOAD"),
        (b"{}", "INVALID_PAYLOAD"),
        (b"[]", "INVALID_PAYLOAD"),
        (b'{"batch":{}}', "INVALID_PAYLOAD"),
        (b'{"batch":[]}', "INVALID_PAYLOAD"),
        (b'{"batch":[{"type":"page"}],"sentAt":"soon"}', "INVALID_PAYLOAD"),
        (b'{"batch":[' + b"[" * 5000 + b"]" * 5000 + b"]}", "INVALID_PAYLOAD"),
        (b'{"batch":[{"type":"page","x":"\xff"}]}', "INVALID_PAYLOAD"),
        (batch_of(*[TRACK] * 501), "BATCH_TOO_LARGE"),
        (b" " * (5 * 1024 * 1024 + 1), "BATCH_TOO_LARGE"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_batches_that_are_refused_whole(front: Front, body: bytes, wanted: str) -> None:
    """A.3: malformed or over a limit: 400, and one event in the books."""
    reply = await batch(front, body)
    assert (reply.status_code, code(reply)) == (400, wanted)
    assert front.metrics.received.total() == 1


async def test_deep_items_fail_alone(front: Front) -> None:
    """Nesting is bounded per item."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    answer = (await batch(front, batch_of(TRACK, {**TRACK, "properties": {"a": deep}}))).json()
    assert answer["accepted"] == 1
    assert "nested" in answer["errors"][0]["message"]


async def test_a_batch_that_can_not_be_durable(front: Front) -> None:
    """503, nothing half-accepted; the claims are free again."""
    front.outbox.error = LogUnavailable("full", retry_after_s=2.0)
    body = batch_of({**TRACK, "messageId": "m1"}, {"type": "bad"})
    reply = await batch(front, body)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    front.outbox.error = None
    assert (await batch(front, body)).json()["accepted"] == 1


async def test_signed_batches(front: Front) -> None:
    """A.3: the HMAC pair works here too, and decides first."""
    assert (await signed(front, "/v1/batch", batch_of(TRACK))).status_code == 200
    reply = await signed(
        front, "/v1/batch", batch_of(TRACK), secret="sk_wrong", authorization=f"Bearer {KEY}"
    )
    assert (reply.status_code, code(reply)) == (401, "INVALID_SIGNATURE")


async def test_the_key_does_not_come_in_the_query(front: Front) -> None:
    """0.2.13: ?wk= is for the pixel and the browser endpoints."""
    assert (await front.post(f"/v1/batch?wk={KEY}", batch_of(TRACK), key=None)).status_code == 401


# --- Segment-style ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/track", {"event": "Signed Up", "userId": "u"}),
        ("/v1/page", {"name": "Home", "anonymousId": "a"}),
        ("/v1/identify", {"userId": "u", "traits": {"x": 1}}),
        ("/v1/group", {"groupId": "g", "userId": "u"}),
        ("/v1/screen", {"name": "Main", "userId": "u", "type": "screen"}),
        ("/v1/alias", {"userId": "u", "previousId": "a"}),
    ],
)
async def test_segment_style_paths(front: Front, path: str, body: dict[str, Any]) -> None:
    """0.2.23b: Basic auth, the path says the type; gzip declared as a form."""
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    reply = await front.post(
        path, gzip.compress(json.dumps(body).encode()), key=None, authorization=basic,
        content_encoding="gzip", content_type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert (reply.status_code, reply.json()) == (200, {"success": True})
    (envelope,) = front.outbox.envelopes()
    assert envelope["type"] == path.rpartition("/")[2]
    for name, value in body.items():
        assert envelope[name] == value


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
async def test_the_key_may_stand_in_the_body(front: Front, path: str) -> None:
    """0.2.13: some of Segment's SDKs send no header; the key does not go on the log."""
    event = {"event": "x", "userId": "u"}
    body = {"batch": [{"type": "track", **event}], "sentAt": None} if path == "/v1/batch" else event
    reply = await front.post(path, {**body, "writeKey": KEY}, key=None)
    assert (reply.status_code, reply.json()["success"]) == (200, True)
    (envelope,) = front.outbox.envelopes()
    assert KEY not in json.dumps(envelope)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"event":"x","userId":"u"}', {}),
        (b'{"event":"x","userId":"u","writeKey":"dk_live_unknown"}', {}),
        (b'{"event":"x","userId":"u","writeKey":"sk_1"}', {}),
        (b'{"event":"x","userId":"u","writeKey":["' + KEY.encode() + b'"]}', {}),
        (b'{"writeKey":"' + KEY.encode() + b'"', {}),
        (b'["' + KEY.encode() + b'"]', {}),
        (b"", {}),
        (b"not gzip", {"content_encoding": "gzip"}),
        (b'{"event":"x","writeKey":"' + KEY.encode() + b'"}', {"content_type": "image/png"}),
        (b'{"event":"x","writeKey":"' + KEY.encode() + b'","y":"' + b"x" * 600_000 + b'"}', {}),
        # A header that is there decides alone.
        (
            b'{"event":"x","userId":"u","writeKey":"' + KEY.encode() + b'"}',
            {"authorization": "Bearer dk_live_other"},
        ),
    ],
    ids=[
        "none",
        "unknown",
        "no key",
        "no text",
        "no JSON",
        "no object",
        "nothing",
        "packed badly",
        "type",
        "large",
        "header",
    ],
)
@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
async def test_who_shows_no_key_learns_that_alone(
    front: Front, path: str, body: bytes, headers: dict[str, str]
) -> None:
    """401, whatever else is wrong with the body."""
    reply = await front.post(path, body, key=None, **headers)
    assert (reply.status_code, code(reply)) == (401, "INVALID_PIPELINE_KEY")


async def test_the_type_may_not_be_another(front: Front) -> None:
    """400 that names it."""
    reply = await front.post("/v1/track", {"type": "page", "event": "x"})
    assert (reply.status_code, code(reply)) == (400, "INVALID_PAYLOAD")
    assert "type" in reply.json()["error"]["message"]


async def test_alias_links_two_ids(front: Front) -> None:
    """0.2.23b: the visitor that previousId names is the user from now on."""
    await front.post("/v1/alias", {"userId": "u1", "previousId": "anon-1"})
    await front.post("/v1/track", {"event": "x", "anonymousId": "anon-1"})
    assert front.outbox.envelopes()[-1]["userId"] == "u1"


async def test_the_senders_clock_is_corrected(front: Front) -> None:
    """0.2.23: by receivedAt - sentAt, on these paths only; the batch's sentAt serves its items."""
    front.kit.now = lambda: 1772029800.0  # 2026-02-25T14:30:00Z
    times = {
        "timestamp": "2026-02-25T13:00:00Z",
        "sentAt": "2026-02-25T15:00:10+01:00",
    }  # half an hour slow, less 10 s
    await front.post("/v1/track", {"event": "x", **times})
    await batch(front, batch_of({**TRACK, "timestamp": times["timestamp"]}, TRACK, sentAt=times["sentAt"]))
    await signed(front, "/v1/events", json.dumps({**TRACK, **times}).encode(), at_ms=1772029800000)
    await batch(
        front, batch_of({**TRACK, "timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T23:59:59Z"})
    )
    stamps = [envelope["timestamp"] for envelope in front.outbox.envelopes()]
    assert stamps == [
        "2026-02-25T13:29:50.000Z", "2026-02-25T13:29:50.000Z", "2026-02-25T14:30:00.000Z",
        "2026-02-25T13:00:00Z", "0001-01-01T00:00:00Z",
    ]  # fmt: skip


# --- pixels -----------------------------------------------------------------------------------------


async def test_a_pixel(front: Front) -> None:
    """A.4: the GIF, cache headers, cookies; dotted names, + as a space, values as strings."""
    reply = await front.client.get(
        f"/v1/pixel/track?wk={KEY}&e=Email+Opened&uid=u1&p.campaign_id=42&p.a.b=x&p.a.c=%C3%A9&t.email=a%40b.c"
        "&ts=1772029800123&mid=m1&cb=999&unknown=1",
        headers={"referer": "https://s/?gclid=g"},
    )
    assert reply.status_code == 200
    assert reply.content == pixel.GIF
    assert reply.headers["content-type"] == "image/gif"
    assert reply.headers["cache-control"] == "no-store, no-cache, must-revalidate"
    assert (reply.headers["pragma"], reply.headers["expires"]) == ("no-cache", "0")
    assert reply.headers["x-headgate-durability"] == "local"
    cookies = cookies_of(reply)
    assert set(cookies) == {"_dfid", "_ga", "_fbp", "_ttp", "_gcl_aw"}
    (envelope,) = front.outbox.envelopes()
    assert envelope["channel"] == "pixel"
    assert envelope["event"] == "Email Opened"
    assert envelope["properties"] == {"campaign_id": "42", "a": {"b": "x", "c": "é"}}
    assert envelope["traits"] == {"email": "a@b.c"}
    assert envelope["timestamp"] == "2026-02-25T14:30:00.123Z"
    assert envelope["messageId"] == "m1"
    assert envelope["anonymousId"] == cookies["_dfid"][0]
    assert envelope["context"]["clickIds"] == {"gclid": "g"}


async def test_the_visitor_of_a_pixel(front: Front) -> None:
    """0.2.18: aid is the anonymousId even without a cookie, gid the groupId."""
    await front.client.get(f"/v1/pixel/group?wk={KEY}&gid=g1&aid=mail-7")
    (envelope,) = front.outbox.envelopes()
    assert (envelope["anonymousId"], envelope["groupId"]) == ("mail-7", "g1")
    visitor = str(uuid.uuid4())
    front.client.cookies.clear()
    await front.client.get(f"/v1/pixel/page?wk={KEY}", headers={"cookie": f"_dfid={visitor}"})
    assert front.outbox.envelopes()[-1]["anonymousId"] == visitor


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/pixel/page", 401, "INVALID_PIPELINE_KEY"),
        ("/v1/pixel/page?wk=dk_live_unknown", 401, "INVALID_PIPELINE_KEY"),
        (f"/v1/pixel/click?wk={KEY}", 404, "NOT_FOUND"),
        (f"/v1/pixel/?wk={KEY}", 404, "NOT_FOUND"),
        (f"/v1/pixel/track?wk={KEY}", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/identify?wk={KEY}", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/group?wk={KEY}", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&ts=soon", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&ts={'9' * 15}", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&p.=x", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&p.a..b=x", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&p.a=1&p.a.b=2", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&p.a.b=1&p.a=2", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&p.a=%FF", 400, "INVALID_PAYLOAD"),
        (f"/v1/pixel/page?wk={KEY}&{'&'.join(['x=1'] * 600)}", 400, "INVALID_PAYLOAD"),
    ],
)
async def test_a_refused_pixel_is_still_a_gif(front: Front, path: str, status: int, reason: str) -> None:
    """0.2.18: the status and X-Headgate-Error tell."""
    reply = await front.client.get(path)
    assert (reply.status_code, reply.headers["x-headgate-error"]) == (status, reason)
    assert reply.content == pixel.GIF
    assert reply.headers["content-type"] == "image/gif"
    assert not front.outbox.records


async def test_other_methods(front: Front) -> None:
    """0.1.8."""
    reply = await front.client.post(f"/v1/pixel/page?wk={KEY}")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    for path in ("/v1/events", "/v1/batch", "/v1/track"):
        reply = await front.client.get(path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


async def test_a_limited_pixel(front: Front) -> None:
    """429 with Retry-After."""
    front.limiter.waits = [3.0]
    reply = await front.client.get(f"/v1/pixel/page?wk={KEY}")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert reply.headers["x-headgate-error"] == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404), ("GET", "/v1/pixel/nothing", 404), ("PUT", "/v1/t", 405), ("GET", "/v1/batch", 405),
        ("POST", "/v1/pixel/track", 405), ("POST", "/health", 405), ("POST", "/openapi.json", 405),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_refused_with_a_request_id(
    front: Front, method: str, path: str, status: int
) -> None:
    """0.2.14: the caller's own, or a fresh one."""
    own = await front.client.request(method, path, headers={"x-request-id": "mine-1"})
    fresh = await front.client.request(method, path)
    assert (own.status_code, own.headers["x-request-id"]) == (status, "mine-1")
    assert len(fresh.headers["x-request-id"]) == 16
