"""Kafka as the processor reads it: groups, commits, rebalances, retention and outages, on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from daemon.adapters.kafka import KafkaLog
from daemon.adapters.kafka.feed import KafkaFeed
from daemon.config.schema import Settings
from daemon.errors import SettingsError
from daemon.observe.catalog import StoreMetrics
from daemon.observe.metrics import Cell
from daemon.ports import PartitionBatch, Reading
from tests.servers.kafka import KafkaServer, free_port
from tests.support.logs import PATIENCE_S, batch, record

PARTITIONS = 4


class Rig:
    """A topic of its own on a broker, and members of one group."""

    def __init__(self, bootstrap: str, **kafka: object) -> None:
        name = uuid.uuid4().hex
        self.settings = msgspec.convert(
            {
                "kafka": {
                    "brokers": [bootstrap],
                    "topic_raw": f"raw-{name}",
                    "partitions": PARTITIONS,
                    "request_timeout_s": 3.0,
                    **kafka,
                },
                "publisher": {"rebuild_after_s": 1.0},
                "processor": {"group": f"group-{name}", "batch_records_max": 50},
            },
            Settings,
        )
        self.topic = self.settings.kafka.topic_raw
        self.missed = Cell()
        self.stores = StoreMetrics(("kafka",))

    async def write(self, *batches: PartitionBatch) -> None:
        log = KafkaLog(self.settings.kafka, [self.topic])
        await log.start()
        await log.append(self.topic, list(batches))
        await log.stop()

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[KafkaFeed]:
        feed = KafkaFeed(self.settings, self.stores, self.missed)
        await feed.start()
        try:
            yield feed
        finally:
            await feed.stop()

    async def remove_before(self, offset: int, partition: int = 0) -> None:
        """As the topic's retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.brokers[0])
        await admin.start()
        await admin.delete_records({TopicPartition(self.topic, partition): RecordsToDelete(offset)})
        await admin.close()


def names(reading: Reading) -> list[str]:
    return [one.value.rstrip(b".").decode() for one in reading.records]


async def take(feed: KafkaFeed, count: int) -> list[str]:
    """Read until so many records are done."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            reading = await feed.read(0.2)
            if reading is not None:
                found += names(reading)
                await feed.done(reading)
    return found


@pytest.fixture
def rig(kafka: KafkaServer) -> Rig:
    return Rig(kafka.bootstrap)


async def test_records_are_read_once_over_restarts(rig: Rig) -> None:
    await rig.write(batch(0, "a", "b"), batch(3, "c"))
    async with rig.feed() as feed:
        assert sorted(await take(feed, 3)) == ["a", "b", "c"]
        await rig.write(batch(0, "d"))
        assert await take(feed, 1) == ["d"]
    await rig.write(batch(1, "e"))
    async with rig.feed() as feed:
        assert await take(feed, 1) == ["e"]
        assert await feed.read(0.0) is None
    assert rig.missed.n == 0


async def test_what_was_not_done_comes_again_to_the_next(rig: Rig) -> None:
    await rig.write(batch(0, "a"))
    async with rig.feed() as feed:
        async with asyncio.timeout(PATIENCE_S):
            reading = None
            while reading is None:
                reading = await feed.read(0.2)
        assert names(reading) == ["a"]
        assert reading.records[0].log == rig.topic
        assert feed.lag().oldest_ms == reading.records[0].timestamp_ms or feed.lag().records == 0
    async with rig.feed() as feed:
        assert await take(feed, 1) == ["a"]


async def test_what_was_not_done_comes_again_to_the_same(rig: Rig) -> None:
    """Whatever went wrong with a reading: nothing behind it may be committed over it."""
    await rig.write(
        *(batch(partition, *(f"{partition}-{n}" for n in range(30))) for partition in range(PARTITIONS))
    )
    async with rig.feed() as feed:
        async with asyncio.timeout(PATIENCE_S):
            reading = None
            while reading is None:
                reading = await feed.read(0.2)
            again = await feed.read(0.2)
        assert again is not None
        await feed.done(again)
        found = names(again) + await take(feed, 30 * PARTITIONS - len(again.records))
    assert sorted(found) == sorted(f"{partition}-{n}" for partition in range(PARTITIONS) for n in range(30))
    assert rig.missed.n == 0


async def test_readings_are_bounded_and_in_order(rig: Rig) -> None:
    await rig.write(
        *(batch(number % PARTITIONS, *(f"{number}-{n}" for n in range(30))) for number in range(8))
    )
    async with rig.feed() as feed, asyncio.timeout(PATIENCE_S):
        found: list[str] = []
        while len(found) < 240:
            reading = await feed.read(0.2)
            if reading is not None:
                assert len(reading.records) <= 50
                found += names(reading)
                await feed.done(reading)
    for number in range(8):
        own = [name for name in found if name.startswith(f"{number}-")]
        assert own == [f"{number}-{n}" for n in range(30)]


async def test_two_members_share_and_take_over(rig: Rig) -> None:
    await rig.write(*(batch(partition, f"first-{partition}") for partition in range(PARTITIONS)))
    found: dict[str, list[str]] = {"one": [], "two": []}
    ended = asyncio.Event()

    async def consume(name: str, feed: KafkaFeed, until: asyncio.Event) -> None:
        while not until.is_set():
            reading = await feed.read(0.1)
            if reading is not None:
                found[name] += names(reading)
                await feed.done(reading)

    async def all_of(count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(set(found["one"]) | set(found["two"])) < count:
                await asyncio.sleep(0.02)

    one_ended = asyncio.Event()
    async with rig.feed() as two:
        async with rig.feed() as one:
            first = asyncio.create_task(consume("one", one, one_ended))
            await all_of(PARTITIONS)
            second = asyncio.create_task(consume("two", two, ended))
            # Both have partitions when what goes to all of them reaches both.
            for turn in range(1000):
                await rig.write(
                    *(batch(partition, f"t{turn}-{partition}") for partition in range(PARTITIONS))
                )
                await all_of(PARTITIONS * (turn + 2))
                if found["one"] and found["two"]:
                    break
            one_ended.set()
            await first
        total = len(set(found["one"]) | set(found["two"]))
        await rig.write(*(batch(partition, f"last-{partition}") for partition in range(PARTITIONS)))
        await all_of(total + PARTITIONS)
        ended.set()
        await second
    assert {f"last-{n}" for n in range(PARTITIONS)} <= set(found["two"])


async def test_partitions_that_go_take_what_is_in_hand_with_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is away, and a second member comes: it reads what the first one can't finish."""
    monkeypatch.setattr("daemon.adapters.kafka.feed.REVOKE_WAIT_S", 0.1)
    await rig.write(*(batch(partition, f"{partition}") for partition in range(PARTITIONS)))
    async with rig.feed() as one, rig.feed() as two:
        held: list[Reading] = []
        async with asyncio.timeout(PATIENCE_S):
            while not held:
                reading = await one.read(0.2)
                if reading is not None:
                    held.append(reading)
        assert not one.stale(held[0])
        again: set[str] = set()

        async def consume(feed: KafkaFeed) -> None:
            while len(again) < PARTITIONS:
                reading = await feed.read(0.1)
                if reading is not None:
                    again.update(names(reading))
                    await feed.done(reading)

        joining = asyncio.create_task(consume(two))
        async with asyncio.timeout(PATIENCE_S):
            while not one.stale(held[0]):
                await asyncio.sleep(0.01)
            # It may finish all the same; that must not move offsets that are not its own any more.
            await one.done(held[0])
            await asyncio.gather(joining, consume(one))
    assert again == {str(n) for n in range(PARTITIONS)}


