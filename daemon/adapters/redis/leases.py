"""
Rate limits over all frontends, without a trip to Redis per request.

Each frontend holds a slice of a limit's tokens and renews the slices of all limits in one call every
`limits.lease_s`; a request for which nothing is held waits for the next call, which goes out at once
unless one is on the way. While Redis is away every frontend limits by its own share.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from daemon.adapters.redis.lease_book import LEASE_LIFE_S, LeaseBook, Slot
from daemon.adapters.redis.script import LEASE
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import RateLimiter

log = logging.getLogger(__name__)

#: Least time between calls that somebody waits for, seconds. An idle frontend asks at once; a busy one
#: gathers, so that a thousand slow keys cost 500 calls per second and not one per request.
_ASK_GAP_S = 0.002
_LIFE_US = int(LEASE_LIFE_S * 1e6)


class LeasedRateLimiter:
    """`ports.RateLimiter` on one Redis; `frontends` is how many processes share the limits."""

    def __init__(
        self,
        wire: RedisWire,
        settings: Settings,
        metrics: StoreMetrics,
        frontends: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._wire = wire
        self._metrics = metrics
        self._clock = clock
        self._renew_s = settings.limits.lease_s
        self._prefix = f"{settings.redis.prefix}l:"
        self._book = LeaseBook(frontends, settings.limits.lease_s, clock())
        self._name = secrets.token_hex(6)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._local = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._call: asyncio.Task[None] | None = None
        self._called_at = 0.0
        self._stopping = False
        self._complained = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[int]).decode
        self._local_count = metrics.local_limits.at()
        metrics.leases.read = self._held

    async def start(self) -> None:
        """Nothing to open: the wire is started by whoever made it."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Give back what is held, if Redis is there."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._call is not None:
            await asyncio.gather(self._call, return_exceptions=True)
        self._book.return_all()
        while self._wire.up and self._book.busy:
            await self._renew()

    def take(self, name: str, rate_per_s: float, burst: int) -> float | None:
        # The case of nearly every request, first and without a call: a token is there and in time.
        book = self._book
        slot = book.young.get(name)
        if (
            slot is not None
            and slot.held
            and self._wire.up
            and (now := self._clock()) < slot.deadline
            and slot.rate == rate_per_s
            and slot.burst == burst
        ):
            slot.held -= 1
            slot.used += 1
            slot.used_at = now
            return 0.0
        if self._stopping or self._goes_local():
            return self._take_local(name, rate_per_s, burst)
        return book.take(name, rate_per_s, burst, self._clock())

    async def acquire(self, name: str, rate_per_s: float, burst: int) -> float:
        if self._stopping or self._goes_local():
            return self._take_local(name, rate_per_s, burst)
        book = self._book
        slot = book.slot(name, rate_per_s, burst, now := self._clock())
        if slot.held or now < slot.refused_until:
            answer = book.take(name, rate_per_s, burst, now)
            if answer is not None:
                return answer
        loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[float] = loop.create_future()
        book.wait(slot, future)
        if self._call is None:
            self._wake(max(loop.time(), self._called_at + _ASK_GAP_S))
        return await future

    # --- while Redis is away ------------------------------------------------------------------------

    def _goes_local(self) -> bool:
        """Whether the local shares hold; on a change of that, put the book in order."""
        local = not self._wire.up
        if local != self._local:
            self._local = local
            if local:
                self._forfeit()
            else:
                self._book.back_again()
                self._wake(asyncio.get_running_loop().time())
        return local

    def _take_local(self, name: str, rate: float, burst: int) -> float:
        self._local_count.n += 1
        return self._book.take_local(name, rate, burst, self._clock())

    def _forfeit(self) -> None:
        self._name = secrets.token_hex(6)
        self._book.forfeit(self._answer_locally)

    def _answer_locally(self, slot: Slot) -> float:
        return self._take_local(slot.name, slot.rate, slot.burst)

    # --- calls --------------------------------------------------------------------------------------

    def _wake(self, at: float) -> None:
        """Call at the loop's time `at`, or before if that is planned."""
        if self._call is not None or self._stopping:
            return
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._go)

    def _go(self) -> None:
        self._timer = None
        if not self._goes_local() and self._book.busy:
            self._call = asyncio.create_task(self._renew_and_plan(), name="leases")

    async def _renew_and_plan(self) -> None:
        loop = asyncio.get_running_loop()
        self._called_at = loop.time()
        try:
            await self._renew()
        finally:
            self._call = None
        if self._book.hurry:
            self._wake(max(loop.time(), self._called_at + _ASK_GAP_S))
        elif self._book.busy:
            self._wake(self._called_at + self._renew_s)

    async def _renew(self) -> None:
        """One call for what is listed. On failure everything held is given up, and who waits is answered locally."""
        book, metrics, loop = self._book, self._metrics, asyncio.get_running_loop()
        began, asked_at = loop.time(), self._clock()
        name, rows = self._name, book.rows(asked_at)
        try:
            request = self._encode((name, 0, self._prefix, _LIFE_US, rows))
            reply = self._decode(await self._wire.call(LEASE, request))
            if name != self._name:
                return  # given up while the reply was on its way through the loop
            book.granted(rows, reply, asked_at, self._clock())
        except (StoreUnavailable, CommandError, msgspec.MsgspecError, UnicodeError) as error:
            if not isinstance(error, StoreUnavailable) and not self._complained:
                self._complained = True
                log.error("Redis refuses the rate limits' script, so that local shares hold: %s", error)  # noqa: TRY400
            if name == self._name:
                self._forfeit()
            return
        except BaseException:
            self._forfeit()
            raise
        metrics.trips.at().n += 1
        metrics.lease_renewals.at().n += 1
        metrics.trip_seconds.at().observe(loop.time() - began)

    def _held(self) -> float:
        return self._book.held


if TYPE_CHECKING:

    def _is_a_rate_limiter(limiter: LeasedRateLimiter) -> RateLimiter:
        return limiter
