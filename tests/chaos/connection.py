"""One keep-alive connection of a caller: a request out, its whole answer back."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.chaos.inputs import Answer


class NoAnswer(Exception):
    """The connection ended before the answer was there."""


class Connection(asyncio.Protocol):
    """One request at a time; every answer of the gateway has a Content-Length."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._closing = False
        self._lost = "closed without an answer"

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._closing

    async def ask(self, data: bytes) -> Answer:
        """Send a request and wait for its answer. Raises NoAnswer."""
        if self._transport is None:
            raise NoAnswer(self._lost)
        self._transport.write(data)
        while True:
            answer = self._answer()
            if answer is not None:
                if answer.headers.get("connection") == "close":
                    self._closing = True
                return answer
            if self._transport is None:
                raise NoAnswer(self._lost)
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def close(self) -> None:
        """End it."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> Answer | None:
        end = self._came.find(b"\r\n\r\n")
        if end < 0:
            return None
        line, *lines = self._came[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        whole = end + 4 + int(headers.get("content-length", "0"))
        if len(self._came) < whole:
            return None
        body = bytes(self._came[end + 4 : whole])
        del self._came[:whole]
        return Answer(int(line[9:12]), headers, body)

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is not None:
            self._lost = f"closed without an answer ({exc})"
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._came += data
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
