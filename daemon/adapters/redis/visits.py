"""
Claims of event ids and what is known of visitors: one trip to Redis for all events of a tick.

A claim is pending (with an owner, for `claims.pending_s`) until its event is durable, and confirmed
for the window after that. Only its owner gives a pending claim back. While Redis is away nothing is
claimed: events go through as `skipped`, and the ids derived from the callers' let readers drop copies.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from daemon.adapters.redis.script import TICK
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import ClaimState, Visit, VisitStore

log = logging.getLogger(__name__)

#: Visits of one call: a script blocks Redis for all, and 512 visits take it about 3 ms.
_VISITS_PER_CALL = 512
#: Confirms and releases of one call, for the same reason.
_ENDS_PER_CALL = 1024
#: Confirms and releases that wait for a trip when none comes by itself, seconds (places in windows too): soon enough
#: for a copy that follows at once (it asks again after 20 ms), late enough for the next tick to take them along.
FLUSH_S = 0.01
#: Confirms and releases kept while Redis is away; about 100 bytes each. Beyond: the oldest are dropped,
#: whose copies the derived id catches.
_ENDS_MAX = 100_000

_STATES: dict[str, ClaimState] = {"n": "new", "p": "pending", "c": "confirmed", "x": "conflict"}


class RedisVisitStore:
    """`ports.VisitStore` on one Redis."""

    def __init__(self, wire: RedisWire, settings: Settings, metrics: StoreMetrics) -> None:
        self._wire = wire
        self._metrics = metrics
        self._owner = secrets.token_hex(8)
        prefix = settings.redis.prefix
        self._head = (
            self._owner,
            max(1, int(settings.claims.pending_s * 1000)),
            f"{prefix}c:",
            f"{prefix}v:",
        )
        self._pending_s = settings.claims.pending_s
        self._refuses = settings.redis.when_away == "refuse"
        #: claim id -> (window in ms, tag, end on the loop's clock)
        self._confirms: dict[str, tuple[int, str, float]] = {}
        #: claim id -> when it was given back, on the loop's clock
        self._releases: dict[str, float] = {}
        self._flusher: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[str, list[dict[str, str] | bool]]).decode
        self._loop: asyncio.AbstractEventLoop | None = None
        self._complained = False
        self._results = {
            state: metrics.claims.at(state)
            for state in ("new", "pending", "confirmed", "conflict", "skipped")
        }

    async def start(self) -> None:
        """Nothing to open: the wire is started by whoever made it."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Send what has not been sent, if Redis is there."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        while self._flushing:
            await asyncio.gather(*self._flushing, return_exceptions=True)
        while self._wire.up and (self._confirms or self._releases):
            if not await self._trip(()):
                break

    async def visit(self, visits: Sequence[Visit]) -> None:
        """See VisitStore.visit. Raises StoreUnavailable when Redis is away and redis.when_away is refuse."""
        if not self._wire.up:
            self._skip(visits)
            done = False
        elif len(visits) <= _VISITS_PER_CALL:
            done = await self._trip(visits)
        else:
            # Written to the socket at once, in order, so that copies within one tick still meet.
            done = all(
                await asyncio.gather(
                    *(
                        self._trip(visits[at : at + _VISITS_PER_CALL])
                        for at in range(0, len(visits), _VISITS_PER_CALL)
                    )
                )
            )
        if not done and self._refuses:
            raise StoreUnavailable(
                "Redis is away, and without it no event is taken (redis.when_away)",
                self._wire.settings.retry_s,
            )

    def confirm(self, visits: Sequence[Visit]) -> None:
        confirms, releases, now = self._confirms, self._releases, self._now()
        for visit in visits:
            claim_id = visit.claim_id
            if claim_id is not None:
                window_s = visit.claim_window_s
                confirms[claim_id] = (int(window_s * 1000) or 1, visit.claim_tag, now + window_s)
                if releases:
                    releases.pop(claim_id, None)
        for _ in range(len(confirms) - _ENDS_MAX):
            del confirms[next(iter(confirms))]
        if confirms and self._flusher is None:
            self._flush_soon()

    def release(self, claim_id: str) -> None:
        if claim_id in self._confirms:
            return
        self._releases[claim_id] = self._now()
        if len(self._releases) > _ENDS_MAX:
            del self._releases[next(iter(self._releases))]
        self._flush_soon()

    # --- trips --------------------------------------------------------------------------------------

    async def _trip(self, visits: Sequence[Visit]) -> bool:
        """One call; on failure the visits are skipped and the ends kept for later. Whether it worked."""
        confirms, releases = self._take_ends()
        loop = self._loop or asyncio.get_running_loop()
        began = loop.time()
        try:
            now = began
            request = self._encode(
                (
                    *self._head,
                    [(id_, window_ms, tag) for id_, (window_ms, tag, end) in confirms.items() if end > now],
                    [id_ for id_, at in releases.items() if now - at < self._pending_s],
                    [
                        (
                            v.claim_id,
                            v.visitor,
                            int(v.ttl_s * 1000) or 1,
                            v.learn,
                            v.learn_once,
                            v.claim_tag,
                        )
                        for v in visits
                    ],
                )
            )
            reply = await self._wire.call(TICK, request)
            states, known = self._decode(reply)
        except (
            StoreUnavailable,
            CommandError,
            msgspec.MsgspecError,
            ValueError,
            asyncio.CancelledError,
        ) as error:
            # Sent twice does no harm: a confirm says the same, a release only frees what is ours.
            self._confirms = {**confirms, **self._confirms}
            self._releases = {**releases, **self._releases}
            self._skip(visits)
            if isinstance(error, asyncio.CancelledError):
                raise
            if not isinstance(error, StoreUnavailable):
                self._complain(error)
            self._flush_soon(self._wire.settings.retry_s)
            return False
        metrics = self._metrics
        metrics.trips.at().n += 1
        metrics.trip_seconds.at().observe(loop.time() - began)
        if visits:
            self._fill(visits, states, known)
        if self._confirms or self._releases:
            self._flush_soon()
        return True

    def _take_ends(self) -> tuple[dict[str, tuple[int, str, float]], dict[str, float]]:
        confirms, releases = self._confirms, self._releases
        if len(confirms) + len(releases) <= _ENDS_PER_CALL:
            self._confirms, self._releases = {}, {}
            return confirms, releases
        first = {id_: confirms.pop(id_) for id_ in list(confirms)[:_ENDS_PER_CALL]}
        rest = _ENDS_PER_CALL - len(first)
        return first, {id_: releases.pop(id_) for id_ in list(releases)[:rest]}

    def _fill(self, visits: Sequence[Visit], states: str, known: list[dict[str, str] | bool]) -> None:
        for visit, state, fields in zip(visits, states, known, strict=True):
            if state != "-":
                visit.claim = _STATES[state]
            if visit.visitor is not None:
                visit.known = fields if isinstance(fields, dict) else {}
        results = self._results
        results["new"].n += states.count("n")
        results["pending"].n += states.count("p")
        results["confirmed"].n += states.count("c")
        results["conflict"].n += states.count("x")

    def _skip(self, visits: Sequence[Visit]) -> None:
        for visit in visits:
            # it may have been asked before: what was said then of somebody else's claim holds no more
            visit.claim = "skipped"
            self._results["skipped"].n += visit.claim_id is not None

    def _complain(self, error: Exception) -> None:
        # Once: a fault that every tick repeats would fill the log.
        if not self._complained:
            self._complained = True
            log.error("Redis refuses claims, so that duplicates are caught only further down: %s", error)

    # --- ends without a trip ------------------------------------------------------------------------

    def _now(self) -> float:
        return (self._loop or asyncio.get_running_loop()).time()

    def _flush_soon(self, wait_s: float = FLUSH_S) -> None:
        if self._flusher is None:
            loop = self._loop or asyncio.get_running_loop()
            if not self._wire.up:
                wait_s = self._wire.settings.retry_s  # nothing to hurry for
            self._flusher = loop.call_later(wait_s, self._flush)

    def _flush(self) -> None:
        self._flusher = None
        if not (self._confirms or self._releases):
            return
        if not self._wire.up:
            self._flush_soon()
            return
        task = asyncio.create_task(self._flush_now())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _flush_now(self) -> None:
        await self._trip(())


if TYPE_CHECKING:

    def _is_a_visit_store(store: RedisVisitStore) -> VisitStore:
        return store
