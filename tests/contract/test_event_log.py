"""What every event log promises, checked on each of them: real Kafka, and the local log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from daemon.adapters.kafka import KafkaLog, KafkaReader
from daemon.adapters.local import LocalLog, LocalReader
from daemon.config.schema import Kafka, Settings
from daemon.ports import EventLog, LogReader, PartitionBatch, Record
from tests.servers.kafka import KafkaServer
from tests.servers.tools import ROOT
from tests.support.logs import NOW_MS, PATIENCE_S, batch, ids, record, stored

PARTITIONS = 6


@dataclass
class Rig:
    """One kind of log with a topic of its own; `log()` and `reader()` make new ones on the same data."""

    kind: str
    settings: Settings
    topic: str
    made: list[EventLog | LogReader] = field(default_factory=list)

    async def log(self) -> EventLog:
        log: EventLog = (
            KafkaLog(self.settings.kafka, [self.topic])
            if self.kind == "kafka"
            else LocalLog(self.settings, 0, spool=False)
        )
        await log.start()
        self.made.append(log)
        return log

    def reader(self) -> LogReader:
        reader: LogReader = (
            KafkaReader(self.settings.kafka) if self.kind == "kafka" else LocalReader(self.settings)
        )
        self.made.append(reader)
        return reader

    async def stop(self, log: EventLog) -> None:
        self.made.remove(log)
        await log.stop()


@pytest.fixture(params=["kafka", "local"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Each kind of log. Not a coroutine: the broker's fixture runs a loop of its own."""
    topic = f"test-{uuid.uuid4().hex}"
    brokers: tuple[str, ...] = ()
    if request.param == "kafka":
        server: KafkaServer = request.getfixturevalue("kafka")
        brokers = (server.bootstrap,)
    kafka = Kafka(brokers=brokers, topic_raw=topic, partitions=PARTITIONS)
    return Rig(request.param, Settings(data_dir=str(tmp_path), kafka=kafka), topic)


@pytest.fixture
async def rig(empty: Rig) -> AsyncIterator[Rig]:
    """Each kind of log, empty; what the test made is stopped after it."""
    yield empty
    for one in empty.made:
        await one.stop()


async def test_what_was_appended_is_read_back(rig: Rig) -> None:
    log = await rig.log()
    sent = Record(b"acme/v1", b'{"id":"e1"}', "e1", "datafly", "page", "acme", NOW_MS - 1234)
    assert await log.append(rig.topic, [PartitionBatch(2, [sent])]) == rig.kind
    (found,) = await stored(rig.reader(), rig.topic)
    assert found.record == sent
    assert found.partition == 2
    assert found.log


async def test_text_of_any_script_and_bytes_of_any_value(rig: Rig) -> None:
    log = await rig.log()
    sent = Record(bytes(range(256)), "größe 数量 🧪".encode(), "ид-1", "datafly", "track", "Łódź 🏢", NOW_MS)
    await log.append(rig.topic, [PartitionBatch(0, [sent])])
    (found,) = await stored(rig.reader(), rig.topic)
    assert found.record == sent


async def test_partitions_are_those_of_the_settings(rig: Rig) -> None:
    log = await rig.log()
    assert log.partitions(rig.topic) == PARTITIONS
    await log.append(rig.topic, [batch(number, f"p{number}") for number in range(PARTITIONS)])
    found = await stored(rig.reader(), rig.topic)
    assert {one.partition: one.record.id for one in found} == {n: f"p{n}" for n in range(PARTITIONS)}


async def test_order_holds_within_each_partition(rig: Rig) -> None:
    log = await rig.log()
    for step in range(20):
        await log.append(
            rig.topic, [batch(number, *(f"{number}-{step}-{k}" for k in range(7))) for number in range(3)]
        )
    found = await stored(rig.reader(), rig.topic)
    for number in range(3):
        assert ids(found, number) == [f"{number}-{step}-{k}" for step in range(20) for k in range(7)]
        offsets = [one.offset for one in found if one.partition == number]
        assert offsets == sorted(set(offsets))


