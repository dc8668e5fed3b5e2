"""What requests are made of: good bodies to begin with, headers, encodings."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import zstandard

from tests.fuzz.inputs.words import TEXTS

#: The merchant of the seeds.
MERCHANT = b"3f2504e0-4f89-41d3-9a0c-0305e82c3301"

CDP_GOOD = {
    "source": "brand.pos", "externalEventId": "$ID$", "eventType": "purchase", "identity": {"email": "$ID$@example.com"},
    "properties": {"order_id": "$ID$"},
}  # fmt: skip
#: A good body of each grammar.
GOOD: dict[str, Any] = {
    "datafly": {"type": "track", "event": "Seen", "messageId": "$ID$", "userId": "u", "groupId": "g", "previousId": "p"},
    "batch": {"batch": [{"type": "track", "event": "Seen", "messageId": "$ID$"}, {"type": "page"}]},
    "resultfly": CDP_GOOD,
    "items": {"items": [CDP_GOOD, CDP_GOOD]},
    "contract": {"properties": {"a": {"type": "string"}}},
    "tracklayer": {"event_id": "$ID$", "event_name": "purchase", "event_time": 1772029800, "merchant_id": MERCHANT.decode()},
    "webhook": {"id": "$ID$", "type": "t", "event": "e", "subscriptionType": "s", "eventId": 1},
}  # fmt: skip

PACKERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"gzip", lambda data: gzip.compress(data, 1, mtime=0)),
    (b"deflate", lambda data: zlib.compress(data, 1)),
    (b"br", lambda data: bytes(brotli.compress(data, quality=1))),
    (b"zstd", lambda data: zstandard.ZstdCompressor(level=1).compress(data)),
)  # fmt: skip

HEADER_NAMES = (
    "Authorization", "Content-Type", "Content-Encoding", "Origin", "Referer", "User-Agent", "Cookie", "X-Request-Id", "X-Pipeline-Key",
    "X-Signature", "X-Timestamp", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Accept", "Accept-Encoding", "If-None-Match",
    "Range", "Access-Control-Request-Method", "Access-Control-Request-Headers", "Access-Control-Request-Private-Network", "Forwarded",
    "X-HTTP-Method-Override", "Via", "TE", "Date", "Upgrade-Insecure-Requests", "Sec-Fetch-Mode", "Content-Language", "Expect-CT",
)  # fmt: skip
HEADER_VALUES = (
    "", " ", "application/json", "text/plain;charset=UTF-8", "application/json; charset=latin-1", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "gzip", "br", "zstd", "deflate", "identity", "gzip, br", "https://shop.example.com", "null",
    "http://localhost:3000", "https://evil.example", "https://[::1", "Bearer", "Bearer dk_x", "Bearer tl_x", "Bearer cdp_live_x", "Basic !",
    "Basic ZGtfeDo=", "Digest a", "curl/8.5.0", "Googlebot/2.1 (+http://www.google.com/bot.html)", "_dfid=x; _ga=GA", "203.0.113.9", "::1",
    "[2001:db8::1]:1", "unknown", "https", "POST", "bytes=0-", '"x"', "*", "*/*", "application/schema+json", "sha256=00", "1772029800000",
    "9" * 400, "a,b,c", "q=0.5", "é", "\u202e", "\U0001f600", *(text for text in TEXTS if text.isprintable()),
)  # fmt: skip
