"""Reading a body: declared types, encodings, and the limits that hold for what comes out of them."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import brotli
import pytest
import zstandard

from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import body
from daemon.frontend.body import BodyReader, CallerGone
from daemon.frontend.refusal import Refusal


class Headers(dict[str, str]):
    """Request headers as granian has them."""

    def get_all(self, key: str) -> list[str]:
        """All values; here one at most."""
        return [self[key]] if key in self else []


@pytest.mark.parametrize(
    "declared",
    [None, "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "text/plain",
     "text/plain;charset=UTF-8", 'application/json; charset="utf-8"', "application/json; boundary=x"],
)  # fmt: skip
def test_json_in_utf8_is_taken(declared: str | None) -> None:
    """0.1.7: application/json or text/plain."""
    body.check_type(Headers() if declared is None else Headers({"content-type": declared}))


@pytest.mark.parametrize(
    "declared",
    ["", "text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
     "application/json; charset=iso-8859-1", "text/plain; charset=klingon", "application/jsonx", "json"],
)  # fmt: skip
def test_other_types_are_refused(declared: str) -> None:
    """415."""
    with pytest.raises(Refusal) as caught:
        body.check_type(Headers({"content-type": declared}))
    assert caught.value.outcome is Outcome.UNSUPPORTED


@pytest.mark.parametrize(
    "encoding", [None, "", "identity", "gzip", "GZIP", "x-gzip", "deflate", "br", "zstd"]
)
def test_known_encodings_are_taken(encoding: str | None) -> None:
    """0.1.6."""
    body.check_encoding(encoding)


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "lz4", "gzip gzip", "*"])
def test_unknown_encodings_are_refused(encoding: str) -> None:
    """415."""
    with pytest.raises(Refusal) as caught:
        body.check_encoding(encoding)
    assert caught.value.outcome is Outcome.UNSUPPORTED


def test_the_declared_length_decides_before_the_body() -> None:
    """0.1.7: 413 without waiting; absurd numbers too."""
    assert body.check_length(Headers({"content-length": "10"}), 10) == 10
    assert body.check_length(Headers(), 10) is None
    for length in ("11", "9" * 18, "9" * 400):
        with pytest.raises(Refusal) as caught:
            body.check_length(Headers({"content-length": length}), 10)
        assert caught.value.outcome is Outcome.TOO_LARGE


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header, as some senders do it."""
    maker = zlib.compressobj(wbits=-15)
    return maker.compress(data) + maker.flush()


def streamed_zstd(data: bytes) -> bytes:
    """zstd whose frame does not say how large the content is."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstandard.compress),
    ("zstd", streamed_zstd),
]
IDS = [f"{name}-{pack.__name__}" for name, pack in PACKERS]


@pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=IDS)
@pytest.mark.parametrize("size", [1, 10, 65_536, 1_000_000])
def test_what_was_packed_comes_out(encoding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    """Every encoding, small and large."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert body.inflate(pack(data), encoding, size) == data


@pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=IDS)
def test_one_byte_over_the_limit_is_too_large(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """The limit is on the inflated size."""
    with pytest.raises(Refusal) as caught:
        body.inflate(pack(b"x" * 1001), encoding, 1000)
    assert caught.value.outcome is Outcome.TOO_LARGE


@pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=IDS)
def test_a_bomb_is_not_inflated(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """64 MiB of zeros stop at the limit."""
    with pytest.raises(Refusal) as caught:
        body.inflate(pack(bytes(64 * 1024 * 1024)), encoding, 512 * 1024)
    assert caught.value.outcome is Outcome.TOO_LARGE


@pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=IDS)
@pytest.mark.parametrize("broken", ["cut", "garbage", "empty"])
def test_broken_bodies_are_refused(encoding: str, pack: Callable[[bytes], bytes], broken: str) -> None:
    """400, not a 5xx, and no half body."""
    packed = pack(b'{"type":"page","properties":{"a":"0123456789abcdef"}}' * 40)
    data = {"cut": packed[:-6], "garbage": b"this is not compressed at all", "empty": b""}[broken]
    with pytest.raises(InvalidPayload):
        body.inflate(data, encoding, 100_000)


