"""
What storing an event costs: CPU of the processor and of PostgreSQL, and events per second.

    python -m bench.processor                          50,000 events of Datafly Signal
    python -m bench.processor --contract resultfly     with profiles: three identifiers each, a third of them known
    python -m bench.processor --copies 0.5             half of them a second time
    python -m bench.processor --kafka 127.0.0.1:9092   from your Kafka (a topic of its own) instead of the local log

Writes the events to a local log, then drains it into an embedded PostgreSQL (with its own fsync) by the processor's
own loop, in this process, as fast as it goes. Everything lives in a temporary folder and ends with the bench.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import uvloop

from daemon.actors.outbox import Outbox
from daemon.adapters.embedded.postgres import start_postgres
from daemon.adapters.kafka import KafkaLog
from daemon.adapters.kafka.feed import KafkaFeed
from daemon.adapters.local import LocalLog
from daemon.adapters.local.feed import LocalFeed
from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.config.schema import Settings
from daemon.events.stored import Reason
from daemon.observe.catalog import OutboxMetrics, ProcessorMetrics, StoreMetrics
from daemon.ports import Feed, PartitionBatch, Record
from workers.processor.letters import DeadLetters
from workers.processor.work import Processor

#: Records of one append, as a publisher writes them under load.
ROW_RECORDS = 50
#: What the bench never goes over.
EVENTS_MAX = 5_000_000
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Cost:
    """CPU seconds that were used until now."""

    processor: float
    postgres: float
    wall: float


def main() -> None:
    """Run the bench as the arguments say."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.processor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=50_000, help="events, copies not counted (50000)")
    parser.add_argument("--contract", choices=("datafly", "resultfly"), default="datafly")
    parser.add_argument("--copies", type=float, default=0.0, help="share of events that come twice (0)")
    parser.add_argument("--padding", type=int, default=300, help="bytes that make an event longer (300)")
    parser.add_argument("--kafka", default="", metavar="HOST:PORT", help="a broker to read from")
    parser.add_argument("--batch", type=int, default=0, help="processor.batch_records_max (the default)")
    given = parser.parse_args()
    if not 1 <= given.events <= EVENTS_MAX:
        parser.error(f"--events is 1 to {EVENTS_MAX}")
    with (
        tempfile.TemporaryDirectory(prefix="hgb-", dir="/tmp") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(folder), given))


async def measure(folder: Path, given: argparse.Namespace) -> None:
    """Write, drain, tell."""
    server = await start_postgres(folder / "postgres", folder)
    settings = msgspec.convert(
        {
            "data_dir": str(folder / "data"),
            "postgres": {"dsn": server.dsn, "timeout_s": 30.0, "pool_max": 2},
            "log": {"headroom_bytes": 0},
            "kafka": {"brokers": [given.kafka] if given.kafka else [], "topic_raw": f"bench-{uuid4().hex}"},
            "processor": {"batch_wait_s": 0.0} | ({"batch_records_max": given.batch} if given.batch else {}),
        },
        Settings,
    )
    pool = PostgresPool(settings.postgres)
    try:
        await pool.start()
        await migrate(pool)
        records = await write(settings, given)
        cost, metrics = await drain(settings, pool, records, server.pid)
    finally:
        await pool.stop()
        await server.stop()
    stored = metrics.records.at("stored").n
    assert stored == given.events, f"{stored:g} of {given.events} events are stored"
    batches = metrics.batch_records.at().total / sum(metrics.batch_records.at().counts)
    print(f"{records:,} records, {stored:,.0f} stored, in batches of {batches:,.0f}: {given.contract}")
    print(f"  {records / cost.wall:10,.0f} records/s")
    print(f"  {1e6 * cost.processor / records:10.1f} µs of CPU per record, processor")
    print(f"  {1e6 * cost.postgres / records:10.1f} µs of CPU per record, PostgreSQL")
    print(f"  {records / (cost.processor + cost.postgres):10,.0f} records/s if both shared one core")