async def test_appends_that_overlap_all_arrive_in_the_order_in_which_they_began(rig: Rig) -> None:
    log = await rig.log()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(log.append(rig.topic, [batch(n % 2, f"{n}")]) for n in range(500)))
    found = await stored(rig.reader(), rig.topic)
    assert ids(found, 0) == [f"{n}" for n in range(0, 500, 2)]
    assert ids(found, 1) == [f"{n}" for n in range(1, 500, 2)]


async def test_two_batches_of_one_partition_in_one_append_keep_their_order(rig: Rig) -> None:
    log = await rig.log()
    await log.append(rig.topic, [batch(1, "a", "b"), batch(0, "x"), batch(1, "c")])
    found = await stored(rig.reader(), rig.topic)
    assert ids(found, 1) == ["a", "b", "c"]
    offsets = [one.offset for one in found if one.partition == 1]
    assert offsets == sorted(set(offsets))


async def test_records_as_big_as_a_body_may_be(rig: Rig) -> None:
    log = await rig.log()
    size = rig.settings.limits.body_bytes_max + 32 * 1024
    sent = [record(f"big-{n}", size=size) for n in range(5)]
    await log.append(rig.topic, [PartitionBatch(0, [*sent, record("small")]), batch(1, "other")])
    found = await stored(rig.reader(), rig.topic)
    assert ids(found, 0) == [*(f"big-{n}" for n in range(5)), "small"]
    assert {len(one.record.value) for one in found if one.record.id.startswith("big")} == {size}


async def test_many_records_at_once(rig: Rig) -> None:
    log = await rig.log()
    names = [f"{n}" for n in range(30_000)]
    await log.append(rig.topic, [PartitionBatch(4, [record(name) for name in names])])
    assert ids(await stored(rig.reader(), rig.topic), 4) == names


async def test_nothing_appended_is_nothing_stored(rig: Rig) -> None:
    log = await rig.log()
    await log.append(rig.topic, [])
    await log.append(rig.topic, [PartitionBatch(0, [])])
    assert await stored(rig.reader(), rig.topic) == []


async def test_stop_finishes_what_is_in_work(rig: Rig) -> None:
    log = await rig.log()
    appends = [asyncio.ensure_future(log.append(rig.topic, [batch(0, f"{n}")])) for n in range(50)]
    await asyncio.sleep(0)
    await rig.stop(log)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*appends)
    assert ids(await stored(rig.reader(), rig.topic)) == [f"{n}" for n in range(50)]


async def test_the_log_outlives_its_writer(rig: Rig) -> None:
    first = await rig.log()
    await first.append(rig.topic, [batch(0, "before")])
    await rig.stop(first)
    second = await rig.log()
    await second.append(rig.topic, [batch(0, "after")])
    found = await stored(rig.reader(), rig.topic)
    assert ids(found) == ["before", "after"]
    assert found[0].offset < found[1].offset


async def test_an_append_that_was_given_up_does_not_disturb_the_others(rig: Rig) -> None:
    log = await rig.log()
    given_up = asyncio.ensure_future(log.append(rig.topic, [batch(0, "given-up")]))
    kept = asyncio.ensure_future(log.append(rig.topic, [batch(0, "kept")]))
    await asyncio.sleep(0)
    given_up.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await kept
    with contextlib.suppress(asyncio.CancelledError):
        await given_up
    await log.append(rig.topic, [batch(0, "later")])
    found = ids(await stored(rig.reader(), rig.topic))
    assert [name for name in found if name != "given-up"] == ["kept", "later"]


async def test_reading_from_a_point_in_time(rig: Rig) -> None:
    log = await rig.log()
    for minute in range(5):
        moment = NOW_MS - (5 - minute) * 60_000
        await log.append(
            rig.topic, [PartitionBatch(n, [record(f"{minute}-{n}", timestamp_ms=moment)]) for n in range(3)]
        )
    since = NOW_MS - 2 * 60_000 - 1
    found = await stored(rig.reader(), rig.topic, since)
    assert sorted(ids(found)) == ["3-0", "3-1", "3-2", "4-0", "4-1", "4-2"]
    assert await stored(rig.reader(), rig.topic, NOW_MS + 60_000) == []
    assert len(await stored(rig.reader(), rig.topic, NOW_MS - 3_600_000)) == 15


