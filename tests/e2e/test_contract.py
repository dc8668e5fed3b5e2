"""Every documented request of docs/contracts.md gets the documented answer, on the product as it is run."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import IO, Any

import brotli
import pytest
import zstandard

from tests.support.product import ROOT, Product, Source, until
from tests.support.wire import Wire, request

ORIGIN = "http://localhost:3000"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

#: The shape of each vendor's cookie (A.8).
VENDOR_COOKIES = {
    "_ga": re.compile(r"GA1\.1\.\d+\.\d{10}"),
    "_fbp": re.compile(r"fb\.1\.\d{13}\.\d{10}"),
    "_ttp": UUID4,
}

MAX_AGE_S = {
    "_dfid": 63072000,
    "_ga": 63072000,
    "_fbp": 90 * 86400,
    "_ttp": 395 * 86400,
    "_fbc": 90 * 86400,
    "_gcl_aw": 90 * 86400,
}

#: path's letter → a body with every documented field
DOCUMENTED: dict[str, dict[str, Any]] = {
    "t": {
        "type": "track",
        "event": "Order Completed",
        "userId": "user_98765",
        "properties": {
            "order_id": "ORD-2026-001",
            "total": 129.99,
            "currency": "GBP",
            "items": [{"sku": "A"}],
        },
        "context": {
            "page": {
                "url": "https://www.example.com/checkout",
                "title": "Checkout",
                "referrer": "https://e.com",
            },
            "userAgent": "Mozilla/5.0 (page)",
            "locale": "en-GB",
            "timezone": "Europe/London",
        },
        "timestamp": "2026-02-25T14:30:00.000Z",
    },
    "p": {
        "type": "page",
        "name": "Product Page",
        "properties": {"url": "https://www.example.com/p/1", "title": "Shoe", "path": "/p/1"},
    },
    "i": {
        "type": "identify",
        "userId": "user_98765",
        "traits": {"email": "jane@example.com", "plan": "premium"},
    },
    "g": {
        "type": "group",
        "userId": "user_98765",
        "groupId": "company_1",
        "traits": {"name": "Acme", "size": 7},
    },
}


def envelope(product: Product, message_id: str) -> dict[str, Any]:
    [found] = [one for one in product.tail("--since", "5m") if one.get("messageId") == message_id]
    return found


@pytest.mark.parametrize("letter", DOCUMENTED)
def test_documented_request(product: Product, source: Source, letter: str) -> None:
    message_id = str(uuid.uuid4())
    sent = {**DOCUMENTED[letter], "messageId": message_id}
    before_s = time.time()
    reply = product.post(letter, source, sent, Origin=ORIGIN, User_Agent="Browser/1.0")
    after_s = time.time()

    assert reply.status == 200
    assert reply.json() == {"success": True}
    assert reply.get("content-type") == "application/json"
    assert reply.get("access-control-allow-origin") == ORIGIN
    assert reply.get("access-control-allow-methods") == "POST, OPTIONS"
    assert reply.get("access-control-allow-headers") == "Content-Type, Authorization"
    assert reply.get("access-control-allow-credentials") == "true"
    assert reply.get("vary") == "Origin"
    assert reply.get("x-headgate-durability") == "local"
    assert reply.get("x-headgate-duplicate") is None

    cookies = reply.cookies()
    assert cookies.keys() == {"_dfid", *VENDOR_COOKIES}
    assert UUID4.fullmatch(cookies["_dfid"])
    for name, shape in VENDOR_COOKIES.items():
        assert shape.fullmatch(cookies[name]), cookies[name]
    for line in reply.get_all("set-cookie"):
        name = line.split("=", 1)[0]
        attributes = {one.strip() for one in line.split(";")[1:]}
        # Development mode over plain http: Secure is dropped.
        wanted = {"Path=/", "SameSite=Lax", f"Max-Age={MAX_AGE_S[name]}"}
        assert attributes == (wanted | {"HttpOnly"} if name == "_dfid" else wanted)

    found = envelope(product, message_id)
    assert found.keys() == {
        "id", "schema", "contract", "channel", "tenant", "source", "anonymousId", "context", "timestamp",
        "receivedAt", *sent,
    }  # fmt: skip
    for name in sent.keys() - {"context", "timestamp"}:
        assert found[name] == sent[name]
    assert re.fullmatch("[0-9a-f]{32}", found["id"])
    assert (found["schema"], found["contract"], found["channel"]) == (1, "datafly", "browser")
    assert (found["tenant"], found["source"]) == (source.tenant, source.id)
    assert found["anonymousId"] == cookies["_dfid"]
    received_s = datetime.fromisoformat(found["receivedAt"]).timestamp()
    assert before_s - 0.001 <= received_s <= after_s
    assert found["timestamp"] == sent.get("timestamp", found["receivedAt"])
    assert found["context"] == {
        "userAgent": "Browser/1.0",
        **sent.get("context", {}),
        "ip": "127.0.0.1",
        "vendorIds": {name: cookies[name] for name in VENDOR_COOKIES},
    }


@pytest.mark.parametrize("letter", DOCUMENTED)
def test_preflight(product: Product, letter: str) -> None:
    reply = product.ask(
        "OPTIONS",
        f"/v1/{letter}",
        {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert (reply.status, reply.body) == (204, b"")
    assert reply.get("access-control-allow-origin") == ORIGIN
    assert reply.get("access-control-allow-methods") == "POST, OPTIONS"
    assert reply.get("access-control-allow-headers") == "Content-Type, Authorization"
    assert reply.get("access-control-allow-credentials") == "true"
    assert reply.get("access-control-max-age") == "7200"
    assert reply.get("vary") == "Origin"


def test_preflight_from_elsewhere_allows_nothing(product: Product) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = product.ask("OPTIONS", "/v1/t", asked)
    assert reply.status == 204
    assert reply.get("access-control-allow-origin") is None


def test_listed_origins_and_cookie_domain(product: Product) -> None:
    source = product.create_source(
        origins=["https://shop.example.com", "https://*.example.org"], cookie_domain="example.com"
    )
    event = {"type": "page"}
    for origin in ("https://shop.example.com", "https://a.b.example.org"):
        reply = product.post("p", source, event, Origin=origin)
        assert (reply.status, reply.get("access-control-allow-origin")) == (200, origin)
        assert all("; Domain=example.com" in line for line in reply.get_all("set-cookie"))
        until(partial(allows, product, origin), f"the preflight of {origin} is answered", 5.0)
    for origin in (
        "https://shop.example.com.evil.example",
        "http://shop.example.com",
        "https://example.org",
        "null",
    ):
        reply = product.post("p", source, event, Origin=origin)
        assert (reply.status, reply.code) == (403, "ORIGIN_NOT_ALLOWED")
        assert not [name for name, _ in reply.headers if name.startswith("access-control")]
        assert not reply.cookies()
    # What the page did wrong, it can read.
    reply = product.post("p", source, {"type": "track"}, Origin="https://shop.example.com")
    assert (reply.status, reply.get("access-control-allow-origin")) == (400, "https://shop.example.com")


def allows(product: Product, origin: str) -> bool:
    asked = product.ask("OPTIONS", "/v1/p", {"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert asked.status == 204
    return asked.get("access-control-allow-origin") == origin


def test_ways_to_bring_the_key(product: Product, source: Source) -> None:
    body = json.dumps({"type": "page"}).encode()
    basic = base64.b64encode(f"{source.pipeline_key}:".encode()).decode()
    assert product.ask("POST", "/v1/p", {"Authorization": f"Basic {basic}"}, body).status == 200
    assert (
        product.ask("POST", "/v1/p", {"Authorization": f"bearer {source.pipeline_key}"}, body).status == 200
    )
    # sendBeacon: the key in the query, text/plain.
    beacon = {"Content-Type": "text/plain;charset=UTF-8"}
    assert product.ask("POST", f"/v1/p?wk={source.pipeline_key}", beacon, body).status == 200
    # A header that is there decides alone.
    bad = product.ask("POST", f"/v1/p?wk={source.pipeline_key}", {"Authorization": "Bearer dk_no"}, body)
    assert (bad.status, bad.code) == (401, "INVALID_PIPELINE_KEY")


def test_cookies_that_came_are_kept(product: Product, source: Source) -> None:
    mine = {"_dfid": str(uuid.uuid4()), "_ga": "GA1.2.77.1700000000", "_fbp": "fb.1.1700000000000.1234567890"}
    header = "; ".join(f"{name}={value}" for name, value in mine.items())
    message_id = str(uuid.uuid4())
    reply = product.post("p", source, {"type": "page", "messageId": message_id}, Cookie=header)
    assert reply.cookies().keys() == {"_ttp"}, "only what was missing is set"
    found = envelope(product, message_id)
    assert found["anonymousId"] == mine.pop("_dfid")
    assert found["context"]["vendorIds"] == {**mine, "_ttp": reply.cookies()["_ttp"]}


def test_malformed_cookie_is_replaced(product: Product, source: Source) -> None:
    reply = product.post("p", source, {"type": "page"}, Cookie="_dfid=not-a-uuid; _ga=nonsense")
    assert UUID4.fullmatch(reply.cookies()["_dfid"])
    assert VENDOR_COOKIES["_ga"].fullmatch(reply.cookies()["_ga"])


def test_duplicate_is_answered_and_not_published_again(product: Product, source: Source) -> None:
    message_id = product.track(source)
    for _ in range(3):
        reply = product.post("t", source, {"type": "track", "event": "Other", "messageId": message_id})
        assert (reply.status, reply.json()) == (200, {"success": True})
        assert reply.get("x-headgate-duplicate") == "1"
        assert reply.get("x-headgate-durability") is None
    assert envelope(product, message_id)["event"] == "Seen"


def test_same_message_id_of_another_source_is_no_duplicate(product: Product, source: Source) -> None:
    other = product.create_source()
    message_id = product.track(source)
    assert product.track(other, message_id)
    found = [one for one in product.tail("--since", "5m") if one.get("messageId") == message_id]
    assert {one["source"] for one in found} == {source.id, other.id}
    assert len({one["id"] for one in found}) == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_encodings(product: Product, source: Source, encoding: str) -> None:
    message_id = str(uuid.uuid4())
    plain = json.dumps({"type": "page", "messageId": message_id, "properties": {"a": "b" * 5000}}).encode()
    gzipper = zlib.compressobj(wbits=31)
    packed = {
        "gzip": gzipper.compress(plain) + gzipper.flush(),
        "deflate": zlib.compress(plain),
        "br": brotli.compress(plain),
        "zstd": zstandard.compress(plain),
    }[encoding]
    reply = product.ask("POST", "/v1/p", {**source.headers, "Content-Encoding": encoding}, packed)
    assert reply.status == 200
    assert envelope(product, message_id)["properties"] == {"a": "b" * 5000}


def test_rate_limit_answer(product: Product) -> None:
    source = product.create_source(rate=0.5, burst=2)
    replies = [product.post("p", source, {"type": "page"}, Origin=ORIGIN) for _ in range(4)]
    assert [one.status for one in replies[:2]] == [200, 200]
    reply = replies[-1]
    assert reply.status == 429
    assert reply.code == "RATE_LIMITED"
    retry_s = int(reply.get("retry-after") or "0")
    assert 1 <= retry_s <= 4
    assert reply.json()["error"]["message"] == f"Rate limit exceeded. Retry after {retry_s} seconds."
    assert reply.get("ratelimit") == f'"key";r=0;t={retry_s}'
    assert reply.get("ratelimit-policy") == '"key";q=2;w=4'
    assert reply.get("access-control-allow-origin") == ORIGIN


def test_keep_alive_and_pipelining(product: Product, source: Source) -> None:
    with Wire(product.ingest_port) as wire:
        one = request("POST", "/v1/p", source.headers, b'{"type":"page"}')
        for _ in range(3):
            wire.send(one)
            reply = wire.reply()
            assert reply is not None
            assert reply.status == 200
        wire.send(one * 5)
        replies = [wire.reply() for _ in range(5)]
        assert [reply and reply.status for reply in replies] == [200] * 5


def test_health(product: Product) -> None:
    reply = product.ask("GET", "/health")
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    assert product.ask("HEAD", "/health").status == 200


def test_printed_lines_work_when_pasted(product: Product) -> None:
    lines = [line.strip() for line in product.log.splitlines()]
    [curl] = [line for line in lines if line.startswith("curl ")]
    [follow] = [line for line in lines if line.endswith("tail --follow")]
    follower = subprocess.Popen(
        ["sh", "-c", follow],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=product.environ,
        text=True,
        start_new_session=True,
    )
    assert follower.stdout is not None
    try:
        done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == {"success": True}
        found = product.tail("--source", product.demo.id)[-1]
        assert (found["event"], found["properties"]) == ("Product Viewed", {"sku": "A-1", "price": 19.9})
        until_line(follower.stdout, lambda one: one["id"] == found["id"])
        later = product.track(product.demo)
        until_line(follower.stdout, lambda one: one.get("messageId") == later)
    finally:
        os.killpg(follower.pid, signal.SIGINT)
        follower.communicate()


def until_line(stream: IO[str], wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Read envelopes until the one that is wanted; the test's own time limit is the deadline."""
    for line in stream:
        if wanted(json.loads(line)):
            return
    raise AssertionError("tail --follow ended before it showed the event")


