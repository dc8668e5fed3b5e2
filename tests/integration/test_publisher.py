"""The publisher as a process: ready, killed, replaced, drained, with nothing acknowledged lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from daemon.actors.messages import Failed
from daemon.actors.outbox import Outbox
from daemon.adapters.kafka import KafkaReader
from daemon.adapters.local import LocalLog, LocalReader
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.observe.catalog import OutboxMetrics
from daemon.ports import PartitionBatch
from tests.servers.kafka import KafkaServer, free_port
from tests.support.logs import NOW_MS, PATIENCE_S, batch, ids, record, stored, until
from tests.support.publisher import PublisherSlot

SlotOf = Callable[..., PublisherSlot]


@pytest.fixture
async def slot_of(tmp_path: Path) -> AsyncIterator[SlotOf]:
    """Make a publisher's slot with these brokers and settings of the local log."""
    made: list[PublisherSlot] = []

    def make(*brokers: str, **log: object) -> PublisherSlot:
        kafka = {"brokers": brokers, "partitions": 4, "topic_raw": f"raw-{tmp_path.name}"}
        kafka |= {"topic_dlq": f"dlq-{tmp_path.name}"}
        settings = msgspec.convert(
            {
                "data_dir": str(tmp_path / "data"),
                "kafka": kafka,
                "log": {"headroom_bytes": 0} | log,
                "publisher": {"probe_s": 0.1},
                "frontend": {"answer_timeout_s": PATIENCE_S},
            },
            type=Settings,
        )
        made.append(PublisherSlot(settings, tmp_path))
        return made[-1]

    yield make
    for one in made:
        await one.close()


class Traffic:
    """A frontend that publishes without a pause and keeps what was acknowledged."""

    def __init__(self, slot: PublisherSlot) -> None:
        self.topic = slot.settings.kafka.topic_raw
        self.outbox = Outbox([slot.path], slot=0, settings=slot.settings, metrics=OutboxMetrics())
        self.acknowledged: list[str] = []
        self.lanes: list[asyncio.Task[None]] = []
        self._stop = False

    async def start(self) -> None:
        await self.outbox.start()
        self.lanes = [asyncio.create_task(self._lane(number)) for number in range(4)]

    async def more(self, events: int = 100) -> None:
        """Wait until `events` more are acknowledged."""
        enough = len(self.acknowledged) + events
        await until(lambda: len(self.acknowledged) >= enough, "traffic")

    async def stop(self) -> None:
        self._stop = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self.lanes)
        await self.outbox.stop()

    async def _lane(self, number: int) -> None:
        n = 0
        while not self._stop:
            name = f"{number}-{n}"
            await self.outbox.publish(self.topic, [batch(number, name)], 1, 100)
            self.acknowledged.append(name)
            n += 1


def assert_whole(found: list[str], acknowledged: list[str]) -> None:
    """Check that all that was acknowledged is there, each lane in order (copies aside)."""
    assert set(acknowledged) <= set(found)
    for number in range(4):
        first_times = list(dict.fromkeys(name for name in found if name.startswith(f"{number}-")))
        assert first_times == [f"{number}-{n}" for n in range(len(first_times))]


async def test_without_kafka_kill_9_under_load_loses_nothing(slot_of: SlotOf) -> None:
    slot = slot_of()
    process = await slot.start()
    assert await process.ready() == "local"
    traffic = Traffic(slot)
    await traffic.start()
    for _ in range(3):
        await traffic.more()
        await process.kill()
        process = await slot.start()
    await traffic.more()
    await traffic.stop()
    assert await process.drain() == 0
    found = ids(await stored(LocalReader(slot.settings), traffic.topic))
    assert_whole(found, traffic.acknowledged)


async def test_with_kafka_kill_9_under_load_loses_nothing(slot_of: SlotOf, kafka: KafkaServer) -> None:
    slot = slot_of(kafka.bootstrap)
    process = await slot.start()
    assert await process.ready() == "kafka"
    traffic = Traffic(slot)
    await traffic.start()
    for _ in range(2):
        await traffic.more()
        await process.kill()
        process = await slot.start()
    await traffic.more()
    await traffic.stop()
    assert await process.drain() == 0
    found = ids(await stored(KafkaReader(slot.settings.kafka), traffic.topic))
    assert_whole(found, traffic.acknowledged)