async def test_what_retention_took_before_it_was_read_is_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.write(batch(0, "a"))
    async with rig.feed() as feed:
        assert await take(feed, 1) == ["a"]
    await rig.write(batch(0, "b", "c", "d"))
    await rig.remove_before(3)
    async with rig.feed() as feed:
        assert await take(feed, 1) == ["d"]
    assert rig.missed.n == 2
    assert "2 records of" in caplog.text


async def test_lag(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.adapters.kafka.feed.LOOK_S", 0.05)
    await rig.write(batch(0, *(f"{n}" for n in range(120))), batch(1, "x"))
    async with rig.feed() as feed:
        async with asyncio.timeout(PATIENCE_S):
            reading = None
            while reading is None:
                reading = await feed.read(0.2)
            while feed.lag().records != 121:
                await asyncio.sleep(0.02)
        assert feed.lag().oldest_ms == min(one.timestamp_ms for one in reading.records)
        await feed.done(reading)
        assert feed.lag().records == 121 - len(reading.records)
        await take(feed, 121 - len(reading.records))
        assert feed.lag().records == 0


async def test_empty_values_and_large_ones(rig: Rig) -> None:
    await rig.write(PartitionBatch(0, [record("x", size=900_000), record("y")]))
    async with rig.feed() as feed:
        assert await take(feed, 2) == ["x", "y"]


async def test_a_topic_that_is_not_there_yet_is_waited_for(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig.feed() as feed:
        assert await feed.read(0.0) is None
        assert await feed.read(0.0) is None
        assert rig.stores.up.at("kafka").n == 0
        await rig.write(batch(0, "a"))
        assert await take(feed, 1) == ["a"]
        assert rig.stores.up.at("kafka").n == 1
    assert caplog.text.count("is not there yet") == 1


async def test_an_outage_is_sat_out(
    new_kafka: Callable[..., KafkaServer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.adapters.kafka.feed.LOOK_S", 0.2)
    server = new_kafka(port=free_port())
    rig = Rig(server.bootstrap)
    async with rig.feed() as feed:
        assert await feed.read(0.0) is None  # it is not there yet at all
        await server.start()
        await rig.write(batch(0, "a"))
        assert await take(feed, 1) == ["a"]
        await server.kill()
        reader = asyncio.create_task(take(feed, 1))
        async with asyncio.timeout(PATIENCE_S):
            while rig.stores.up.at("kafka").n:
                await asyncio.sleep(0.05)
        await server.start()
        await rig.write(batch(0, "b"))
        found = await reader
        # The last commit may have been lost with the broker: a copy is all that it costs.
        assert set(found) <= {"a", "b"}
        if "b" not in found:
            assert "b" in await take(feed, 1)
    assert caplog.text.count("can't be read, the processor waits") == 2


async def test_settings_that_can_not_work_are_told_at_the_start(tmp_path: object) -> None:
    rig = Rig("127.0.0.1:1", security_protocol="SSL", ssl_ca_file="/nowhere.pem")
    feed = KafkaFeed(rig.settings, rig.stores, rig.missed)
    with pytest.raises(SettingsError, match="nowhere"):
        await feed.start()
    with contextlib.suppress(RuntimeError):
        await feed.stop()
