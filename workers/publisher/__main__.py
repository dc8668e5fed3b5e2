"""
The publisher's composition root: `python -m workers.publisher` under the supervisor.

    frontends ──▶ Inbox ──▶ FailoverLog ──▶ Kafka
                                 └────────▶ LocalLog (the spool; without Kafka the whole log)

Ready means: it is known whether Kafka is there, and somewhere an event can be made durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from pathlib import Path

from daemon.actors.inbox import Inbox
from daemon.actors.messages import Beat
from daemon.actors.process import ChildContext, run_child
from daemon.adapters.failover import FailoverLog
from daemon.adapters.local import LocalLog
from daemon.adapters.local.places import folder_of, slots_on_disk
from daemon.errors import LogUnavailable
from daemon.observe.catalog import LocalLogMetrics, PublisherMetrics, StoreMetrics
from daemon.observe.process import DiskMetrics
from daemon.roles import PUBLISHER

log = logging.getLogger(__name__)

#: Between looks at whether an event could be written, seconds: the beat says what the latest one found.
LOOK_S = 0.5

#: Collections per generation: the hot path makes no cycles, so the collector seldom finds anything.
GC_THRESHOLDS = (50_000, 20, 50)

#: What of the drain's limit is kept for closing the log, seconds.
CLOSE_S = 2.0


async def publisher(ctx: ChildContext) -> None:
    """Write what the frontends send to `ctx.listen_fd` until a drain is asked for."""
    settings = ctx.settings
    topics = (settings.kafka.topic_raw, settings.kafka.topic_dlq)
    metrics, files = PublisherMetrics(), LocalLogMetrics()
    ctx.instruments.add(
        *metrics.instruments(), *files.instruments(), *DiskMetrics(Path(settings.data_dir)).instruments()
    )

    inbox: Inbox | None = None
    orphans: list[LocalLog] = []
    event_log: FailoverLog | LocalLog
    if settings.kafka.brokers:
        stores = StoreMetrics(("kafka",))
        ctx.instruments.add(stores.up, stores.outages)

        def changed(partitions: dict[str, int]) -> None:
            if inbox is not None:
                inbox.change_partitions(partitions)

        event_log = FailoverLog(
            settings,
            LocalLog(settings, ctx.slot, spool=True, metrics=files),
            metrics=metrics,
            stores=stores,
            files=files,
            on_partitions=changed,
        )
        await event_log.start()
        note = "kafka" if event_log.kafka_up else "local, Kafka is away"
    else:
        event_log = LocalLog(settings, ctx.slot, spool=False, metrics=files)
        metrics.spool_bytes.read = lambda: float(event_log.used_bytes)
        # A full disk at the start is a full disk: said by the beat, and tried again by every append.
        with contextlib.suppress(LogUnavailable):
            await event_log.start()
        orphans = await _orphans(ctx)
        note = "local"

    inbox = Inbox(
        event_log, {topic: event_log.partitions(topic) for topic in topics}, settings=settings, metrics=metrics
    )  # fmt: skip
    trouble = await event_log.trouble()

    async def look_for_ever() -> None:
        nonlocal trouble
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                trouble = await event_log.trouble()
            except Exception:
                # Without it the beat would tell the last finding for ever.
                log.exception("looking whether an event could be written failed in an unforeseen way")

    def health() -> Beat:
        return Beat(inbox.records, not trouble, [trouble] if trouble else [])

    ctx.health = health
    looks = asyncio.create_task(look_for_ever())
    inbox.start(ctx.listen_fd)
    # What is here now stays for ever: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    ctx.ready(note)

    limit_s = await ctx.drain_requested()
    await inbox.drain(max(limit_s - CLOSE_S, limit_s / 2))
    looks.cancel()
    await asyncio.gather(looks, return_exceptions=True)
    try:
        async with asyncio.timeout(CLOSE_S):
            await event_log.stop()
            for one in orphans:
                await one.stop()
    except TimeoutError:
        # Everything that was acknowledged is durable already; a client that does not close has nothing of ours.
        log.warning("the event log did not close within %g s", CLOSE_S)


async def _orphans(ctx: ChildContext) -> list[LocalLog]:
    """Files whose slots are no more: slot 0 sees to their retention; they are read as long as they are there."""
    publishers = max(1, ctx.counts.get(PUBLISHER.name, 1))
    slots = slots_on_disk(folder_of(ctx.settings)) if ctx.slot == 0 else []
    orphans = [LocalLog(ctx.settings, slot, spool=False) for slot in slots if slot >= publishers]
    for one in orphans:
        with contextlib.suppress(LogUnavailable):
            await one.start()
    return orphans


if __name__ == "__main__":
    run_child(publisher)
