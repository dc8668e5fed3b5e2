"""The browser SDK as it is served: encodings, revalidation, headers, and its size."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import brotli
import pytest

from daemon.frontend.assets import SDK, chosen
from tests.support.front import Front

PATH = "/datafly.js"
ROOT = Path(__file__).resolve().parents[2]


def test_the_sdk_is_small() -> None:
    """What every page loads: under 8 KB, packed as most servers pack."""
    assert len(gzip.compress(SDK.read_bytes(), 9)) < 8000


def test_the_sdk_is_what_its_docs_say() -> None:
    """The stub of docs/sdk.md is the one that the browser's tests use; every option and method is in there."""
    text = (ROOT / "docs/sdk.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests/browser/test_page.py").read_text(encoding="utf-8")
    [stub] = re.findall(r'STUB = """(.*?)"""', tests, re.DOTALL)
    assert stub in text
    source = SDK.read_text(encoding="utf-8")
    for option in re.findall(r"option\('([\w-]+)'\)", source):
        assert f"`data-{option}`" in text
    for method in re.findall(r"^    (\w+)\([\w, ]*\) \{$", source.split("const methods", 1)[1], re.MULTILINE):
        assert f"`{method}(" in text


async def test_a_page_of_any_site_may_load_it(front: Front) -> None:
    """As a script, with crossorigin, under COEP; kept for minutes by browsers and for an hour by shared caches."""
    reply = await front.client.get(PATH, headers={"accept-encoding": "identity"})
    assert reply.status_code == 200
    assert reply.content == SDK.read_bytes()
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in reply.headers
    assert "set-cookie" not in reply.headers
    control = set(reply.headers["cache-control"].split(", "))
    assert {"public", "max-age=300", "s-maxage=3600"} <= control
    assert front.kit.accounts.metrics.other_requests.at("asset").n == 1


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_it_is_packed_as_the_caller_likes(front: Front, encoding: str) -> None:
    """The same file, smaller, with an ETag of its own."""
    plain = await front.client.get(PATH, headers={"accept-encoding": "identity"})
    async with front.client.stream("GET", PATH, headers={"accept-encoding": encoding}) as reply:
        raw = b"".join([part async for part in reply.aiter_raw()])
    assert reply.headers["content-encoding"] == encoding
    assert reply.headers["etag"] != plain.headers["etag"]
    unpacked = brotli.decompress(raw) if encoding == "br" else gzip.decompress(raw)
    assert unpacked == SDK.read_bytes()
    assert int(reply.headers["content-length"]) == len(raw) < 8000


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br, zstd", "br"),
        ("GZIP", "gzip"),
        ("gzip, br;q=0.5", "gzip"),
        ("br;q=0, gzip;q=0.001", "gzip"),
        ("br;q=0, gzip;q=0", "identity"),
        ("*", "br"),
        ("*;q=0.5, br;q=0", "gzip"),
        ("identity, deflate", "identity"),
        ("br;q=high, gzip", "gzip"),
        (",;q=1,, br ; q=1.0", "br"),
    ],
)
def test_which_encoding(accept: str | None, encoding: str) -> None:
    """RFC 9110 12.5.3."""
    assert chosen(accept) == encoding


async def test_a_copy_that_is_still_good_is_not_sent_again(front: Front) -> None:
    """304 with no body, for the ETag of the encoding that would be sent, however it is written."""
    asked = {"accept-encoding": "br"}
    etag = (await front.client.get(PATH, headers=asked)).headers["etag"]
    for named in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        reply = await front.client.get(PATH, headers={**asked, "if-none-match": named})
        assert (reply.status_code, reply.content) == (304, b""), named
        assert reply.headers["etag"] == etag
        assert reply.headers["vary"] == "Accept-Encoding"
        assert "s-maxage" in reply.headers["cache-control"]
        assert "content-encoding" not in reply.headers
    for named in ('"x"', etag.strip('"'), ""):
        assert (await front.client.get(PATH, headers={**asked, "if-none-match": named})).status_code == 200
    other = await front.client.get(PATH, headers={"accept-encoding": "gzip", "if-none-match": etag})
    assert other.status_code == 200


async def test_head_and_other_methods(front: Front) -> None:
    """HEAD is GET without the body; nothing else is taken."""
    asked = {"accept-encoding": "gzip"}
    get = await front.client.get(PATH, headers=asked)
    head = await front.client.head(PATH, headers=asked)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-encoding", "content-type"):
        assert head.headers[name] == get.headers[name]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply = await front.client.request(method, PATH)
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
        assert reply.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_the_path_is_exact(front: Front) -> None:
    """What is near it is not there; a query does not matter."""
    assert (await front.client.get(f"{PATH}?v=2")).status_code == 200
    for path in ("/datafly.js/", "/Datafly.js", "/datafly", "/sdk/datafly.js"):
        assert (await front.client.get(path)).status_code == 404


async def test_a_draining_process_asks_to_leave(front: Front) -> None:
    """As every other answer does."""
    front.kit.draining = True
    assert (await front.client.get(PATH)).headers["connection"] == "close"
