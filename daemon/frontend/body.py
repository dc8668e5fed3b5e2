"""
Reading a request's body within its limits: type, encoding, size and time.

The limit is on the inflated size, and inflating stops at it. A Content-Length over the limit is
answered without waiting for the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import deque
from typing import Any, cast

import brotli
import zstandard

from daemon.errors import HeadgateError
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend.refusal import Refusal, unavailable
from daemon.frontend.rsgi import RequestHeaders, Transport

#: The content types that hold JSON: what sendBeacon sends is text/plain (contracts 0.1.7).
JSON_TYPES = ("application/json", "text/plain")

_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")


#: What some SDKs declare for a body of JSON, gzipped or not (contracts 0.1.7).
FORM_TYPE = "application/x-www-form-urlencoded"


def check_type(headers: RequestHeaders, taken: tuple[str, ...] = JSON_TYPES) -> None:
    """
    Refuse a body that is not declared as JSON in UTF-8 (415); `taken` are the media types that hold JSON.

    A request without a Content-Type declares nothing else (a Blob without a type, sent by sendBeacon)
    and is read as JSON.
    """
    declared = headers.get("content-type")
    if declared is None or declared == "application/json":
        return
    media, *parameters = declared.split(";")
    if media.strip().lower() not in taken:
        raise Refusal(
            Outcome.UNSUPPORTED,
            f"content type {media.strip()[:80]!r} is not taken; send application/json (or text/plain with JSON in it)",
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            raise Refusal(Outcome.UNSUPPORTED, f"charset {value.strip()[:40]!r} is not taken; send UTF-8")


def check_length(headers: RequestHeaders, bytes_max: int) -> int | None:
    """The declared length in bytes, None where the body comes in chunks. Refuses one over the limit (413)."""
    declared = headers.get("content-length")
    if declared is None:
        return None
    # the server has checked that it is a number; more digits than that are over any limit
    if len(declared) > 18 or int(declared) > bytes_max:
        raise too_large(bytes_max)
    return int(declared)


def too_large(bytes_max: int) -> Refusal:
    """413."""
    return Refusal(Outcome.TOO_LARGE, f"the body is over {bytes_max} bytes (inflated); send less")


#: How much of a refused body is read to its end, and for how long.
DISCARD_BYTES_MAX = 16 * 1024 * 1024
DISCARD_S = 5.0


#: Seconds between looks at bodies whose time is up: they get up to twice that more.
SWEEP_S = 0.5

#: What brings a body, and can be cancelled.
Reading = asyncio.Future[Any]
#: Bodies that are being read, by what cancels the reading, and their bytes so far.
Generation = dict[Reading, int]

#: Bodies that are being read, in bytes, in all: thousands of callers who stop at the last byte fill no more memory.
BODIES_BYTES_MAX = 512 * 1024 * 1024


class BodyReader:
    """
    Reads bodies, each within `timeout_s` seconds in all: a trickle does not extend it.

    All deadlines are equally far away, so bodies that begin between two sweeps stand together in one generation,
    and a sweep gives up what is left of the generations whose time is up. A timer for each request would cost
    more than reading the body does.
    """

    def __init__(self, timeout_s: float, bodies_bytes_max: int = BODIES_BYTES_MAX) -> None:
        """Beyond `bodies_bytes_max` bytes of bodies that are being read, declared or here, more are refused (503)."""
        self._timeout_s = timeout_s
        self._bytes_max = bodies_bytes_max
        self._bytes = 0
        #: what is being read and began since the last sweep: its future (in chunks: its task) → its bytes so far
        self._young: Generation = {}
        #: the same of earlier sweeps, each with its deadline (the loop's clock), oldest first
        self._older: deque[tuple[float, Generation]] = deque()
        #: what was given up as its time was over, and has not noticed yet
        self._late: set[asyncio.Future[Any]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._swept)

    def stop(self) -> None:
        """Sweep no more, and give up what is still being read: the process ends."""
        if self._sweep is not None:
            self._sweep.cancel()
        for generation in (self._young, *(older for _, older in self._older)):
            for reading in list(generation):
                reading.cancel()

    async def read(
        self, transport: Transport, length: int | None, encoding: str | None, bytes_max: int
    ) -> bytes:
        """
        The body, inflated.

        `length` is the declared one (None: chunked). Refuses (Refusal, InvalidPayload) what is too large,
        too slow, badly encoded or cut short, or too much together with all others.
        """
        # alone, any body may come that its own limit lets in
        if length and self._bytes and self._bytes + length > self._bytes_max:
            raise _too_much()
        # What the sweep gives up when time is over: the server's future of a whole body, or the task that gathers.
        generation = self._young
        reading = transport() if length is not None else cast("asyncio.Future[Any]", asyncio.current_task())
        generation[reading] = length or 0
        self._bytes += length or 0
        try:
            if length is not None:
                body: bytes = await reading
            else:
                body = await self._gather(transport, bytes_max, generation, reading)
        except asyncio.CancelledError:
            if reading not in self._late:
                raise
            raise self._too_slow(reading) from None
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001  granian's kinds are known to `server` alone
            # granian raises its own kinds when the caller is gone; there is nobody left to answer
            raise CallerGone(str(error)) from None
        finally:
            self._bytes -= generation.pop(reading)
        return inflated(body, encoding, bytes_max)

    def _too_slow(self, reading: Reading) -> Refusal:
        self._late.discard(reading)
        return Refusal(
            Outcome.TIMEOUT,
            f"the body did not arrive within {self._timeout_s:g} seconds",
            [("connection", "close")],
        )

    async def _gather(
        self, transport: Transport, bytes_max: int, generation: Generation, reading: asyncio.Future[Any]
    ) -> bytes:
        parts: list[bytes] = []
        async for part in transport:
            size = len(part)
            if self._bytes > generation[reading] and self._bytes + size > self._bytes_max:
                raise _too_much()
            self._bytes += size
            generation[reading] += size
            if generation[reading] > bytes_max:
                raise too_large(bytes_max)
            parts.append(part)
        return b"".join(parts)

    async def discard(self, transport: Transport) -> None:
        """
        Read what a refused caller still sends, within DISCARD_BYTES_MAX and DISCARD_S, and forget it.

        Closing at once would make the kernel reset the connection, and the caller would lose the answer.
        """
        left = DISCARD_BYTES_MAX
        with contextlib.suppress(Exception):  # TimeoutError, or granian's kinds when the caller has hung up
            async with asyncio.timeout(DISCARD_S):
                async for part in transport:
                    left -= len(part)
                    if left < 0:
                        return

    def _swept(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._older and self._older[0][0] <= now:
            for reading in self._older.popleft()[1]:
                # What is done by now is not late: it only has not had its turn.
                if reading.cancel():
                    self._late.add(reading)
        if self._young:
            self._older.append((now + self._timeout_s, self._young))
            self._young = {}
        self._sweep = loop.call_later(SWEEP_S, self._swept)


class CallerGone(HeadgateError):
    """The caller hung up while sending; no answer will reach anybody."""


def _too_much() -> Refusal:
    return unavailable("too many large bodies are being sent at once; try again", 1.0)


ENCODINGS = ("gzip", "x-gzip", "deflate", "br", "zstd")


def check_encoding(encoding: str | None) -> None:
    """Refuse an encoding that is not read (415)."""
    if encoding and encoding.strip().lower() not in (*ENCODINGS, "identity"):
        raise Refusal(
            Outcome.UNSUPPORTED,
            f"content encoding {encoding[:40]!r} is not taken; send gzip, deflate, br, zstd or none",
        )


def inflated(body: bytes, encoding: str | None, bytes_max: int) -> bytes:
    """`body` without its Content-Encoding, if it has one. Raises as `inflate`."""
    if encoding is None or encoding in ("", "identity"):
        return body
    return inflate(body, encoding.strip().lower(), bytes_max)


def inflate(data: bytes, encoding: str, bytes_max: int) -> bytes:
    """`data` inflated, at most `bytes_max` bytes. Raises Refusal (413) or InvalidPayload (broken or cut short)."""
    try:
        if encoding in ("gzip", "x-gzip"):
            return _zlib(data, 31, bytes_max)
        if encoding == "deflate":
            # RFC 9110 means zlib's format; some senders leave its header out
            raw = len(data) < 2 or data[0] & 0x0F != 8 or (data[0] << 8 | data[1]) % 31 != 0
            return _zlib(data, -15 if raw else 15, bytes_max)
        if encoding == "br":
            return _brotli(data, bytes_max)
        return _zstd(data, bytes_max)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidPayload(f"the body is not {encoding}, or is cut short: {str(error)[:120]}") from None


#: Members of one gzip body. Each copies what is behind it, so empty ones by the thousand would take minutes.
GZIP_MEMBERS_MAX = 64


def _zlib(data: bytes, window: int, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max + 1
    for _ in range(GZIP_MEMBERS_MAX):
        inflater = zlib.decompressobj(window)
        part = inflater.decompress(data, room)
        parts.append(part)
        room -= len(part)
        if room <= 0:
            raise too_large(bytes_max)
        if not inflater.eof:
            raise EOFError("unexpected end")
        data = inflater.unused_data
        if window != 31 or not data.startswith(b"\x1f\x8b"):
            return b"".join(parts)
    raise EOFError(f"more than {GZIP_MEMBERS_MAX} gzip members")


def _brotli(data: bytes, bytes_max: int) -> bytes:
    inflater = brotli.Decompressor()
    parts = [inflater.process(data, output_buffer_limit=bytes_max + 1)]
    size = len(parts[0])
    while not inflater.is_finished():
        if size > bytes_max:
            raise too_large(bytes_max)
        if inflater.can_accept_more_data():
            raise EOFError("unexpected end")
        parts.append(inflater.process(b"", output_buffer_limit=bytes_max + 1 - size))
        size += len(parts[-1])
    if size > bytes_max:
        raise too_large(bytes_max)
    return b"".join(parts)


def _zstd(data: bytes, bytes_max: int) -> bytes:
    # the window is bounded too: a frame may ask for gigabytes of memory before it gives a byte
    reader = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).stream_reader(data)
    body = reader.read(bytes_max + 1)
    if len(body) > bytes_max:
        raise too_large(bytes_max)
    if not body or not _zstd_whole(data):
        raise EOFError("unexpected end")
    return body


def _zstd_whole(data: bytes) -> bool:
    """Whether the frame is finished: the stream reader itself does not say."""
    inflater = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).decompressobj()
    inflater.decompress(data)
    return bool(inflater.eof)
