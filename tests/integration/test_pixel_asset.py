"""TrackLayer's pixel as it is served: its size, headers, encodings and revalidation."""

from __future__ import annotations

import gzip

import brotli
import pytest

from daemon.frontend.assets import PIXEL
from tests.support.front import Front

PATH = "/v1/pixel.js"


async def test_a_page_of_any_site_may_load_it(front: Front) -> None:
    """The documented headers, word for word; small as it is, before any compression."""
    reply = await front.client.get(PATH, headers={"accept-encoding": "identity"})
    assert reply.status_code == 200
    assert reply.content == PIXEL.read_bytes()
    assert int(reply.headers["content-length"]) == len(reply.content) <= 3379
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=300, s-maxage=3600"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["vary"] == "Accept-Encoding"
    assert reply.headers["etag"].startswith('"')
    for name in ("content-encoding", "set-cookie", "access-control-allow-credentials"):
        assert name not in reply.headers
    assert front.kit.accounts.metrics.other_requests.at("asset").n == 1


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_it_is_packed_as_the_caller_likes(front: Front, encoding: str) -> None:
    """The same file, smaller, with an ETag of its own."""
    async with front.client.stream("GET", PATH, headers={"accept-encoding": encoding}) as reply:
        raw = b"".join([part async for part in reply.aiter_raw()])
    assert reply.headers["content-encoding"] == encoding
    assert reply.headers["cache-control"] == "public, max-age=300, s-maxage=3600"
    unpacked = brotli.decompress(raw) if encoding == "br" else gzip.decompress(raw)
    assert unpacked == PIXEL.read_bytes()
    assert int(reply.headers["content-length"]) == len(raw) < 2000


async def test_a_copy_that_is_still_good_is_not_sent_again(front: Front) -> None:
    """304 for a strong ETag, however it is written, with what a cache has to renew."""
    first = await front.client.get(PATH)
    assert first.headers["etag"][0] == '"'
    for named in (first.headers["etag"], f"W/{first.headers['etag']}", "*"):
        reply = await front.client.get(PATH, headers={"if-none-match": named})
        assert (reply.status_code, reply.content) == (304, b""), named
        assert reply.headers["etag"] == first.headers["etag"]
        assert reply.headers["cache-control"] == first.headers["cache-control"]
    assert (await front.client.get(PATH, headers={"if-none-match": '"old"'})).status_code == 200
    # another SDK's tag is not this one's
    other = (await front.client.get("/datafly.js")).headers["etag"]
    assert (await front.client.get(PATH, headers={"if-none-match": other})).status_code == 200


async def test_methods(front: Front) -> None:
    """HEAD is GET without the body, a preflight is for everybody, the rest is refused in TrackLayer's words."""
    get, head = await front.client.get(PATH), await front.client.head(PATH)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-encoding", "content-type", "cache-control"):
        assert head.headers[name] == get.headers[name]
    preflight = await front.client.options(
        PATH, headers={"origin": "https://shop.example.com", "access-control-request-method": "GET"}
    )
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in preflight.headers
    assert front.kit.accounts.metrics.other_requests.at("preflight").n == 1
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = await front.client.request(method, PATH)
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (reply.json()["success"], reply.json()["error"]) == (False, "method_not_allowed")


async def test_the_path_is_exact(front: Front) -> None:
    """Beside Datafly's pixels, and none of them."""
    assert (await front.client.get(f"{PATH}?v=2")).status_code == 200
    for path in (
        "/v1/pixel.js/",
        "/v1/Pixel.js",
        "/v1/pixel",
        "/v1/pixel.src.js",
        "/v1/pixel/pixel.js",
        "/pixel.js",
    ):
        assert (await front.client.get(path)).status_code == 404, path
    assert (await front.client.get("/v1/pixel/track")).headers["content-type"] == "image/gif"


async def test_a_draining_process_asks_to_leave(front: Front) -> None:
    """As every other answer does."""
    front.kit.draining = True
    assert (await front.client.get(PATH)).headers["connection"] == "close"
    assert (await front.client.options(PATH)).headers["connection"] == "close"