def test_gzip_in_several_members() -> None:
    """RFC 1952: members one after the other are one body."""
    assert body.inflate(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 100) == b"one two"


@pytest.mark.timeout(20)
def test_gzip_in_very_many_members_is_refused_at_once() -> None:
    """Empty ones weigh 20 bytes, and each made a copy of all that stands behind it: half a minute for 5 MiB."""
    data = gzip.compress(b"one ") * body.GZIP_MEMBERS_MAX
    assert body.inflate(data, "gzip", 1000) == b"one " * body.GZIP_MEMBERS_MAX
    with pytest.raises(InvalidPayload, match="members"):
        body.inflate(gzip.compress(b"") * 250_000, "gzip", 1000)


def test_a_zstd_frame_cannot_ask_for_a_huge_window() -> None:
    """A few bytes must not make us allocate gigabytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packed.compress(b"a" * 100_000) + packed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + packed.flush()
    with pytest.raises(InvalidPayload):
        body.inflate(data, "zstd", 200_000)


class Caller:
    """A request's body as granian gives it: in `parts`, then perhaps silence or an error."""

    def __init__(self, *parts: bytes, hangs: bool = False, error: Exception | None = None) -> None:
        self._parts = parts
        self._hangs = hangs
        self._error = error

    def __call__(self) -> asyncio.Future[bytes]:
        """The whole body."""
        return asyncio.ensure_future(self._whole())

    async def _whole(self) -> bytes:
        return b"".join([part async for part in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """In parts."""
        for part in self._parts:
            yield part
        if self._error is not None:
            raise self._error
        if self._hangs:
            await asyncio.Event().wait()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Not used here."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Not used here."""


async def test_a_chunked_body_is_cut_at_the_limit() -> None:
    """Without a Content-Length the parts are counted as they come."""
    reader = BodyReader(30)
    assert await reader.read(Caller(b"ab", b"cd"), None, None, 4) == b"abcd"
    with pytest.raises(Refusal) as caught:
        await reader.read(Caller(b"ab", b"cd", b"e", hangs=True), None, None, 4)
    assert caught.value.outcome is Outcome.TOO_LARGE


async def test_a_slow_body_is_given_up() -> None:
    """408 once the time for a whole body is up; a fast one beside it is not touched."""
    reader = BodyReader(0.01)
    reader.start()
    try:
        assert await reader.read(Caller(b"fast"), 4, None, 10) == b"fast"
        with pytest.raises(Refusal) as caught:
            await reader.read(Caller(b"sl", hangs=True), 4, None, 10)
        assert caught.value.outcome is Outcome.TIMEOUT
        assert ("connection", "close") in caught.value.headers
    finally:
        reader.stop()


async def test_a_caller_who_hangs_up() -> None:
    """Whatever the server raises then, it is the caller's doing."""
    with pytest.raises(CallerGone):
        await BodyReader(30).read(Caller(b"a", error=RuntimeError("transport closed")), 4, None, 10)


async def test_callers_who_stop_at_the_last_byte_fill_no_memory() -> None:
    """What all of them have declared or sent is bounded together, and is free again when they are gone."""
    reader = BodyReader(30, bodies_bytes_max=100)
    hanging = [
        asyncio.create_task(reader.read(Caller(b"a" * 39, hangs=True), length, None, 40))
        for length in (40, None)
    ]
    await asyncio.sleep(0)
    for length in (40, None):
        with pytest.raises(Refusal) as caught:
            await reader.read(Caller(b"a" * 40), length, None, 40)
        assert caught.value.outcome is Outcome.UNAVAILABLE
    assert await reader.read(Caller(b"small"), 5, None, 40) == b"small"
    for one in hanging:
        one.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert await reader.read(Caller(b"a" * 200), 200, None, 200) == b"a" * 200
