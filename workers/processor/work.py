"""
The processor's loop: read, sort out, store, go on.

    feed ──▶ records ──▶ events ──▶ PostgreSQL ──▶ position moves
                 └─────▶ poison ──▶ dead letters ─────┘

A record leaves the log when what became of it is durable. Nothing that is away ends the loop, and no record
holds up those behind it: what PostgreSQL refuses is halved until the one event that it refuses is alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from daemon.adapters.postgres.events.store import EventStore, Stored
from daemon.adapters.postgres.events.trouble import PositionMoved, RowsRefused
from daemon.config.schema import Processor as ProcessorSettings
from daemon.errors import HeadgateError, StoreUnavailable
from daemon.events.deadletter import DeadLetter, dead_letter
from daemon.events.stored import Poison, Reason, StoredEvent, read
from daemon.observe.catalog import ProcessorMetrics
from daemon.observe.logs import Damper
from daemon.ports import Feed, Fetched, Move, Reading
from workers.processor.letters import DeadLetters
from workers.processor.patience import GivenUp, Patience, pause

log = logging.getLogger(__name__)

#: Poison may come in floods: a few lines of it say as much as all.
_poison_log = logging.getLogger(f"{__name__}.poison")
_poison_log.addFilter(Damper((__name__,), lines_max=5, window_s=60.0))

#: How long a read waits for news, seconds.
READ_S = 1.0

#: How long the loop waits after something that should not have happened, and at most if that goes on, seconds.
TROUBLE_S = 1.0
TROUBLE_MAX_S = 60.0


class _Event(NamedTuple):
    """An event, and the record that it came in."""

    record: Fetched
    event: StoredEvent


class Processor:
    """One reader of the log. `run` in a task, then `drain`."""

    def __init__(
        self,
        feed: Feed,
        store: EventStore,
        letters: DeadLetters,
        settings: ProcessorSettings,
        metrics: ProcessorMetrics,
        *,
        store_is_up: Callable[[], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`store_is_up` is what the store's own log lines say; `now` is the clock."""
        self._feed = feed
        self._store = store
        self._letters = letters
        self._settings = settings
        self._metrics = metrics
        self._store_is_up = store_is_up
        self._now = now
        self._stop = asyncio.Event()
        self._reading: asyncio.Task[Reading | None] | None = None
        #: records in work
        self.in_hand = 0
        metrics.lag_records.read = lambda: float(feed.lag().records)
        metrics.lag_seconds.read = self._behind_s

    async def run(self) -> None:
        """Work until `drain`."""
        trouble_s = TROUBLE_S
        while not self._stop.is_set():
            try:
                reading = await self._read()
                if reading is not None:
                    began = time.monotonic()
                    await self._finish(reading)
                    trouble_s = TROUBLE_S
                    if len(reading.records) < self._settings.batch_records_max:
                        await pause(self._stop, began + self._settings.batch_wait_s - time.monotonic())
            except GivenUp:
                continue
            except PositionMoved as error:
                log.warning("%s: taking it up from there", error)
                await self._feed.reset()
            except Exception:
                # Whatever it is, it must not become a crash loop; the records come again.
                log.exception("a reading could not be finished, it is tried again")
                await pause(self._stop, trouble_s)
                trouble_s = min(TROUBLE_MAX_S, 2 * trouble_s)

    async def drain(self, task: asyncio.Task[None], limit_s: float) -> None:
        """Finish what is in hand within `limit_s`; what is not done then comes again from the log."""
        self._stop.set()
        if self._reading is not None:
            self._reading.cancel()
        _, late = await asyncio.wait({task}, timeout=limit_s)
        for one in late:
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)

    async def _read(self) -> Reading | None:
        self._reading = asyncio.create_task(self._feed.read(READ_S))
        try:
            return await self._reading
        except asyncio.CancelledError:
            if self._stop.is_set() and self._reading.cancelled():
                raise GivenUp("draining") from None
            raise
        finally:
            self._reading = None

    def _behind_s(self) -> float:
        oldest_ms = self._feed.lag().oldest_ms
        return max(0.0, self._now().timestamp() - oldest_ms / 1000) if oldest_ms else 0.0

    # --- one reading

    async def _finish(self, reading: Reading) -> None:
        """Make everything in it durable, then let the log know. Raises GivenUp, PositionMoved."""
        began = time.monotonic()
        self.in_hand = len(reading.records)
        patience = Patience(lambda: self._feed.stale(reading), self._stop)
        try:
            events, letters = self._sort_out(reading.records)
            await self._bury(letters, patience)
            await self._keep(events, reading.moves, patience)
            await self._feed.done(reading)
        finally:
            self.in_hand = 0
        self._metrics.batch_records.at().observe(len(reading.records))
        self._metrics.batch_seconds.at().observe(time.monotonic() - began)

    def _sort_out(self, records: Sequence[Fetched]) -> tuple[list[_Event], list[DeadLetter]]:
        now = self._now()
        events: list[_Event] = []
        letters: list[DeadLetter] = []
        for record in records:
            try:
                if record.trouble:
                    raise Poison(Reason.UNREADABLE, record.trouble)
                events.append(_Event(record, read(record.value, record.timestamp_ms, now)))
            except Poison as poison:
                letters.append(self._letter(record, poison))
            except Exception as error:
                log.exception("a record could not be read in a way that was not foreseen")
                letters.append(
                    self._letter(record, Poison(Reason.SCHEMA, f"{type(error).__name__}: {error}"))
                )
        return events, letters

    async def _keep(self, events: list[_Event], moves: Sequence[Move], patience: Patience) -> None:
        """Store the events, and move the positions with the last of them."""
        try:
            await self._store_part(events, moves, patience)
        except RowsRefused as refusal:
            await self._halve(events, refusal, patience)
            if moves:
                await self._store_part([], moves, patience)

    async def _halve(self, events: list[_Event], refusal: RowsRefused, patience: Patience) -> None:
        """Find what of `events`, which are refused together, is refused alone; the order is kept."""
        if len(events) == 1:
            poison = Poison(Reason.REFUSED, str(refusal))
            await self._bury([self._letter(events[0].record, poison)], patience)
            return
        middle = len(events) // 2
        for half in (events[:middle], events[middle:]):
            try:
                await self._store_part(half, (), patience)
            except RowsRefused as error:
                await self._halve(half, error, patience)

    async def _store_part(self, events: list[_Event], moves: Sequence[Move], patience: Patience) -> None:
        """One transaction, tried until PostgreSQL says yes or no. Raises RowsRefused, GivenUp, PositionMoved."""
        if not events and not moves:
            return
        stored: Stored = await patience.insist(
            partial(self._try_to_store, [one.event for one in events], moves),
            self._metrics.retries.at("store"),
            told=lambda: not self._store_is_up(),
        )
        metrics = self._metrics
        metrics.records.at("stored").n += stored.rows
        metrics.records.at("copy").n += stored.copies
        metrics.profiles.at("created").n += stored.profiles.created
        metrics.profiles.at("linked").n += stored.profiles.linked
        metrics.profiles.at("merged").n += stored.profiles.merged
        metrics.profiles.at("conflict").n += stored.profiles.conflicts

    async def _try_to_store(self, events: list[StoredEvent], moves: Sequence[Move]) -> Stored:
        try:
            return await self._store.store(events, moves)
        except RowsRefused as error:
            if events:
                raise
            raise StoreUnavailable(f"positions can't be moved: {error}") from error
        except (HeadgateError, asyncio.CancelledError):
            raise
        except Exception as error:
            # A fault of ours that hangs on these events must not hold up all others for ever.
            log.exception("events could not be stored in a way that was not foreseen")
            if not events:
                raise
            raise RowsRefused(f"{type(error).__name__}: {error}") from error

    async def _bury(self, letters: list[DeadLetter], patience: Patience) -> None:
        await self._letters.send(letters, patience)
        self._metrics.records.at("poison").n += len(letters)
        for letter in letters:
            self._metrics.poison.at(letter.reason).n += 1

    def _letter(self, record: Fetched, poison: Poison) -> DeadLetter:
        _poison_log.error(
            "a record can't be stored and goes to the dead letters (%s): %s",
            poison.reason,
            poison.details,
            extra={"log": record.log, "partition": record.partition, "offset": record.offset},
        )
        return dead_letter(poison, record.value, record.log, record.partition, record.offset)