async def write(settings: Settings, given: argparse.Namespace) -> int:
    """Put the events on the local log; gives the number of records."""
    rng = random.Random(1)
    topic = settings.kafka.topic_raw
    log = KafkaLog(settings.kafka, [topic]) if given.kafka else LocalLog(settings, 0, spool=False)
    await log.start()
    lanes = log.partitions(topic)
    now = datetime.now(UTC)
    stamp, now_ms = now.isoformat(timespec="milliseconds"), int(now.timestamp() * 1000)
    waiting: list[Record] = []
    records = 0
    for number in range(given.events):
        value = envelope(number, given, stamp, rng)
        for _ in range(2 if rng.random() < given.copies else 1):
            waiting.append(Record(b"", value, "", given.contract, "track", "acme", now_ms))
            records += 1
        if len(waiting) >= ROW_RECORDS or number == given.events - 1:
            await log.append(topic, [PartitionBatch(number % lanes, waiting)])
            waiting = []
    await log.stop()
    return records


def envelope(number: int, given: argparse.Namespace, stamp: str, rng: random.Random) -> bytes:
    """One event as the frontends write it."""
    found: dict[str, object] = {
        "id": f"{rng.getrandbits(128):032x}",
        "schema": 1,
        "contract": given.contract,
        "channel": "server",
        "tenant": "acme",
        "source": "src_Zw5GbiLtqEH7KnjV",
        "type": "track",
        "event": "Order Completed",
        "anonymousId": f"{rng.getrandbits(128):032x}",
        "properties": {"order_id": number, "total": 129.99, "padding": "x" * given.padding},
        "timestamp": stamp,
        "receivedAt": stamp,
        "messageId": f"m-{number}",
    }
    if given.contract == "resultfly":
        person = rng.randrange(max(1, given.events // 3))
        found["identity"] = [
            {"type": "EXTERNAL", "value": f"user_{person}"},
            {"type": "EMAIL", "value": f"user{person}@example.com"},
            {"type": "DEVICE_KEY", "value": f"device-{number % (given.events // 2 + 1)}"},
        ]
    return json.dumps(found, separators=(",", ":")).encode()


async def drain(
    settings: Settings, pool: PostgresPool, records: int, postgres: int
) -> tuple[Cost, ProcessorMetrics]:
    """Let the processor's loop store all of it; gives what that cost."""
    metrics = ProcessorMetrics(list(Reason))
    store = EventStore(pool, "bench")
    outbox = Outbox(["/nowhere"], slot=0, settings=settings, metrics=OutboxMetrics())
    letters = DeadLetters(outbox, settings.kafka.topic_dlq, metrics.retries.at("dead_letters"))
    feed: Feed = LocalFeed(settings, store.positions, metrics.missed.at())
    if settings.kafka.brokers:
        feed = KafkaFeed(settings, StoreMetrics(("kafka",)), metrics.missed.at())
    work = Processor(feed, store, letters, settings.processor, metrics, store_is_up=lambda: pool.up)
    await feed.start()
    before = used(postgres)
    task = asyncio.create_task(work.run())
    async with asyncio.timeout(PATIENCE_S):
        while metrics.records.total() < records:
            await asyncio.sleep(0.01)
    after = used(postgres)
    await work.drain(task, 5.0)
    await feed.stop()
    cost = Cost(
        after.processor - before.processor, after.postgres - before.postgres, after.wall - before.wall
    )
    return cost, metrics


def used(postgres: int) -> Cost:
    """CPU of this process with its threads, and of a server with its children."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if stat.parent.name == str(postgres) or fields[1] == str(postgres):
            total += int(fields[11]) + int(fields[12])
    ticks = os.sysconf("SC_CLK_TCK")
    return Cost(time.process_time(), total / ticks, time.monotonic())


if __name__ == "__main__":
    main()
