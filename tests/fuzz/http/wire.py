"""
A connection whose every byte is ours, and a strict reader of what comes back.

Strict, because a loose one would not see a broken answer: a wrong Content-Length, a header with a line break in it,
bytes behind the last answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import NamedTuple

#: Longest wait for the next bytes of an answer, in seconds. The product's own limits are shorter.
PATIENCE_S = 60.0

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ([\x20-\x7e]*)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t\x20-\x7e\x80-\xff]*)")

_HEAD_BYTES_MAX = 64 * 1024


class Broken(AssertionError):
    """What came back is no HTTP."""


class Cut(Broken):
    """The connection ended within an answer."""


class Answer(NamedTuple):
    """One answer; header names in lower case. `closing`: the server says that it is the connection's last."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def closing(self) -> bool:
        """Whether `Connection: close` is said."""
        return (self.get("connection") or "").lower() == "close"


class Connection:
    """One connection to the front at 127.0.0.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        #: what has come and was not read yet
        self._held = bytearray()
        self._ended = False

    @classmethod
    async def open(cls, port: int) -> Connection:
        """A new one."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Send; that the other side has gone already is seen when its answer is read."""
        self._writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def end(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        """Gone at once, as a process that crashes."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Leave politely."""
        self._writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):
                await self._writer.wait_closed()

    async def anything(self, within_s: float) -> bool:
        """Whether something is there, or the end is, within so long."""
        if not self._held and not self._ended:
            try:
                async with asyncio.timeout(within_s):
                    await self._more()
            except TimeoutError:
                return False
        return True

    async def answer(self, method: str) -> Answer | None:
        """
        The next final answer; None when the connection was closed instead, with nothing left over.

        Raises Broken, and TimeoutError when neither comes within PATIENCE_S.
        """
        while True:
            head = await self._head()
            if head is None:
                return None
            status, headers = _parsed(head)
            if status >= 200:
                break
        found = dict(headers)
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        length = found.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise Broken(f"an answer without a length: {head[:300]!r}")
        return Answer(status, headers, await self._exactly(int(length)))

    async def _head(self) -> bytes | None:
        while (at := self._held.find(b"\r\n\r\n")) < 0:
            if len(self._held) > _HEAD_BYTES_MAX:
                raise Broken(f"a head without an end: {bytes(self._held[:300])!r}")
            async with asyncio.timeout(PATIENCE_S):
                if not await self._more():
                    if self._held:
                        raise Cut(f"closed in the middle of a head: {bytes(self._held[:300])!r}")
                    return None
        return self._take(at + 4)

    async def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            async with asyncio.timeout(PATIENCE_S):
                if not await self._more():
                    raise Cut(f"closed after {len(self._held)} of a body of {size} bytes")
        return self._take(size)

    async def _more(self) -> bool:
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        self._held += data
        self._ended = not data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data


def _parsed(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    line, *lines = head[:-4].split(b"\r\n")
    status = _STATUS.fullmatch(line)
    if status is None:
        raise Broken(f"no status line: {line[:200]!r}")
    headers = []
    for one in lines:
        header = _HEADER.fullmatch(one)
        if header is None:
            raise Broken(f"no header: {one[:200]!r}")
        headers.append((header[1].decode().lower(), header[2].decode("latin-1").strip()))
    return int(status[1]), tuple(headers)
