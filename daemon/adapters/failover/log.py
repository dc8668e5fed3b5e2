"""
Kafka with the local log behind it.

    closed   Kafka acknowledges. Every append races Kafka against publisher.ack_deadline_s.
    open     An append missed its deadline, or the client failed. Everything goes to the local log at once
             (or is refused, where kafka.when_away says so), and every publisher.probe_s a new client tries to
             reach Kafka.

What was on its way when the breaker opened goes to the local log too. Kafka may have got some of it all
the same: those copies carry the same ids, and readers drop them. The breaker closes when Kafka has
acknowledged again: the old client's late batch, or the oldest spooled rows over a new client, which
bootstraps from the settings, so that brokers may have come back under other addresses.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from daemon.adapters.failover.adoption import Adoption
from daemon.adapters.failover.spool import Spool
from daemon.adapters.kafka.log import KafkaLog, RecordTooLarge
from daemon.adapters.local.log import LocalLog
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable, SettingsError
from daemon.observe.catalog import LocalLogMetrics, PublisherMetrics, StoreMetrics
from daemon.ports import Durability, EventLog, PartitionBatch

log = logging.getLogger(__name__)

#: What Kafka gets at the start before we serve without it, seconds: enough for a bootstrap over several brokers.
FIRST_TRY_S = 5.0

#: A new client's whole start, each probe, seconds.
PROBE_TRY_S = 5.0

#: Between looks at the spool while there is nothing to drain, seconds.
IDLE_S = 0.25
#: Between counts of the spool and looks at the topics' partitions, seconds.
COUNT_S = 5.0

#: An idle Kafka is asked this often whether it is there, seconds: an outage has to show without traffic too.
PING_S = 3.0

#: What a stop gives Kafka for what is still on its way, seconds; appends have been answered before.
STOP_S = 2.0

#: What one event may take beside its body: the envelope, headers, the batch's head.
ENVELOPE_BYTES = 64 * 1024


class FailoverLog:
    """
    The event log of one publisher slot, with Kafka and a spool.

    It also drains the files of slots in which no publisher lives. `on_partitions` hears of changed partition counts.
    """

    def __init__(
        self,
        settings: Settings,
        local: LocalLog,
        *,
        metrics: PublisherMetrics,
        stores: StoreMetrics,
        files: LocalLogMetrics | None = None,
        on_partitions: Callable[[dict[str, int]], None] | None = None,
    ) -> None:
        self._settings = settings
        self._topics = (settings.kafka.topic_raw, settings.kafka.topic_dlq)
        self._deadline_s = settings.publisher.ack_deadline_s
        self._refuses = settings.kafka.when_away == "refuse"
        self._local = local
        self._adoption = Adoption(settings, local.slot, files)
        self._spool = Spool(local, self._adoption, self._deadline_s, metrics)
        self._metrics = metrics
        metrics.spool_records.read = lambda: float(self._spool.records)
        metrics.spool_bytes.read = lambda: float(self._spool.used_bytes)
        metrics.spool_oldest.read = lambda: self._spool.oldest_s
        self._breaker = metrics.breaker.at()
        self._up = stores.up.at("kafka")
        self._outages = stores.outages.at("kafka")
        self._on_partitions = on_partitions
        self._partitions: dict[str, int] = {}
        #: the client that appends go to; None while the breaker is open
        self._kafka: KafkaLog | None = None
        #: the client that did not acknowledge; it may yet
        self._stalled: KafkaLog | None = None
        self._opened_at = 0.0
        self._outage_began = 0.0
        self._unreachable = False
        self._why = ""
        self._opened = asyncio.Event()
        self._answered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._discards: set[asyncio.Task[None]] = set()

    @property
    def kafka_up(self) -> bool:
        """Whether appends go to Kafka."""
        return self._kafka is not None

    async def start(self) -> None:
        """
        Open the local log and find out whether Kafka is there; either answer will do.

        Raises SettingsError for settings that can't work (topics, TLS, SASL).
        """
        await self._open_local()
        fresh = self._new_client()
        try:
            await fresh.start(min(FIRST_TRY_S, self._settings.kafka.request_timeout_s))
        except LogUnavailable as error:
            self._unreachable = True
            self._open(str(error))
        else:
            self._kafka = fresh
            self._up.n = 1
            await self._learn_partitions(fresh)
        self._tasks = [
            asyncio.create_task(self._recover_for_ever()),
            asyncio.create_task(self._drain_for_ever()),
            asyncio.create_task(self._ping_for_ever()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        kafka, self._kafka = self._kafka, None
        if kafka is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await kafka.stop()
            except TimeoutError:
                await kafka.discard()
        stalled, self._stalled = self._stalled, None
        if stalled is not None:
            await stalled.discard()
        await asyncio.gather(*self._discards, return_exceptions=True)
        await self._adoption.stop()
        await self._local.stop()

    def partitions(self, topic: str) -> int:
        """As Kafka says, or said when it was there last; else as the settings say."""
        return self._partitions.get(topic, self._settings.kafka.partitions)

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        kafka = self._kafka
        if kafka is not None:
            sent = kafka.submit(topic, batches)
            timer = asyncio.get_running_loop().call_later(self._deadline_s, self._missed, kafka, sent)
            try:
                await sent
            except RecordTooLarge:
                raise
            except LogUnavailable as error:
                self._trip(kafka, str(error))
            else:
                return "kafka"
            finally:
                timer.cancel()
        if self._refuses:
            raise LogUnavailable(self._refusal)
        return await self._local.append(topic, batches)

    @property
    def _refusal(self) -> str:
        return f"Kafka is away ({self._why}), and without it no event is taken (kafka.when_away)"

    async def trouble(self) -> str:
        """Why an append would fail now, or ""."""
        if self._kafka is not None:
            return ""
        if self._refuses:
            return self._refusal
        room = await self._local.trouble()
        return f"Kafka is away ({self._why}) and {room}" if room else ""

    # --- the breaker

    def _missed(self, kafka: KafkaLog, sent: asyncio.Future[None]) -> None:
        if not sent.done():
            why = f"no acknowledgement within {self._deadline_s:g} s"
            self._trip(kafka, why)
            if not sent.done():
                sent.set_exception(LogUnavailable(why))

    def _trip(self, kafka: KafkaLog, why: str) -> None:
        """Open the breaker, unless it is, or `kafka` is a client of the past."""
        if self._kafka is not kafka:
            return
        self._kafka = None
        self._stalled = kafka
        self._unreachable = False
        self._open(why)
        # Whatever else is on its way waits for the same broker: to the local log with it, now.
        kafka.give_up(LogUnavailable(why))

    def _open(self, why: str) -> None:
        self._why = why
        self._opened_at = self._outage_began = time.monotonic()
        self._breaker.n = 1
        self._up.n = 0
        self._outages.n += 1
        self._answered.clear()
        self._opened.set()
        where = "are refused with 503" if self._refuses else "go to the local log"
        log.warning("Kafka is away, events %s: %s", where, why)

    async def _close(self, kafka: KafkaLog) -> None:
        self._stalled = None
        self._kafka = kafka
        self._opened.clear()
        self._breaker.n = 0
        self._up.n = 1
        log.info(
            "Kafka acknowledges again after %.1f s; %d records on the local log go there now",
            time.monotonic() - self._outage_began,
            self._spool.records,
        )
        await self._learn_partitions(kafka)

    async def _recover_for_ever(self) -> None:
        while True:
            await self._opened.wait()
            try:
                # A late acknowledgement of the old client ends the wait early.
                async with asyncio.timeout(self._settings.publisher.probe_s):
                    await self._answered.wait()
            except TimeoutError:
                pass
            self._answered.clear()
            try:
                candidate = await self._candidate()
                if candidate is not None:
                    await self._try(candidate)
            except Exception:
                # This task is the only way back to Kafka: it must live.
                log.exception("the try to reach Kafka failed in an unforeseen way")

    async def _candidate(self) -> KafkaLog | None:
        """A client that may work: the old one if it has acknowledged since, else a new one that reached Kafka."""
        old = self._stalled
        if old is not None and old.broken is None and old.acked_at > self._opened_at:
            # Some brokers may answer while others don't: with all of them back, every partition has a leader.
            if await old.answers(PROBE_TRY_S) and old.led():
                return old
            return None
        fresh = self._new_client()
        try:
            await fresh.start(min(PROBE_TRY_S, self._settings.kafka.request_timeout_s))
        except (LogUnavailable, SettingsError) as error:
            self._unreachable = True
            if str(error) != self._why:
                self._why = str(error)
                log.warning("Kafka is still away: %s", error)
            return None
        if old is None:
            return fresh
        silent_s = time.monotonic() - old.acked_at
        if (
            old.broken is None
            and not self._unreachable
            and silent_s < self._settings.publisher.rebuild_after_s
        ):
            # Kafka can be reached and could all the time: it is slow, or lacks replicas. A new client would only
            # add its own requests to those that wait.
            await fresh.discard()
            return None
        self._metrics.rebuilds.at().n += 1
        self._stalled = fresh
        self._unreachable = False
        self._discard(old)
        return fresh

    async def _try(self, candidate: KafkaLog) -> None:
        """Send the oldest spooled rows by `candidate`; close the breaker if Kafka acknowledges, or there are none."""
        try:
            # One row: should Kafka take some of it and not all, these are the copies that it gets each time.
            await self._spool.step(candidate, bytes_max=1)
        except LogUnavailable as error:
            self._why = str(error)
            self._stalled = candidate
            self._opened_at = time.monotonic()
            return
        await self._close(candidate)

    def _new_client(self) -> KafkaLog:
        limits = self._settings.limits
        return KafkaLog(
            self._settings.kafka,
            self._topics,
            on_ack=self._acked,
            record_bytes_needed=max(limits.body_bytes_max, limits.item_bytes_max) + ENVELOPE_BYTES,
        )

    def _acked(self) -> None:
        if self._kafka is None:
            self._answered.set()

    def _discard(self, client: KafkaLog) -> None:
        task = asyncio.create_task(client.discard())
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)

    # --- the spool and the topics

    async def _drain_for_ever(self) -> None:
        counted = time.monotonic()
        rate_per_s = self._settings.publisher.drain_records_per_s
        while True:
            sent, began = 0, time.monotonic()
            try:
                sent = await self._drain_step()
                if time.monotonic() - counted > COUNT_S:
                    counted = time.monotonic()
                    await self._look_around()
            except Exception:
                # What waits on the disk has no other way to Kafka: this task must live.
                log.exception("draining failed in an unforeseen way; it goes on")
                await asyncio.sleep(IDLE_S)
            # The pace: what was just sent is this much of a second's share, its sending included.
            await asyncio.sleep(max(0.0, began + sent / rate_per_s - time.monotonic()) if sent else IDLE_S)

    async def _drain_step(self) -> int:
        kafka = self._kafka
        if kafka is None or not self._spool.records:
            return 0
        try:
            return await self._spool.step(kafka, rate_per_s=self._settings.publisher.drain_records_per_s)
        except LogUnavailable as error:
            self._trip(kafka, str(error))
            return 0

    async def _ping_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            kafka = self._kafka
            if kafka is None or time.monotonic() - kafka.acked_at < PING_S:
                continue
            try:
                # Twice: an idle connection that the broker has closed costs the first question.
                if not (await kafka.answers(PING_S) or await kafka.answers(PING_S / 2)):
                    self._trip(kafka, "no broker answers")
            except Exception:
                log.exception("asking Kafka failed in an unforeseen way; it goes on")

    async def _look_around(self) -> None:
        """Count what waits, take over what nobody drains, and see whether the topics have other partitions."""
        await self._spool.look_around()
        for why, rows in (("refused", self._spool.refused_rows), ("damaged", self._spool.damaged_rows)):
            self._metrics.spool_aside.at(why).n = rows
        if self._kafka is not None:
            await self._learn_partitions(self._kafka)

    async def _open_local(self) -> None:
        """The local log's trouble is no reason not to serve by Kafka."""
        try:
            await self._local.start()
        except LogUnavailable as error:
            log.error("%s", error)  # noqa: TRY400  it says what is wrong by itself
        await self._look_around()
        try:
            self._partitions = await self._local.remembered_partitions()
        except LogUnavailable:
            self._partitions = {}

    async def _learn_partitions(self, kafka: KafkaLog) -> None:
        try:
            found = {topic: kafka.partitions(topic) for topic in self._topics}
        except LogUnavailable:
            return  # a topic was just deleted; appends to it will say so
        if found == self._partitions:
            return
        self._partitions = found
        if self._on_partitions is not None:
            self._on_partitions(found)
        try:
            await self._local.remember_partitions(found)
        except LogUnavailable as error:
            log.warning("the topics' partitions could not be remembered: %s", error)


if TYPE_CHECKING:
    _: type[EventLog] = FailoverLog