async def test_a_publisher_is_replaced_under_load_without_loss_or_copies(slot_of: SlotOf) -> None:
    slot = slot_of()
    process = await slot.start()
    await process.ready()
    traffic = Traffic(slot)
    await traffic.start()
    for _ in range(3):
        await traffic.more()
        successor = await slot.start()
        await successor.ready()
        assert await process.drain() == 0
        process = successor
    await traffic.more()
    await traffic.stop()
    found = ids(await stored(LocalReader(slot.settings), traffic.topic))
    assert_whole(found, traffic.acknowledged)
    assert len(found) == len(set(found)), "a planned replacement makes no copies"


async def test_it_is_ready_without_kafka_and_says_so(slot_of: SlotOf) -> None:
    slot = slot_of(f"127.0.0.1:{free_port()}")
    process = await slot.start()
    assert await process.ready() == "local, Kafka is away"
    traffic = Traffic(slot)
    await traffic.start()
    await traffic.more(20)
    await traffic.stop()
    await until(lambda: process.beat is not None, "a beat")
    assert process.beat is not None
    assert (process.beat.serving, process.beat.reasons) == (True, [])
    assert process.sample("headgate_store_up", store="kafka") == 0
    assert process.sample("headgate_store_outages_total", store="kafka") == 1
    await until(lambda: process.sample("headgate_spool_records") == len(traffic.acknowledged), "the metrics")
    assert process.sample("headgate_log_records_total", durability="local") == len(traffic.acknowledged)
    assert await process.drain() == 0


async def test_a_log_without_room_is_not_serving(slot_of: SlotOf) -> None:
    slot = slot_of(bytes_max=1024 * 1024)
    process = await slot.start()
    await process.ready()
    outbox = Outbox([slot.path], slot=0, settings=slot.settings, metrics=OutboxMetrics())
    await outbox.start()
    topic = slot.settings.kafka.topic_raw
    with pytest.raises(LogUnavailable, match=r"log\.bytes_max"):  # noqa: PT012  the how-manieth is not known
        for n in range(200):
            await outbox.publish(topic, [batch(0, *(f"{n}-{k}" for k in range(200)))], 200, 20_000)
    await until(lambda: process.beat is not None and not process.beat.serving, "a beat that says so")
    assert process.beat is not None
    assert "log.bytes_max is reached" in process.beat.reasons[0]
    await outbox.drain(PATIENCE_S)
    await outbox.stop()
    assert await process.drain() == 0


async def test_files_of_slots_that_are_no_more_are_still_tidied(slot_of: SlotOf) -> None:
    slot = slot_of(retention_s=3600.0)
    orphan = LocalLog(slot.settings, 5, spool=False)
    await orphan.append(
        "t",
        [
            PartitionBatch(
                0, [record("old", timestamp_ms=NOW_MS - 7_200_000), record("older", timestamp_ms=1)]
            )
        ],
    )
    await orphan.append("t", [batch(0, "young")])
    await orphan.stop()
    process = await slot.start()
    await process.ready()
    async with asyncio.timeout(PATIENCE_S):
        while ids(await stored(LocalReader(slot.settings), "t")) != ["young"]:
            await asyncio.sleep(0.01)
    assert await process.drain() == 0


async def test_settings_that_cannot_work_end_it_with_78(slot_of: SlotOf) -> None:
    slot = slot_of("127.0.0.1:1")
    kafka = msgspec.structs.replace(slot.settings.kafka, security_protocol="SASL_SSL")
    slot.settings = msgspec.structs.replace(slot.settings, kafka=kafka)
    process = await slot.start()
    assert await process.ended() == 78
    (failed,) = [message for message in process.said if isinstance(message, Failed)]
    assert "kafka.sasl_username" in failed.reason
