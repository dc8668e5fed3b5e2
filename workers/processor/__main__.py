"""
The processor's composition root: `python -m workers.processor` under the supervisor.

    Kafka, or the local log ──▶ Feed ──▶ Processor ──▶ EventStore ──▶ PostgreSQL
                                             └───────▶ Outbox ──▶ publishers ──▶ dead letters

Ready at once: events are accepted without it, and whatever it needs is waited for by its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc

import msgspec

from daemon.actors.messages import Beat
from daemon.actors.outbox import Outbox
from daemon.actors.process import ChildContext, run_child
from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.events.tidy import Tidier
from daemon.adapters.postgres.pool import PostgresPool
from daemon.config.schema import Settings
from daemon.errors import HeadgateError
from daemon.events.stored import Reason
from daemon.observe.catalog import OutboxMetrics, ProcessorMetrics, StoreMetrics
from daemon.ports import Feed
from workers.processor.letters import DeadLetters
from workers.processor.upkeep import keep_looking, keep_tidy
from workers.processor.work import Processor

#: The first try to reach PostgreSQL gets so long: it finds a DSN that can't be read. The loop does the rest.
PROBE_S = 2.0

#: What of the drain's limit is kept for closing, seconds.
CLOSE_S = 2.0

#: One connection stores, one tidies, one looks whether the server answers.
CONNECTIONS = 3

#: Collections per generation: a batch makes no cycles, so the collector seldom finds anything.
GC_THRESHOLDS = (50_000, 20, 50)


async def processor(ctx: ChildContext) -> None:
    """Store what stands on the log until a drain is asked for."""
    settings = ctx.settings
    metrics, queue = ProcessorMetrics(list(Reason)), OutboxMetrics()
    # Not shown as they are: headgate_store_up says whether events can be taken, for which nobody needs a processor.
    stores = StoreMetrics(("postgres", "kafka"))
    ctx.instruments.add(*metrics.instruments(), *queue.instruments())

    pool = PostgresPool(
        msgspec.structs.replace(
            settings.postgres, pool_max=CONNECTIONS, timeout_s=settings.processor.batch_timeout_s
        ),
        stores,
    )
    store = EventStore(pool, settings.processor.group)
    outbox = Outbox(ctx.queue_paths, slot=ctx.slot, settings=settings, metrics=queue)
    feed = _feed(settings, store, stores, metrics)
    letters = DeadLetters(outbox, settings.kafka.topic_dlq, metrics.retries.at("dead_letters"))
    work = Processor(feed, store, letters, settings.processor, metrics, store_is_up=lambda: pool.up)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PROBE_S):
            await pool.start()
    await feed.start()
    await outbox.start(wait_s=0.0)

    def health() -> Beat:
        metrics.waiting.at("postgres").n = 1 - stores.up.at("postgres").n
        metrics.waiting.at("kafka").n = 1 - stores.up.at("kafka").n if settings.kafka.brokers else 0
        return Beat(work.in_hand, True, [])  # noqa: FBT003  a struct's fields

    ctx.health = health
    tasks = [asyncio.create_task(work.run()), asyncio.create_task(keep_looking(store))]
    if ctx.slot == 0:
        tidier = Tidier(pool, store.days, settings.processor, metrics)
        tasks.append(asyncio.create_task(keep_tidy(tidier, settings.processor.tidy_s)))
    # What is here now stays for ever: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    ctx.ready("kafka" if settings.kafka.brokers else "local")

    drain = asyncio.create_task(ctx.drain_requested())
    await asyncio.wait({drain, tasks[0]}, return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        # Its loop never ends by itself: a process that does nothing must not look as if it worked.
        tasks[0].result()
        raise HeadgateError("the processor's loop has ended")
    limit_s = drain.result()
    await work.drain(tasks[0], max(limit_s - CLOSE_S, limit_s / 2))
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await feed.stop()
            await outbox.stop()
            await pool.stop()


def _feed(settings: Settings, store: EventStore, stores: StoreMetrics, metrics: ProcessorMetrics) -> Feed:
    """The log that the settings name."""
    missed = metrics.missed.at()
    from daemon.adapters.local.feed import LocalFeed

    if not settings.kafka.brokers:
        return LocalFeed(settings, store.positions, missed)
    from daemon.adapters.kafka.feed import KafkaFeed
    from workers.processor.feeds import KafkaAndRest

    rest = LocalFeed(settings, store.positions, missed, kept_only=True)
    return KafkaAndRest(KafkaFeed(settings, stores, missed), rest)


if __name__ == "__main__":
    run_child(processor)
