"""
Claims of events that also count in a sliding window (TrackLayer's browser events: 30 in 60 s).

A `VisitStore` in front of another: visits with a window go through `window.lua`, the others through the store behind,
both written to the socket at once, so that a tick still waits for one round trip. Claiming and counting is one step,
so that neither a copy nor a refused event uses anything up, over all frontends. While Redis is away every frontend
counts by itself: nobody is refused who would not have been otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from daemon.adapters.redis.script import WINDOW
from daemon.adapters.redis.visits import FLUSH_S
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import ClaimState, Visit, VisitStore, Window

log = logging.getLogger(__name__)

#: Rows of one call: a script blocks Redis for all, and 256 rows take it about 2 ms.
_ROWS_PER_CALL = 256
#: Places that wait to be given back; beyond, the oldest are kept by Redis until their period is over.
_GIVES_MAX = 10_000
_GIVES_PER_CALL = 512
#: Windows that a frontend counts by itself; about 500 bytes each. Beyond, the longest unused are forgotten.
_LOCAL_MAX = 50_000

_STATES: dict[str, ClaimState] = {
    "n": "new",
    "p": "pending",
    "c": "confirmed",
    "x": "conflict",
    "l": "limited",
}


class LocalWindows:
    """Sliding windows in this process alone, bounded in number; times are seconds of a clock that never goes back."""

    def __init__(self, names_max: int = _LOCAL_MAX) -> None:
        self._names_max = names_max
        self._taken: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        """Windows that are known."""
        return len(self._taken)

    def take(self, window: Window, now_s: float) -> float:
        """0.0: there was room, and a place is taken. > 0: the seconds until there is room."""
        taken = self._taken.pop(window.name, None) or deque()
        while taken and taken[0] <= now_s - window.period_s:
            taken.popleft()
        self._taken[window.name] = taken
        if len(self._taken) > self._names_max:
            del self._taken[next(iter(self._taken))]
        if len(taken) >= window.count:
            return max(1e-6, taken[len(taken) - window.count] + window.period_s - now_s)
        taken.append(now_s)
        return 0.0

    def give_back(self, window: Window) -> None:
        """The newest place of a window is free again: what took it turned out to be a copy."""
        taken = self._taken.get(window.name)
        if taken:
            taken.pop()


class WindowedVisits:
    """`ports.VisitStore` that knows windows; `behind` does all other visits, and every confirm."""

    def __init__(
        self,
        behind: VisitStore,
        wire: RedisWire,
        settings: Settings,
        metrics: StoreMetrics,
        *,
        clock_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """`clock_us` gives Unix microseconds; 0 means Redis's own clock, which all frontends share."""
        self._behind = behind
        self._wire = wire
        self._metrics = metrics
        self._clock_us = clock_us
        #: not the name that the store behind claims under: it must not give back what is ours
        self._owner = secrets.token_hex(8)
        prefix = settings.redis.prefix
        self._pending_ms = max(1, int(settings.claims.pending_s * 1000))
        self._prefixes = (f"{prefix}c:", f"{prefix}w:")
        self._local = LocalWindows()
        #: claim id -> window, of events that are being published
        self._held: dict[str, Window] = {}
        #: claim id -> window's name and until when the place would be taken (monotonic)
        self._gives: dict[str, tuple[str, float]] = {}
        #: until when the store behind may have confirms that it has not sent (the loop's clock)
        self._confirming_until = 0.0
        self._flusher: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[bool]] = set()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[str, list[int]]).decode
        self._complained = False

    async def stop(self) -> None:
        """Give back what is to be given back, if Redis is there; the store behind is stopped by whoever made it."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        while self._flushing:
            await asyncio.gather(*self._flushing, return_exceptions=True)
        while self._wire.up and self._gives:
            if not await self._call(()):
                break

    async def visit(self, visits: Sequence[Visit]) -> None:
        """As the store behind does, which decides whether events are taken while Redis is away."""
        windowed = [visit for visit in visits if visit.window is not None]
        if not windowed:
            await self._behind.visit(visits)
            return
        others = [visit for visit in visits if visit.window is None]
        # Confirms go before claims, so that a copy finds its first one done.
        confirming = asyncio.get_running_loop().time() < self._confirming_until
        calls = [self._behind.visit(others)] if others or confirming else []
        self._confirming_until = 0.0
        starts = range(0, len(windowed), _ROWS_PER_CALL)
        calls += [self._claim(windowed[at : at + _ROWS_PER_CALL]) for at in starts]
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    def confirm(self, visits: Sequence[Visit]) -> None:
        for visit in visits:
            if visit.window is not None and visit.claim_id is not None:
                self._held.pop(visit.claim_id, None)
                self._confirming_until = asyncio.get_running_loop().time() + FLUSH_S
        self._behind.confirm(visits)

    def release(self, claim_id: str) -> None:
        window = self._held.pop(claim_id, None)
        if window is None:
            self._behind.release(claim_id)
            return
        self._gives[claim_id] = (window.name, monotonic() + window.period_s)
        if len(self._gives) > _GIVES_MAX:
            del self._gives[next(iter(self._gives))]
        self._flush_soon(FLUSH_S)

    # --- calls --------------------------------------------------------------------------------------

    async def _claim(self, visits: Sequence[Visit]) -> None:
        if not (self._wire.up and await self._call(visits)):
            await self._alone(visits)

    async def _call(self, visits: Sequence[Visit]) -> bool:
        """One call; whether it worked. What was to be given back is kept where it did not."""
        gives = self._take_gives(visits)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            request = self._encode(
                (
                    self._owner,
                    self._clock_us(),
                    self._pending_ms,
                    *self._prefixes,
                    [(claim_id, name) for claim_id, (name, _) in gives.items()],
                    [_row(visit) for visit in visits],
                )
            )
            states, waits_us = self._decode(await self._wire.call(WINDOW, request))
        except (
            StoreUnavailable,
            CommandError,
            msgspec.MsgspecError,
            ValueError,
            asyncio.CancelledError,
        ) as error:
            # What has been claimed anew since then is not to be given back any more.
            kept = {claim_id: give for claim_id, give in gives.items() if claim_id not in self._held}
            self._gives = {**kept, **self._gives}
            if isinstance(error, asyncio.CancelledError):
                raise
            if not isinstance(error, StoreUnavailable) and not self._complained:
                self._complained = True
                log.error("Redis refuses the sliding windows' script: each frontend counts alone: %s", error)  # noqa: TRY400
            self._flush_soon(self._wire.settings.retry_s)
            return False
        self._metrics.trips.at().n += 1
        self._metrics.trip_seconds.at().observe(loop.time() - began)
        self._fill(visits, states, waits_us)
        if self._gives:
            self._flush_soon(FLUSH_S)
        return True

    def _take_gives(self, visits: Sequence[Visit]) -> dict[str, tuple[str, float]]:
        if not self._gives:
            return {}
        now_s = monotonic()
        gives = dict(list(self._gives.items())[:_GIVES_PER_CALL])
        for visit in visits:
            # An id that comes again must find its own place free.
            if (give := self._gives.get(visit.claim_id or "")) is not None and visit.claim_id:
                gives[visit.claim_id] = give
        for claim_id in gives:
            del self._gives[claim_id]
        return {claim_id: give for claim_id, give in gives.items() if give[1] > now_s}

    def _fill(self, visits: Sequence[Visit], states: str, waits_us: list[int]) -> None:
        claims = self._metrics.claims
        for visit, state, wait_us in zip(visits, states, waits_us, strict=True):
            visit.claim = _STATES[state]
            assert visit.window is not None
            assert visit.claim_id is not None
            visit.window.wait_s = wait_us / 1e6
            if state == "n":
                self._held[visit.claim_id] = visit.window
            if state != "l":
                claims.at(visit.claim).n += 1

    async def _alone(self, visits: Sequence[Visit]) -> None:
        """Without the script: this frontend counts alone, and claims as for any other event."""
        now_s = monotonic()
        let_in: list[Visit] = []
        for visit in visits:
            assert visit.window is not None
            self._metrics.local_limits.at().n += 1
            visit.window.wait_s = self._local.take(visit.window, now_s)
            if visit.window.wait_s:
                visit.claim = "limited"
            else:
                let_in.append(visit)
        await self._behind.visit(let_in)
        for visit in let_in:
            if visit.claim not in ("new", "skipped") and visit.window is not None:
                self._local.give_back(visit.window)

    # --- giving back without a call -----------------------------------------------------------------

    def _flush_soon(self, wait_s: float) -> None:
        if self._flusher is None and self._gives:
            if not self._wire.up:
                wait_s = self._wire.settings.retry_s  # nothing to hurry for
            self._flusher = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        self._flusher = None
        if not self._gives:
            return
        if not self._wire.up:
            self._flush_soon(FLUSH_S)
            return
        task = asyncio.create_task(self._call(()))
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)


def _row(visit: Visit) -> tuple[str | None, str, str, int, int]:
    window = visit.window
    assert window is not None
    return (visit.claim_id, visit.claim_tag, window.name, window.count, int(window.period_s * 1e6))


if TYPE_CHECKING:

    def _is_a_visit_store(store: WindowedVisits) -> VisitStore:
        return store
