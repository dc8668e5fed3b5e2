"""
What is wrong gets its 4xx, in the product's own shape, or the connection is closed where HTTP itself is broken.

Never a 5xx, never a growing process, and every request is in the accounts.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field

import brotli
import psutil
import pytest
import zstandard

from tests.support.product import Product, Source
from tests.support.wire import Wire, request

CRLF = b"\r\n"
#: Closed without an answer is right too: what came is no HTTP.
CLOSED = 0


@dataclass(frozen=True)
class Bad:
    """A request with something wrong in it. `$KEY` in a header or path becomes a good key."""

    name: str
    status: int | tuple[int, ...]
    body: bytes = b""
    path: str = "/v1/t"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    #: what the message has to name
    says: str = ""

    @property
    def statuses(self) -> tuple[int, ...]:
        return self.status if isinstance(self.status, tuple) else (self.status,)


def track(**more: object) -> bytes:
    return json.dumps({"type": "track", "event": "Seen", **more}).encode()


def raw(members: bytes) -> bytes:
    return b'{"type":"track","event":"Seen",' + members + b"}"


GOOD = track()
JSON_BODIES = [
    Bad("empty body", 400, b"", says="empty"),
    Bad("blank body", 400, b" \n\t ", says="empty"),
    Bad("no JSON", 400, b"hello"),
    Bad("cut short", 400, GOOD[:-1]),
    Bad("cut in a string", 400, b'{"type":"tra'),
    Bad("two objects", 400, GOOD + GOOD),
    Bad("trailing comma", 400, b'{"type":"track","event":"Seen",}'),
    Bad("single quotes", 400, b"{'type':'track'}"),
    Bad("a comment", 400, b'{"type":"track",/* no */"event":"Seen"}'),
    Bad("an array", 400, b"[" + GOOD + b"]", says="object"),
    Bad("a string", 400, b'"track"'),
    Bad("a number", 400, b"1"),
    Bad("null", 400, b"null"),
    Bad("true", 400, b"true"),
    Bad("form fields", 400, b"type=track&event=Seen"),
    Bad("byte order mark", 400, b"\xef\xbb\xbf" + GOOD),
    Bad("UTF-16", 400, GOOD.decode().encode("utf-16")),
    Bad("NUL bytes", 400, b"\0" * 100),
    Bad("a NUL in the middle", 400, GOOD.replace(b"Seen", b"Se\0en")),
    Bad("a raw newline in a string", 400, GOOD.replace(b"Seen", b"Se\nen")),
    Bad("not UTF-8 in the event", 400, GOOD.replace(b"Seen", b"Se\xffen"), says="UTF-8"),
    Bad("not UTF-8 in properties", 400, raw(b'"properties":{"a":"\xc3\x28"}'), says="UTF-8"),
    Bad("not UTF-8 in a key of context", 400, raw(b'"context":{"\xff":1}'), says="UTF-8"),
    Bad("an overlong UTF-8 sequence", 400, raw(b'"properties":{"a":"\xc0\xaf"}'), says="UTF-8"),
    Bad("an encoded surrogate in UTF-8", 400, raw(b'"properties":{"a":"\xed\xa0\x80"}'), says="UTF-8"),
    Bad("a lone surrogate in the event", 400, GOOD.replace(b"Seen", b"\\ud800")),
    Bad("a lone surrogate in properties", 400, raw(b'"properties":{"a":"\\udc00"}')),
    Bad("a lone surrogate in a nested key", 400, raw(b'"context":{"page":{"\\ud83d":1}}')),
    Bad("a lone surrogate in traits", 400, raw(b'"traits":{"a":["\\ud800\\u0041"]}')),
    Bad("a broken escape", 400, GOOD.replace(b"Seen", b"\\x41")),
    Bad("a broken unicode escape", 400, GOOD.replace(b"Seen", b"\\u12g4")),
    Bad("NaN", 400, raw(b'"properties":{"a":NaN}')),
    Bad("Infinity", 400, raw(b'"properties":{"a":-Infinity}')),
    Bad("a number with a leading zero", 400, raw(b'"properties":{"a":01}')),
    Bad("a number too large", 400, raw(b'"properties":{"a":1e}')),
    Bad("hexadecimal", 400, raw(b'"properties":{"a":0x10}')),
    Bad(
        "1,000 levels of arrays",
        400,
        raw(b'"properties":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"),
        says="nested",
    ),
    Bad("100,000 levels of arrays", 400, b"[" * 100_000, says="must be an object"),
    Bad("100,000 levels of objects", 400, b'{"a":' * 100_000, says="nested"),
    Bad(
        "300 levels in context",
        400,
        raw(b'"context":{"a":' + b'{"a":' * 300 + b"1" + b"}" * 301),
        says="nested",
    ),
]
FIELDS = [
    Bad("an empty object", 400, b"{}", says="type"),
    Bad("no type", 400, b'{"event":"Seen"}', says="type"),
    Bad("null type", 400, b'{"type":null,"event":"Seen"}', says="type"),
    Bad("a number as type", 400, b'{"type":7,"event":"Seen"}', says="type"),
    Bad("an unknown type", 400, b'{"type":"tracks","event":"Seen"}', says="type"),
    Bad("the type in capitals", 400, b'{"type":"TRACK","event":"Seen"}', says="type"),
    Bad("another path's type", 400, b'{"type":"page"}', says="type"),
    Bad("screen", 400, b'{"type":"screen","name":"x"}', says="type"),
    Bad("track without event", 400, b'{"type":"track"}', says="event"),
    Bad("an empty event", 400, b'{"type":"track","event":""}', says="event"),
    Bad("a blank event", 400, b'{"type":"track","event":"  "}', says="event"),
    Bad("null event", 400, b'{"type":"track","event":null}', says="event"),
    Bad("a number as event", 400, b'{"type":"track","event":1}', says="event"),
    Bad("an object as event", 400, b'{"type":"track","event":{}}', says="event"),
    Bad("an event too long", 400, track(event="e" * 1025), says="event"),
    Bad("identify without userId", 400, b'{"type":"identify"}', "/v1/i", says="userId"),
    Bad("an empty userId", 400, b'{"type":"identify","userId":""}', "/v1/i", says="userId"),
    Bad("a number as userId", 400, b'{"type":"identify","userId":42}', "/v1/i", says="userId"),
    Bad("a userId too long", 400, track(userId="u" * 513), says="userId"),
    Bad("group without groupId", 400, b'{"type":"group"}', "/v1/g", says="groupId"),
    Bad("an array as groupId", 400, b'{"type":"group","groupId":["a"]}', "/v1/g", says="groupId"),
    Bad("page as name", 400, b'{"type":"page","name":{"a":1}}', "/v1/p", says="name"),
    Bad("an array as properties", 400, track(properties=[1]), says="properties"),
    Bad("a string as properties", 400, track(properties="a"), says="properties"),
    Bad("a number as traits", 400, track(traits=1), says="traits"),
    Bad("a string as context", 400, track(context="x"), says="context"),
    Bad("an array as context", 400, track(context=[]), says="context"),
    Bad("a number as messageId", 400, track(messageId=1), says="messageId"),
    Bad("a messageId too long", 400, track(messageId="m" * 513), says="messageId"),
    Bad("true as anonymousId", 400, track(anonymousId=True), says="anonymousId"),
    Bad("a number as timestamp", 400, track(timestamp=1700000000), says="timestamp"),
    Bad("yesterday as timestamp", 400, track(timestamp="yesterday"), says="timestamp"),
    Bad("a month too many", 400, track(timestamp="2026-13-01T00:00:00Z"), says="timestamp"),
    Bad("the 30th of February", 400, track(timestamp="2026-02-30"), says="timestamp"),
    Bad("a bad sentAt", 400, track(sentAt="12:00"), says="sentAt"),
]
KEYS = [
    Bad("no key", 401, GOOD, headers={"Authorization": ""}),
    Bad("an unknown key", 401, GOOD, headers={"Authorization": "Bearer dk_live_" + "a" * 32}),
    Bad("no scheme", 401, GOOD, headers={"Authorization": "$KEY"}),
    Bad("another scheme", 401, GOOD, headers={"Authorization": "Digest $KEY"}),
    Bad("bearer without a key", 401, GOOD, headers={"Authorization": "Bearer"}),
    Bad("the key with a tail", 401, GOOD, headers={"Authorization": "Bearer $KEYx"}),
    Bad("the key twice", 401, GOOD, headers={"Authorization": "Bearer $KEY $KEY"}),
    Bad("basic that is no base64", 401, GOOD, headers={"Authorization": "Basic !!!"}),
    Bad("basic with a password", 401, GOOD, headers={"Authorization": "Basic ZGtfYTpw"}),
    Bad("basic that is no UTF-8", 401, GOOD, headers={"Authorization": "Basic /////w=="}),
    Bad("a secret key", 401, GOOD, headers={"Authorization": "Bearer sk_live_abc"}),
    Bad("a key with quotes for SQL", 401, GOOD, headers={"Authorization": "Bearer dk_' OR 1=1 --"}),
    Bad("a key of 4,000 characters", 401, GOOD, headers={"Authorization": "Bearer dk_" + "a" * 4000}),
    Bad("a key with Latin-1 letters", (400, 401), GOOD, headers={"Authorization": "Bearer dk_\xe9\xff"}),
    Bad("a bad key in the query", 401, GOOD, "/v1/t?wk=dk_no", headers={"Authorization": ""}),
    Bad("a key with a NUL in the query", 401, GOOD, "/v1/t?wk=dk_%00", headers={"Authorization": ""}),
    Bad(
        "a key that is no UTF-8 in the query", 401, GOOD, "/v1/t?wk=dk_%ff%fe", headers={"Authorization": ""}
    ),
    Bad(
        "a thousand fields in the query",
        401,
        GOOD,
        "/v1/t?wk=dk_x" + "&a=1" * 1000,
        headers={"Authorization": ""},
    ),
]
TYPES = [
    Bad("XML", 415, GOOD, headers={"Content-Type": "application/xml"}),
    Bad("a form", 415, GOOD, headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Bad("multipart", 415, GOOD, headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Bad("a type that is none", 415, GOOD, headers={"Content-Type": ";;;"}),
    Bad("JSON lines", 415, GOOD, headers={"Content-Type": "application/x-ndjson"}),
    Bad("an unknown charset", 415, GOOD, headers={"Content-Type": "application/json; charset=klingon"}),
    Bad("Latin-1", 415, GOOD, headers={"Content-Type": "text/plain; charset=iso-8859-1"}),
    Bad("an unknown encoding", 415, GOOD, headers={"Content-Encoding": "lzma"}),
    Bad("two encodings", 415, GOOD, headers={"Content-Encoding": "gzip, br"}),
    Bad("gzip that is none", 400, GOOD, headers={"Content-Encoding": "gzip"}),
    Bad("gzip cut short", 400, gzip.compress(GOOD * 99)[:-9], headers={"Content-Encoding": "gzip"}),
    Bad(
        "gzip with a bad checksum",
        400,
        gzip.compress(GOOD)[:-8] + b"\0" * 8,
        headers={"Content-Encoding": "gzip"},
    ),
    Bad("deflate that is none", 400, GOOD, headers={"Content-Encoding": "deflate"}),
    Bad("deflate cut short", 400, zlib.compress(GOOD)[:-5], headers={"Content-Encoding": "deflate"}),
    Bad("brotli that is none", 400, GOOD, headers={"Content-Encoding": "br"}),
    Bad("brotli cut short", 400, brotli.compress(GOOD)[:-3], headers={"Content-Encoding": "br"}),
    Bad("zstd that is none", 400, GOOD, headers={"Content-Encoding": "zstd"}),
    Bad("zstd cut short", 400, zstandard.compress(GOOD * 99)[:-3], headers={"Content-Encoding": "zstd"}),
    Bad("an empty gzip body", 400, b"", headers={"Content-Encoding": "gzip"}),
    Bad("gzip of nothing", 400, gzip.compress(b""), headers={"Content-Encoding": "gzip"}),
]
BOMB = b" " * 50_000_000
SIZES = [
    Bad("a byte over the limit", 413, track(properties={"a": "b" * 524_288})),
    Bad("a gzip bomb", 413, gzip.compress(BOMB), headers={"Content-Encoding": "gzip"}),
    Bad("a deflate bomb", 413, zlib.compress(BOMB), headers={"Content-Encoding": "deflate"}),
    Bad("a brotli bomb", 413, brotli.compress(BOMB, quality=3), headers={"Content-Encoding": "br"}),
    Bad("a zstd bomb", 413, zstandard.compress(BOMB), headers={"Content-Encoding": "zstd"}),
]
PATHS = [
    Bad("GET on /v1/t", 405, method="GET"),
    Bad("PUT on /v1/t", 405, GOOD, method="PUT"),
    Bad("DELETE on /v1/p", 405, path="/v1/p", method="DELETE"),
    Bad("HEAD on /v1/i", 405, path="/v1/i", method="HEAD"),
    Bad("PATCH on /v1/g", 405, GOOD, "/v1/g", "PATCH"),
    Bad("a method of one's own", (405, 400), GOOD, method="BREW"),
    Bad("TRACE", 405, method="TRACE"),
    Bad("an unknown path", 404, GOOD, "/v1/x"),
    Bad("the root", 404, GOOD, "/"),
    Bad("a slash at the end", 404, GOOD, "/v1/t/"),
    Bad("a doubled slash", 404, GOOD, "//v1/t"),
    Bad("capitals", 404, GOOD, "/V1/T"),
    Bad("dots in the path", 404, GOOD, "/v1/../v1/t"),
    Bad("a NUL in the path", (404, 400), GOOD, "/v1/t%00"),
    Bad("bytes that are no UTF-8 in the path", (404, 400), GOOD, "/v1/%ff%fe"),
    Bad("a script in the path", 404, GOOD, "/v1/%3Cscript%3E"),
    Bad("a path of 8,000 characters", (404, 414), GOOD, "/" + "a" * 8000),
    Bad("admin paths here", 404, path="/metrics", method="GET"),
    Bad("an origin that is not listed", 403, GOOD, headers={"Origin": "https://evil.example"}),
    Bad("origin null", 403, GOOD, headers={"Origin": "null"}),
    Bad("an origin that is none", 403, GOOD, headers={"Origin": "://[::"}),
    Bad("an origin that looks local", 403, GOOD, headers={"Origin": "http://localhost.evil.example"}),
    Bad("an origin with a port that is none", 403, GOOD, headers={"Origin": "http://localhost:99999"}),
]
BAD = [*JSON_BODIES, *FIELDS, *KEYS, *TYPES, *SIZES, *PATHS]

CODES = {
    400: "INVALID_PAYLOAD",
    401: "INVALID_PIPELINE_KEY",
    403: "ORIGIN_NOT_ALLOWED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


def to_send(bad: Bad, source: Source) -> bytes:
    headers = {**source.headers, **bad.headers}
    named = {name: value.replace("$KEY", source.pipeline_key) for name, value in headers.items() if value}
    return request(bad.method, bad.path, named, bad.body)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_request(product: Product, source: Source, bad: Bad) -> None:
    with Wire(product.ingest_port) as wire:
        wire.send(to_send(bad, source))
        reply = wire.reply(bad.method)
        assert reply is not None, "closed without an answer"
        assert reply.status in bad.statuses, reply
        if bad.method != "HEAD":
            assert reply.get("content-type") == "application/json"
            assert reply.json().keys() == {"error"}
            assert reply.code == (bad.code or CODES[reply.status])
            assert bad.says in reply.json()["error"]["message"]
        if reply.status == 405:
            assert "POST" in (reply.get("allow") or "")
        if reply.get("connection") != "close":
            # The connection is as good as before.
            wire.send(request("POST", "/v1/t", source.headers, GOOD))
            following = wire.reply()
            assert following is not None
            assert following.status == 200


@dataclass(frozen=True)
class Broken:
    """Bytes that are no good HTTP. `head` is everything after the request line and the key."""

    name: str
    status: int | tuple[int, ...]
    head: tuple[bytes, ...] = ()
    body: bytes = GOOD
    line: bytes = b"POST /v1/t HTTP/1.1"
    whole: bytes = b""
    half_close: bool = False

    def to_send(self, source: Source) -> bytes:
        key = b"Authorization: Bearer " + source.pipeline_key.encode()
        return self.whole or CRLF.join((self.line, b"Host: t.example.com", key, *self.head, b"", self.body))


LENGTH = b"Content-Length: %d" % len(GOOD)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%b\r\n" % (len(GOOD), GOOD)
BROKEN = [
    Broken("no HTTP", 400, whole=b"HELLO\r\n\r\n"),
    Broken("every byte there is", 400, whole=bytes(range(256)) * 4),
    Broken("TLS", 400, whole=bytes.fromhex("16030100c8010000c40303") + b"a" * 200),
    Broken("HTTP/0.9", 400, whole=b"GET /health\r\n\r\n"),
    Broken("HTTP/2's preface", (CLOSED, 400), whole=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Broken("HTTP/3.0", (400, 505), whole=b"GET /health HTTP/3.0\r\nHost: a\r\n\r\n"),
    Broken("a carriage return alone", 400, whole=b"POST /v1/t HTTP/1.1\rHost: a\r\r"),
    Broken("two lengths", 400, (LENGTH, b"Content-Length: 5")),
    Broken("a list of lengths", 400, (b"Content-Length: 28, 28",)),
    Broken("a negative length", 400, (b"Content-Length: -1",)),
    Broken("a length that is a word", 400, (b"Content-Length: ten",)),
    Broken("a length with a sign", 400, (b"Content-Length: +28",)),
    Broken("a length over 64 bits", 400, (b"Content-Length: 99999999999999999999999",)),
    Broken("a length of exabytes", 413, (b"Content-Length: 9223372036854775807",), b""),
    Broken("another transfer coding", (400, 501), (b"Transfer-Encoding: gzip",)),
    Broken(
        "chunked is not the last",
        (400, 501),
        (b"Transfer-Encoding: chunked, identity",),
        CHUNK + b"0\r\n\r\n",
    ),
    Broken("a chunk's size that is none", 400, (CHUNKED,), b"zz\r\n" + GOOD),
    Broken("a chunk's size below zero", 400, (CHUNKED,), b"-1\r\n\r\n"),
    Broken("a chunk's size over 64 bits", 400, (CHUNKED,), b"f" * 20 + b"\r\n" + GOOD),
    Broken("a chunk's extension of 100 kB", 400, (CHUNKED,), b"1c;" + b"a" * 100_000 + b"\r\n" + GOOD),
    Broken("a head of 1 MB", 431, (LENGTH, b"X-A: " + b"a" * 1_000_000)),
    Broken("10,000 headers", 431, (LENGTH, *[b"X-%d: a" % number for number in range(10_000)])),
    Broken(
        "an address of 70 kB", (414, 431), (LENGTH,), line=b"POST /v1/t?a=" + b"a" * 70_000 + b" HTTP/1.1"
    ),
    Broken("a space in a header's name", 400, (LENGTH, b"X A: a")),
    Broken("a space before the colon", 400, (LENGTH, b"Content-Type : application/json")),
    Broken("a header without a colon", 400, (LENGTH, b"X-A")),
    Broken("a header without a name", 400, (LENGTH, b": a")),
    Broken("a NUL in a header", 400, (LENGTH, b"X-A: a\0b")),
    Broken("a folded header", 400, (LENGTH, b"X-A: a", b" b")),
    Broken("a space in the address", 400, (LENGTH,), line=b"POST /v1 /t HTTP/1.1"),
    Broken("no address", 400, (LENGTH,), line=b"POST  HTTP/1.1"),
    Broken("an address without a slash", 400, (LENGTH,), line=b"POST v1/t HTTP/1.1"),
    Broken("a control character in the address", 400, (LENGTH,), line=b"POST /v1/\x01 HTTP/1.1"),
    Broken("Latin-1 in the address", 400, (LENGTH,), line=b"POST /v1/\xff HTTP/1.1"),
    Broken("a method with an at sign", 400, (LENGTH,), line=b"P@ST /v1/t HTTP/1.1"),
    Broken("CONNECT", (400, 404, 405), whole=b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    Broken("OPTIONS *", (400, 404), whole=b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Broken("a body that ends before its length", (400, CLOSED), (b"Content-Length: 99",), half_close=True),
    Broken("a body cut in the middle", (400, CLOSED), (LENGTH,), GOOD[:9], half_close=True),
    Broken("chunks that end in the middle", (400, CLOSED), (CHUNKED,), CHUNK[:20], half_close=True),
    Broken(
        "a head that ends in the middle", (400, CLOSED), whole=b"POST /v1/t HTTP/1.1\r\nHo", half_close=True
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_broken_http(product: Product, source: Source, broken: Broken) -> None:
    wanted = broken.status if isinstance(broken.status, tuple) else (broken.status,)
    with Wire(product.ingest_port) as wire:
        wire.send(broken.to_send(source))
        if broken.half_close:
            wire.end()
        reply = wire.reply()
        assert (reply.status if reply is not None else CLOSED) in wanted, reply


GOOD_ALTHOUGH_ODD = [
    Broken("in chunks", 200, (CHUNKED,), CHUNK + b"0\r\n\r\n"),
    Broken(
        "in chunks of one byte",
        200,
        (CHUNKED,),
        b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n",
    ),
    Broken(
        "chunks with extensions and trailers",
        200,
        (CHUNKED,),
        CHUNK.replace(CRLF, b";a=b\r\n", 1) + b"0\r\nX: y\r\n\r\n",
    ),
    Broken("the same length twice", (200, 400), (LENGTH, LENGTH)),
    Broken("length and chunks", (200, 400), (LENGTH, CHUNKED), CHUNK + b"0\r\n\r\n"),
    Broken("the absolute form", 200, (LENGTH,), line=b"POST http://t.example.com/v1/t HTTP/1.1"),
    Broken("90 headers", 200, (LENGTH, *[b"X-%d: a" % number for number in range(90)])),
    Broken("a head of 60 kB", 200, (LENGTH, b"X-A: " + b"a" * 60_000)),
    Broken("Latin-1 in a header", 200, (LENGTH, b"User-Agent: \xe9\xff", b"Cookie: a=\xff; _dfid=\xfe")),
    Broken("Expect: 100-continue", 200, (LENGTH, b"Expect: 100-continue")),
    Broken("an upgrade to a websocket", 200, (LENGTH, b"Connection: Upgrade", b"Upgrade: websocket")),
    Broken("an upgrade to HTTP/2", 200, (LENGTH, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")),
    Broken("a query", 200, (LENGTH,), line=b"POST /v1/t?a=b&wk=dk_other HTTP/1.1"),
]


@pytest.mark.parametrize("odd", GOOD_ALTHOUGH_ODD, ids=lambda odd: odd.name)
def test_odd_but_good(product: Product, source: Source, odd: Broken) -> None:
    test_broken_http(product, source, odd)


def test_http_1_0_is_answered_and_closed(product: Product, source: Source) -> None:
    with Wire(product.ingest_port) as wire:
        key = source.pipeline_key.encode()
        wire.send(b"POST /v1/t HTTP/1.0\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n%b" % (key, LENGTH, GOOD))
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 200
        assert wire.closed()


def test_pipelined_answers_keep_their_order(product: Product, source: Source) -> None:
    bodies = [GOOD, b"{", GOOD, b'{"type":"page"}', GOOD]
    with Wire(product.ingest_port) as wire:
        wire.send(b"".join(request("POST", "/v1/t", source.headers, body) for body in bodies))
        replies = [wire.reply() for _ in bodies]
        assert [reply and reply.status for reply in replies] == [200, 400, 200, 400, 200]


def test_expect_continue_is_asked_for_the_body(product: Product, source: Source) -> None:
    head, _, body = request("POST", "/v1/t", {**source.headers, "Expect": "100-continue"}, GOOD).partition(
        CRLF * 2
    )
    with Wire(product.ingest_port) as wire:
        wire.send(head + CRLF * 2)
        assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
        wire.send(body)
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 200


def test_too_long_a_body_is_refused_before_it_comes(product: Product, source: Source) -> None:
    with Wire(product.ingest_port) as wire:
        wire.send(request("POST", "/v1/t", {**source.headers, "Content-Length": "524289"}, length=False))
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 413


def test_accounts_balance_when_callers_hang_up(product: Product, source: Source) -> None:
    """Whoever leaves in the middle is in the accounts, too."""
    before = product.at_rest()
    whole = request("POST", "/v1/t", source.headers, GOOD)
    for cut in (len(whole), len(whole) - 1, len(whole) - len(GOOD)):
        for _ in range(10):
            with Wire(product.ingest_port) as wire:
                wire.send(whole[:cut])
                wire.reset()
    after = product.at_rest()
    assert after.in_work == 0
    ended = {name: count - before.outcomes.get(name, 0) for name, count in after.outcomes.items()}
    assert ended["unavailable"] == 0
    assert ended["accepted"] + ended["timeout"] == after.received - before.received


def test_100_000_bad_requests_take_no_memory(product: Product, source: Source) -> None:
    """After a warm-up, the frontends are no larger after 100,000 bad requests of all kinds than before."""
    unavailable = product.at_rest().outcomes["unavailable"]
    # What is large would measure the client rather than the server.
    kinds = [bad for bad in BAD if len(bad.body) < 5000 and len(bad.path) < 1000 and bad.method != "HEAD"]
    round_of_all = b"".join(to_send(bad, source) for bad in kinds)
    statuses: Counter[bytes] = Counter()

    def send(requests: int) -> None:
        """All kinds, one after the other, over eight connections at once."""
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(product.ingest_port)) for _ in range(8)]
            for _ in range(-(-requests // (len(kinds) * len(wires)))):
                for wire in wires:
                    wire.send(round_of_all)
                for wire in wires:
                    statuses.update(wire.statuses(len(kinds)))

    def resident() -> int:
        return sum(psutil.Process(product.pid("frontend", slot)).memory_info().rss for slot in range(2))

    send(20_000)
    before = resident()
    send(100_000)
    grown = resident() - before
    assert statuses.total() >= 120_000
    assert {status[:1] for status in statuses} == {b"4"}, statuses
    # A leak of 40 bytes per request would be 4 MB; the allocator's own coming and going is less than that.
    assert grown < 4_000_000, f"{grown} bytes more"
    assert product.at_rest().outcomes["unavailable"] == unavailable
    assert product.logged("error") == []
