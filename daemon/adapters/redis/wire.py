"""
A lean Redis client for the hot path: one connection, pipelined, packed and parsed by hiredis in C.

redis-py's client costs about 30 µs of CPU per awaited call (connection checkout, retries, parsing in
Python); this one about 5. It does what the hot path needs and no more: commands and scripts on one
connection, a time limit, an `up` flag that makes everybody skip at once while Redis is away, and
coming back by itself. Pub/sub and the like go through redis-py.

Redis is taken for away when the connection fails, when an answer takes longer than `redis.timeout_s`,
or when the server says that it can't serve now (loading, read-only replica, out of memory).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from daemon.adapters.redis.address import Address, connect, greeting, parse_url
from daemon.adapters.redis.script import ALL, Script
from daemon.config.schema import Redis
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics

log = logging.getLogger(__name__)

_NO_REPLY = object()
#: hiredis's own stub knows only tuples of one.
_pack = cast("Callable[[tuple[str | bytes | float, ...]], bytes]", hiredis.pack_command)
#: Bytes that may wait in the socket's buffer: beyond it Redis does not keep up and calls are refused.
_BUFFER_BYTES_MAX = 8 * 1024 * 1024
#: Calls on the way; more means that nobody bounds the requests in work.
_CALLS_MAX = 16_384
#: An answer that is due may lie in the socket already when our own process was stopped or busy:
#: read once more before calling it an outage.
_SECOND_LOOK_S = 0.005
#: Seconds between pings.
_PING_S = 2.0
#: The least time that opening a connection gets: TLS and a far server take more round trips than a call.
_CONNECT_S_MIN = 1.0
#: First words of errors that say "not now" about the server, and not "wrong" about the call.
_NOT_NOW = frozenset(
    {"LOADING", "READONLY", "MASTERDOWN", "MISCONF", "OOM", "NOAUTH", "NOPERM", "WRONGPASS", "NOREPLICAS", "BUSY",
     "CLUSTERDOWN", "MOVED"}
)  # fmt: skip


class CommandError(Exception):
    """Redis refused a call as wrong; the connection is fine."""


class _Link(asyncio.Protocol):
    """One connection: replies come in the order of the calls."""

    def __init__(self, wire: RedisWire, timeout_s: float) -> None:
        self._wire = wire
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NO_REPLY)
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._looked_twice = False

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._transport is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"the connection was lost{f': {exc}' if exc else ''}")

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            reply = reader.gets()
            while reply is not _NO_REPLY:
                future = self._pending.popleft()[0]
                if not future.done():
                    future.set_result(reply)
                reply = reader.gets()
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(f"an answer that can't be read: {error!r}")

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Write one packed command; the future gets its reply."""
        transport = self._transport
        if transport is None:
            raise StoreUnavailable("Redis: the connection is closed")
        if len(self._pending) >= _CALLS_MAX or transport.get_write_buffer_size() > _BUFFER_BYTES_MAX:
            raise StoreUnavailable("Redis does not keep up: too many calls wait for an answer")
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        due = loop.time() + self._timeout_s
        self._pending.append((future, due))
        transport.write(packed)
        if self._timer is None:
            self._timer = loop.call_at(due, self._sweep)
        return future

    def _sweep(self) -> None:
        # One timer for the oldest call, not one per call.
        self._timer = None
        if not self._pending:
            return
        due = self._pending[0][1]
        if due > self._loop.time():
            self._looked_twice = False
            self._timer = self._loop.call_at(due, self._sweep)
        elif not self._looked_twice:
            self._looked_twice = True
            self._timer = self._loop.call_later(_SECOND_LOOK_S, self._sweep)
        else:
            self.close(f"no answer within {self._timeout_s} s")

    def close(self, reason: str) -> None:
        """End the connection: all calls on the way fail with `reason`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, deque()
        self._wire.link_closed(self, reason)
        for future, _ in pending:
            if not future.done():
                future.set_exception(StoreUnavailable(f"Redis: {reason}"))
                # Whoever gave up waiting does not read it: no "exception was never retrieved".
                future.exception()


class RedisWire:
    """The connection to Redis: `up` says whether a call makes sense now."""

    def __init__(self, settings: Redis, metrics: StoreMetrics) -> None:
        """`settings.url` is that of the embedded server where it was empty. Raises SettingsError for a bad one."""
        self.up = False
        self.settings = settings
        self._address: Address = parse_url(settings.url)
        self._metrics = metrics
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._out_since: float | None = None
        self._last_reason = ""

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Try once to connect, then keep trying in the background; never raises for a server that is away."""
        if self._keeper is None:
            await self._open()
            self._keeper = asyncio.create_task(self._keep(), name="redis-wire")

    async def stop(self) -> None:
        """Close the connection; calls on the way fail."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        link, self._link = self._link, None
        self.up = False
        if link is not None:
            link.close("this process is stopping")

    async def _keep(self) -> None:
        while True:
            try:
                await self._keep_up()
            except Exception as error:
                # This task is the only way back to Redis: it must live.
                log.exception("the connection to Redis failed in an unforeseen way; it is opened anew")
                if self._link is not None:
                    self._link.close(repr(error))
                self._lost.set()

    async def _keep_up(self) -> None:
        """Wait for the connection's end, or ask whether it is good; open another one when it is lost."""
        try:
            async with asyncio.timeout(_PING_S):
                await self._lost.wait()
        except TimeoutError:
            # Whoever calls nothing would not notice a server that hangs, and tell of it.
            with contextlib.suppress(StoreUnavailable, CommandError):
                await self.command("PING")
            return
        await asyncio.sleep(self.settings.retry_s)
        await self._open()

    async def _open(self) -> None:
        """Connect, log in and load the scripts; on failure leave `_lost` set."""
        self._lost.clear()
        seconds = max(_CONNECT_S_MIN, 4 * self.settings.timeout_s)
        link: _Link | None = None
        try:
            async with asyncio.timeout(seconds):
                link = await connect(self._address, lambda: _Link(self, self.settings.timeout_s), seconds)
                await self._greet(link)
        except (OSError, StoreUnavailable, CommandError) as error:  # TimeoutError is an OSError
            reason = str(error) or f"no connection within {seconds:g} s"
            if link is not None:
                link.close(reason)
            self._went_away(reason)
            self._lost.set()
            return
        except BaseException:
            if link is not None:
                link.close("given up")
            raise
        self._link = link
        self.up = True
        self._came_back()

    async def _greet(self, link: _Link) -> None:
        commands = greeting(self._address)
        commands += [("SCRIPT", "LOAD", script.text) for script in ALL]
        # A write, so that a server that only reads (a replica, out of memory or disk) does not count as back.
        commands.append(("SET", f"{self.settings.prefix}probe", "1", "PX", 1000))
        for future in [link.send(_pack(command)) for command in commands]:
            reply = await future
            if isinstance(reply, hiredis.ReplyError):
                raise CommandError(str(reply))
        if link.closed:
            # Lost between the last answer and now: nobody would be told later.
            raise StoreUnavailable("the connection was lost while it was opened")

    # --- calls --------------------------------------------------------------------------------------

    async def command(self, *args: str | bytes | float) -> Any:
        """One command; strings in the reply are bytes. Raises StoreUnavailable or CommandError."""
        link = self._link
        if link is None:
            raise StoreUnavailable(f"Redis is away: {self._last_reason}", self.settings.retry_s)
        reply = await link.send(_pack(args))
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(link, reply)
        return reply

    async def call(self, script: Script, *args: str | bytes | float) -> Any:
        """One script, by its digest; loaded again when the server has forgotten it (SCRIPT FLUSH, restart)."""
        link = self._link
        if link is None:
            raise StoreUnavailable(f"Redis is away: {self._last_reason}", self.settings.retry_s)
        packed = _pack(("EVALSHA", script.sha, 0, *args))
        reply = await link.send(packed)
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith("NOSCRIPT"):
                raise self._refused(link, reply)
            link.send(_pack(("SCRIPT", "LOAD", script.text)))
            reply = await link.send(packed)
            if isinstance(reply, hiredis.ReplyError):
                raise self._refused(link, reply)
        return reply

    def _refused(self, link: _Link, reply: Exception) -> Exception:
        text = str(reply)
        if text.split(" ", 1)[0] in _NOT_NOW:
            # Asking again at once gives the same answer: the pause of a reconnect is the breaker.
            link.close(text)
            return StoreUnavailable(f"Redis can't serve now: {text}", self.settings.retry_s)
        return CommandError(text)

    # --- outages ------------------------------------------------------------------------------------

    def link_closed(self, link: _Link, reason: str) -> None:
        """For the link only: it is gone."""
        if link is self._link:
            self._link = None
            self.up = False
            self._went_away(reason)
            self._lost.set()

    def _went_away(self, reason: str) -> None:
        self._last_reason = reason
        self._metrics.up.at("redis").n = 0
        if self._out_since is None:
            self._out_since = asyncio.get_running_loop().time()
            self._metrics.outages.at("redis").n += 1
            log.warning("Redis at %s is away: %s; trying again every %g s", self._address.shown, reason,
                        self.settings.retry_s)  # fmt: skip

    def _came_back(self) -> None:
        self._metrics.up.at("redis").n = 1
        if self._out_since is not None:
            seconds = asyncio.get_running_loop().time() - self._out_since
            self._out_since = None
            log.warning("Redis at %s is back after %.1f s", self._address.shown, seconds)