async def test_a_reader_that_does_not_follow_ends_at_what_was_there(rig: Rig) -> None:
    log = await rig.log()
    await log.append(rig.topic, [batch(0, *(f"{n}" for n in range(50)))])
    found: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        async for one in rig.reader().read(rig.topic, None, follow=False):
            if not found:
                await log.append(rig.topic, [batch(0, "too late")])
            found.append(one.record.id)
    assert found == [f"{n}" for n in range(50)]


async def test_a_reader_that_follows_gets_what_comes_later(rig: Rig) -> None:
    log = await rig.log()
    await log.append(rig.topic, [batch(0, "old")])
    following = rig.reader().read(rig.topic, None, follow=True)
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(following)).record.id == "old"
        for n in range(3):
            await log.append(rig.topic, [batch(n, f"new-{n}")])
            assert (await anext(following)).record.id == f"new-{n}"
    await following.aclose()  # type: ignore[attr-defined]


async def test_other_topics_are_not_seen(rig: Rig) -> None:
    log = await rig.log()
    await log.append(rig.topic, [batch(0, "mine")])
    if rig.kind == "local":
        await log.append("another", [batch(0, "not mine")])
    assert ids(await stored(rig.reader(), rig.topic)) == ["mine"]


async def test_reading_while_others_write(rig: Rig) -> None:
    log = await rig.log()
    following = rig.reader().read(rig.topic, None, follow=True)
    found: list[str] = []

    async def write() -> None:
        for n in range(300):
            await log.append(rig.topic, [batch(0, f"{n}")])

    writing = asyncio.create_task(write())
    async with asyncio.timeout(PATIENCE_S):
        async for one in following:
            found.append(one.record.id)
            if len(found) == 300:
                break
        await writing
    assert found == [f"{n}" for n in range(300)]
    await following.aclose()  # type: ignore[attr-defined]


async def test_what_was_acknowledged_survives_kill_9_of_the_writer(rig: Rig) -> None:
    await rig.log()  # makes the topic and the file
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.log_writer", rig.kind),
        *(msgspec.json.encode(rig.settings).decode(), rig.topic),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdout is not None
    acknowledged: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(acknowledged) < 200:
                acknowledged.append((await writer.stdout.readline()).decode().strip())
    finally:
        writer.kill()
    # What it had printed when it died counts too.
    acknowledged += (await writer.stdout.read()).decode().split("\n")[:-1]
    await writer.wait()
    found = await stored(rig.reader(), rig.topic)
    assert set(acknowledged) <= set(ids(found))
    for number in range(4):
        numbers = [int(name.split("-")[1]) for name in ids(found, number)]
        assert numbers == list(range(len(numbers)))


async def test_headers_are_there_for_any_kafka_client(kafka: KafkaServer) -> None:
    topic = f"test-{uuid.uuid4().hex}"
    log = KafkaLog(Kafka(brokers=(kafka.bootstrap,), topic_raw=topic, partitions=1))
    await log.start()
    await log.append(
        topic, [PartitionBatch(0, [Record(b"k", b"v", "e1", "tracklayer", "page", "añ", NOW_MS)])]
    )
    await log.stop()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            message = await consumer.getone()
    finally:
        await consumer.stop()
    assert message.headers == (
        ("id", b"e1"),
        ("contract", b"tracklayer"),
        ("type", b"page"),
        ("tenant", "añ".encode()),
    )
    assert (message.key, message.value, message.timestamp) == (b"k", b"v", NOW_MS)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read_back(kafka: KafkaServer, compression: str) -> None:
    topic = f"test-{uuid.uuid4().hex}"
    settings = msgspec.convert(
        {"brokers": [kafka.bootstrap], "topic_raw": topic, "partitions": 1, "compression": compression},
        type=Kafka,
    )
    log = KafkaLog(settings)
    await log.start()
    await log.append(topic, [batch(0, *(f"{n}" for n in range(100)))])
    await log.stop()
    assert ids(await stored(KafkaReader(settings), topic)) == [f"{n}" for n in range(100)]
