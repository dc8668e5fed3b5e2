"""
What is no HTTP, or nearly: requests whose framing lies, and connections that end in the middle.

Each gets a connection of its own. How many answers come is the server's to decide; each of them is judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from tests.fuzz import corpus
from tests.fuzz.http.forge import Forge
from tests.fuzz.http.keys import Keys
from tests.fuzz.inputs.words import BYTES, SIZES

CRLF = b"\r\n"

#: A request inside of what one of two readings of a message takes for its body. It must never be answered: then whoever
#: stands in front of the server can be made to pass it on unseen.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: t.example.com\r\n\r\n"


class Ending(Enum):
    """What the caller does once everything is sent."""

    WAIT = "sends no more and reads"
    RESET = "resets the connection"
    HOLD = "keeps the connection open, and the rest to itself"


class Broken(NamedTuple):
    """Bytes for a connection, in the pieces in which they are sent. `smuggles`: SMUGGLED is among them."""

    pieces: tuple[bytes, ...]
    ending: Ending
    smuggles: bool = False

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


class Mangler:
    """Breaks what the forge makes, and the seeds."""

    def __init__(self, rng: random.Random, forge: Forge, keys: Keys) -> None:
        self._rng = rng
        self._forge = forge
        self._seeds = [keys.filled(data) for data in corpus.seeds("http").values()]

    def broken(self) -> Broken:
        """The next connection."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.2:
            return self._smuggling()
        data = rng.choice(self._seeds) if kind < 0.45 else self._forge.shot().data
        if rng.random() < 0.2:
            second = self._forge.shot()
            # whether an answer is one to HEAD, and so has no body, could not be told
            data += second.data if second.method != "HEAD" else b""
        for _ in range(1 + (rng.random() < 0.3)):
            data = rng.choice(_BREAKS)(self, data)
        ending = rng.choices((Ending.WAIT, Ending.RESET, Ending.HOLD), (80, 15, 5))[0]
        if ending is Ending.HOLD:
            data = data[: rng.randrange(len(data) + 1)]
        return Broken(self._pieces(data), ending)

    def _pieces(self, data: bytes) -> tuple[bytes, ...]:
        """Mostly one; sometimes cut at any places."""
        rng = self._rng
        if rng.random() < 0.8 or len(data) < 4:
            return (data,)
        cuts = sorted(rng.sample(range(1, len(data)), min(len(data) - 1, rng.choice((1, 2, 5)))))
        return tuple(data[start:end] for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True))

    def _smuggling(self) -> Broken:
        """Length and chunks at once, in every spelling of them that we know."""
        rng = self._rng
        shot = self._forge.shot()
        while shot.method != "POST":
            shot = self._forge.shot()
        head = shot.data.partition(CRLF * 2)[0]
        lines = [
            line
            for line in head.split(CRLF)
            if not line.lower().startswith((b"content-length", b"transfer-encoding"))
        ]
        # by its length the body is all of it; by its chunks it ends at once, and SMUGGLED is a second request
        body = b"0\r\n\r\n" + SMUGGLED
        framing = [b"Content-Length: %d" % len(body), rng.choice(_CHUNKED)]
        rng.shuffle(framing)
        if rng.random() < 0.5:
            at = rng.randrange(1, len(lines) + 1)
            lines[at:at] = framing
        else:
            lines[1:1] = framing[:1]
            lines += framing[1:]
        return Broken(self._pieces(CRLF.join(lines) + CRLF * 2 + body), Ending.WAIT, smuggles=True)

    # --- how bytes are broken

    def _cut(self, data: bytes) -> bytes:
        return data[: self._rng.randrange(len(data) + 1)]

    def _flip(self, data: bytes) -> bytes:
        rng = self._rng
        at = rng.randrange(min(len(data), 400) or 1)
        return data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        rng = self._rng
        at = rng.randrange(min(len(data), 400) or 1)
        return (
            data[:at]
            + rng.choice((*BYTES, b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\0"))
            + data[at:]
        )

    def _line(self, data: bytes) -> bytes:
        """A line that belongs there as little as can be, in front of a header."""
        rng = self._rng
        lines = data.split(CRLF)
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_LINES))
        return CRLF.join(lines)

    def _first_line(self, data: bytes) -> bytes:
        return self._rng.choice(_FIRST_LINES) + data[data.find(CRLF) if CRLF in data else 0 :]

    def _line_ends(self, data: bytes) -> bytes:
        return data.replace(
            CRLF, self._rng.choice((b"\n", b"\r", b"\n\r", b"\r\r\n", b"\0\n")), self._rng.choice((1, -1))
        )

    def _long(self, data: bytes) -> bytes:
        """A line, a header or a name that is too long, or too many of them."""
        rng = self._rng
        flood = rng.choice((b"a", b":", b" ", b"\xff", b"X: y\r\n", b"\r\n ", b",")) * rng.choice(
            (*SIZES, 70_000)
        )
        at = rng.choice((data.find(b" ") + 1, data.find(CRLF) + 2, data.find(b": ") + 2, 0))
        return data[:at] + flood + data[at:]

    def _length(self, data: bytes) -> bytes:
        rng = self._rng
        length = rng.choice(
            (
                b"0",
                b"1",
                b"-1",
                b"+5",
                b" 5 ",
                b"5, 5",
                b"5,6",
                b"0x5",
                b"5.0",
                b"1e1",
                b"9" * 18,
                b"9" * 400,
                b"18446744073709551616",
                b"",
                b"\xd9\xa3",
            )
        )
        return data.replace(CRLF, CRLF + b"Content-Length: " + length + CRLF, 1)

    def _chunks(self, data: bytes) -> bytes:
        head, _, body = data.partition(CRLF * 2)
        lines = [
            line
            for line in head.split(CRLF)
            if not line.lower().startswith((b"content-length", b"transfer-encoding"))
        ]
        chunk = self._rng.choice(_CHUNKS).replace(b"BODY", b"%x\r\n%b\r\n" % (len(body), body))
        return CRLF.join([*lines, b"Transfer-Encoding: chunked"]) + CRLF * 2 + chunk


