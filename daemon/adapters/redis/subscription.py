"""
One channel of Redis, listened to for as long as the process lives.

A subscription that is silently dead looks like one without news. So it is pinged: since a connection
keeps its order, the answer to a ping that was sent at `t` says that everything published before `t`
has arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import cast

import hiredis

from daemon.adapters.redis.address import Address, connect, greeting, parse_url
from daemon.config.schema import Redis

log = logging.getLogger(__name__)

_NO_REPLY = object()
#: Seconds between pings.
_PING_S = 0.4
#: Seconds without an answer after which the connection is made anew.
_ANSWER_S = 1.0
_CONNECT_S = 2.0


class _Listener(asyncio.Protocol):
    """One connection in subscribed state."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NO_REPLY)
        self._on_message = on_message
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        #: done with the reason when the connection is gone
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.subscribed: asyncio.Future[str] = self._loop.create_future()
        self._pong: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(str(exc or "closed by the server"))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NO_REPLY:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self.close(str(error))

    def close(self, reason: str) -> None:
        """End the connection."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self.transport is not None:
            self.transport.abort()

    async def ping(self) -> bool:
        """Ask for a sign of life; whether it came in time."""
        assert self.transport is not None
        self._pong = self._loop.create_future()
        self.transport.write(hiredis.pack_command(("PING",)))
        await asyncio.wait({self._pong, self.lost}, timeout=_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        return self._pong.done()

    def _take(self, reply: object) -> None:
        if isinstance(reply, Exception):
            self.close(str(reply))
        elif isinstance(reply, list) and len(reply) >= 2:
            match reply[0]:
                case b"message":
                    self._on_message(reply[2])
                case b"pong":
                    if self._pong is not None and not self._pong.done():
                        self._pong.set_result("")
                case b"subscribe":
                    if not self.subscribed.done():
                        self.subscribed.set_result("")


class Subscription:
    """`on_message` gets each message, `on_up` is called whenever the subscription was (re)made."""

    def __init__(
        self, settings: Redis, channel: str, on_message: Callable[[bytes], None], on_up: Callable[[], None]
    ) -> None:
        self.up = False
        #: everything published before this (monotonic) has arrived
        self.verified_at = 0.0
        self._settings = settings
        self._address: Address = parse_url(settings.url)
        self._channel = channel
        self._on_message = on_message
        self._on_up = on_up
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"subscription-{self._channel}")

    async def stop(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, ConnectionError) as error:
                log.debug("subscription to %s: %s", self._channel, error)
            except Exception:
                log.exception("the subscription to %s failed in an unforeseen way", self._channel)
            finally:
                self.up = False
            await asyncio.sleep(self._settings.retry_s)

    async def _listen(self) -> None:
        """One connection, from its opening to its end. Raises OSError."""
        listener: _Listener | None = None
        try:
            async with asyncio.timeout(_CONNECT_S):
                listener = await connect(self._address, lambda: _Listener(self._on_message), _CONNECT_S)
                assert listener.transport is not None
                for command in (*greeting(self._address), ("SUBSCRIBE", self._channel)):
                    listener.transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub
                await asyncio.wait({listener.subscribed, listener.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not listener.lost.done():
                self.up = True
                self.verified_at = monotonic()
                self._on_up()
                await self._ping(listener)
            raise ConnectionError(listener.lost.result())
        finally:
            if listener is not None:
                listener.close("given up")

    async def _ping(self, listener: _Listener) -> None:
        """Ping until the connection is lost or an answer stays out."""
        while not listener.lost.done():
            began = monotonic()
            if await listener.ping():
                self.verified_at = began
            else:
                listener.close(f"no answer within {_ANSWER_S} s")
            await asyncio.wait({listener.lost}, timeout=_PING_S)