def test_tail_selects(product: Product) -> None:
    source = product.create_source(name="tail me")
    for letter, body in DOCUMENTED.items():
        assert product.post(letter, source, body).status == 200
    assert [one["type"] for one in product.tail("--source", source.id)] == [
        "track",
        "page",
        "identify",
        "group",
    ]
    assert [one["type"] for one in product.tail("--source", "tail me", "--type", "page")] == ["page"]
    assert [one["type"] for one in product.tail("--source", source.id, "--limit", "2")] == [
        "identify",
        "group",
    ]
    assert product.tail("--source", source.id, "--since", "1h")
    assert not product.tail("--source", source.id, "--since", "2099-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("198.51.100.1, nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_client_address_behind_a_proxy(four: Product, forwarded: str, ip: str) -> None:
    """The right-most entry that no trusted proxy vouches for; what stands left of it anybody can write."""
    source, message_id = four.demo, str(uuid.uuid4())
    reply = four.post("p", source, {"type": "page", "messageId": message_id}, X_Forwarded_For=forwarded)
    assert reply.status == 200
    assert envelope(four, message_id)["context"]["ip"] == ip


def test_nobody_is_trusted_by_default(product: Product, source: Source) -> None:
    message_id = str(uuid.uuid4())
    event = {"type": "page", "messageId": message_id}
    assert product.post("p", source, event, X_Forwarded_For="203.0.113.7").status == 200
    assert envelope(product, message_id)["context"]["ip"] == "127.0.0.1"