_BREAKS: tuple[Callable[[Mangler, bytes], bytes], ...] = (
    Mangler._cut, Mangler._cut, Mangler._flip, Mangler._flip, Mangler._insert, Mangler._line, Mangler._line, Mangler._first_line,
    Mangler._line_ends, Mangler._long, Mangler._length, Mangler._chunks, Mangler._chunks,
)  # fmt: skip

_CHUNKED = (
    b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked ", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:\r\n chunked",
    b" Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: \xffchunked",
)  # fmt: skip

#: What stands for a body in chunks; BODY becomes one good chunk.
_CHUNKS = (
    b"BODY0\r\n\r\n", b"BODY", b"BODY0\r\n", b"BODYzz\r\n\r\n", b"BODY-1\r\n\r\n", b"BODY0x1\r\n\r\n", b"BODYffffffffffffffff\r\nx", b"BODYfffffffffffffffff\r\nx",
    b"BODY1\r\nab\r\n0\r\n\r\n", b"BODY0\r\nX: y\r\n\r\n", b"BODY0\r\nContent-Length: 5\r\n\r\n", b"BODY0\r\n\0\r\n\r\n", b"BODY0;" + b"x" * 20_000 + b"\r\n\r\n",
    b"BODY" + b"0" * 5000 + b"\r\n\r\n", b"BODY0\n\n", b"BODY0\r\n" + b"X: y\r\n" * 3000 + b"\r\n", b"BODY5\r\nabc", b" 1\r\na\r\n0\r\n\r\n", b"\r\n\r\n", b"",
)  # fmt: skip

_LINES = (
    b"", b" folded", b"\tfolded", b"no colon", b": no name", b"bad name: x", b"bad\x00name: x", b"X: \x00", b"X: a\x01b", b"X: \xff\xfe",
    b"X\xff: y", b"Host: other.example.com", b"Host:", b"Expect: 100-continue", b"Expect: x", b"Connection: close", b"Connection: keep-alive, close",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", b"Trailer: X", b"TE: trailers", b"Proxy-Connection: x",
    b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\nContent-Length: 4", b"Content-Encoding: gzip\r\nContent-Encoding: br",
    b"Authorization: Bearer \xff", b"Origin: \xff", b"Content-Type: \xff", b"Cookie: _dfid=\xff; _ttp=\xfe", b"X-Request-Id: \xff",
)  # fmt: skip

_FIRST_LINES = (
    b"GET / HTTP/0.9", b"GET /", b"GET / HTTP/1.0", b"POST /v1/t HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET / HTTP/11", b"GET / HTTQ/1.1",
    b"GET  / HTTP/1.1", b" GET / HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1", b"GET http://x/v1/t HTTP/1.1", b"GET http://[::1 HTTP/1.1",
    b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"CONNECT / HTTP/1.1", b"PRI * HTTP/2.0", b"G\0T / HTTP/1.1", b"\r\n\r\nGET / HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"A" * 300 + b" / HTTP/1.1", b"GET ?x HTTP/1.1", b"GET #x HTTP/1.1", b"GET //x@y:z/ HTTP/1.1", b"",
)  # fmt: skip
