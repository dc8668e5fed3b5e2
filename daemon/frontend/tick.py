"""
The tick: all events of a moment go to Redis in one trip and to the publishers in one message.

    add ──▶ visits (claims, identity) ──▶ records ──▶ outbox ──▶ ack ──▶ outcomes

Requests wait for one future per tick, not one each. An idle frontend does not wait at all: the first
event after a pause starts its tick in the same pass of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from daemon.errors import LogUnavailable, StoreUnavailable
from daemon.events.envelope import partitions_of
from daemon.events.outcome import Outcome
from daemon.frontend.arrivals import arrivals_of
from daemon.frontend.hotkeys import HotKeys
from daemon.frontend.work import Work
from daemon.observe.catalog import IngestMetrics, OutboxMetrics
from daemon.ports import Durability, PartitionBatch, Record, VisitStore

#: As names of their own: a member of an Enum is looked up through its metaclass, ten times as slowly.
_ACCEPTED = Outcome.ACCEPTED

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """The part of the outbox that a tick uses."""

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has."""
        ...

    def publish(
        self, topic: str, batches: list[PartitionBatch], records: int, size_bytes: int
    ) -> asyncio.Future[Durability]:
        """Send; the future tells where the records are durable, or fails with LogUnavailable."""
        ...


class SharedFuture(asyncio.Future[None]):
    """What all requests of a tick wait for. Cancelling one request must not cancel the others' wait."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  the signature is asyncio's
        """Refused: the request that is cancelled notices it when the tick ends."""
        return False


class Ticker:
    """Gathers works and takes them through Redis and the log together."""

    def __init__(
        self,
        topic: str,
        tick_s: float,
        visits: VisitStore,
        outbox: Publisher,
        hot_keys: HotKeys,
        ingest: IngestMetrics,
        queue: OutboxMetrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._topic = topic
        self._tick_s = tick_s
        self._visits = visits
        self._outbox = outbox
        self._hot_keys = hot_keys
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._arrivals = arrivals_of(self._loop)
        self._works: list[Work] = []
        self._thens: list[Callable[[], None]] = []
        self._done: SharedFuture | None = None
        self._last_s = 0.0
        self._running: set[asyncio.Task[None]] = set()
        self._salted = queue.salted.at()
        self._events_per_tick = ingest.tick_events.at()
        self._stores_s = ingest.stages.at("stores")
        self._publish_s = ingest.stages.at("publish")

    def add(self, work: Work) -> SharedFuture:
        """Take `work` into the next tick; when the future is done, `work.outcome` is set."""
        self._works.append(work)
        return self._done or self._begun()

    def add_then(self, work: Work, then: Callable[[], None]) -> None:
        """The same for who does not wait: `then` is called, and must not raise."""
        self._works.append(work)
        self._thens.append(then)
        if self._done is None:
            self._begun()

    def add_all(self, works: Sequence[Work]) -> SharedFuture:
        """The same for several works, which share a tick."""
        self._works += works
        return self._done or self._begun()

    def _begun(self) -> SharedFuture:
        """Plan the next tick, as there is something for it."""
        self._done = SharedFuture(loop=self._loop)
        since_s = self._loop.time() - self._last_s
        if since_s >= self._tick_s:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_later(self._tick_s - since_s, self._flush)
            self._arrivals.expect()
        return self._done

    async def idle(self) -> None:
        """Wait until every tick has ended."""
        while self._works or self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
            await asyncio.sleep(0)

    def _flush(self) -> None:
        # Who comes now need not wait for the next one.
        self._arrivals.take()
        works, thens, done = self._works, self._thens, self._done
        assert done is not None
        self._works, self._thens, self._done = [], [], None
        self._last_s = self._loop.time()
        task = self._loop.create_task(self._run(works, thens, done))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, works: list[Work], thens: list[Callable[[], None]], done: SharedFuture) -> None:
        self._events_per_tick.observe(len(works))
        started = time.perf_counter()
        to_publish: list[Work] = []
        try:
            await self._visits.visit([work.visit for work in works])
            visited = time.perf_counter()
            self._stores_s.observe_many(visited - started, len(works))
            to_publish = self._unclaimed(works)
            if to_publish:
                batches, size_bytes = self._batches(to_publish)
                durability = await self._outbox.publish(self._topic, batches, len(to_publish), size_bytes)
                self._publish_s.observe_many(time.perf_counter() - visited, len(to_publish))
                self._accepted(to_publish, durability)
        except LogUnavailable as error:
            self._unavailable(to_publish, error.retry_after_s)
        except StoreUnavailable as error:
            self._unavailable(works, error.retry_after_s)
        except Exception:
            log.exception("a tick failed; its events were not acknowledged")
            self._unavailable([work for work in works if work.outcome is None], 1.0)
        finally:
            if not done.done():
                done.set_result(None)
            for then in thens:
                then()

    def _unclaimed(self, works: Sequence[Work]) -> list[Work]:
        """The works that are ours to publish; duplicates get their outcome here."""
        to_publish: list[Work] = []
        for work in works:
            claim = work.visit.claim
            if claim == "new":
                to_publish.append(work)
            elif claim == "confirmed":
                work.outcome = Outcome.DUPLICATE
            elif claim == "conflict":
                work.outcome = Outcome.CONFLICT
            elif claim == "limited":
                work.outcome = Outcome.RATE_LIMITED
            elif claim != "pending":
                to_publish.append(work)
        return to_publish

    def _batches(self, works: Sequence[Work]) -> tuple[list[PartitionBatch], int]:
        records = [work.record() for work in works]
        keys = [record.key for record in records]
        now_s = self._now()
        if not self._hot_keys.all_cool(keys, now_s):
            keys = [self._spread(key, now_s) for key in keys]
        by_partition: dict[int, list[Record]] = defaultdict(list)
        partitions = partitions_of(keys, self._outbox.partitions(self._topic))
        for partition, record in zip(partitions, records, strict=True):
            by_partition[partition].append(record)
        size_bytes = sum(map(len, keys)) + sum([len(record.value) for record in records])
        return [PartitionBatch(partition, batch) for partition, batch in by_partition.items()], size_bytes

    def _spread(self, key: bytes, now_s: float) -> bytes:
        salted = self._hot_keys.salted(key, now_s)
        if salted is None:
            return key
        self._salted.n += 1
        return salted

    def _accepted(self, works: Sequence[Work], durability: Durability) -> None:
        for work in works:
            work.outcome = _ACCEPTED
            work.durability = durability
        # also where Redis was away ("skipped"): once it is back, later copies are known by this
        self._visits.confirm([work.visit for work in works])

    def _unavailable(self, works: Sequence[Work], retry_after_s: float) -> None:
        for work in works:
            work.outcome = Outcome.UNAVAILABLE
            work.retry_after_s = retry_after_s
            visit = work.visit
            if visit.claim_id is not None and visit.claim == "new":
                self._visits.release(visit.claim_id)
