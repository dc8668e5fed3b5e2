"""The processor as a process: killed, doubled, cut off from PostgreSQL and the publishers, fed with poison."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from daemon.actors.outbox import Outbox
from daemon.adapters.embedded.postgres import start_postgres
from daemon.adapters.kafka import KafkaReader
from daemon.adapters.local import LocalReader
from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.migrate import migrate
from daemon.config.schema import Settings
from daemon.events.stored import Reason
from daemon.observe.catalog import OutboxMetrics
from daemon.ports import LogReader, PartitionBatch, Record
from tests.servers.kafka import KafkaServer
from tests.support.logs import PATIENCE_S, stored, until
from tests.support.processing import cdp, envelope, event_store, ids, one_number, pool_of, rows, running_pool
from tests.support.processor import ProcessorProcess
from tests.support.publisher import PublisherSlot


class Rig:
    """A publisher and processors on one log, and a way to put anything on it."""

    def __init__(
        self, folder: Path, dsn: str, brokers: Sequence[str] = (), *, topic_raw: str = "", **processor: object
    ) -> None:
        name = uuid.uuid4().hex
        self.settings = msgspec.convert(
            {
                "data_dir": str(folder / "data"),
                "kafka": {
                    "brokers": brokers,
                    "topic_raw": topic_raw or f"raw-{name}",
                    "topic_dlq": f"dlq-{name}",
                    "partitions": 4,
                },
                "log": {"headroom_bytes": 0},
                "publisher": {"probe_s": 0.1},
                "postgres": {"dsn": dsn},
                "processor": {
                    "group": f"group-{name}",
                    "batch_wait_s": 0.01,
                    "retention_s": 0.0,
                    **processor,
                },
            },
            Settings,
        )
        self.publisher = PublisherSlot(self.settings, folder)
        self.outbox = Outbox([self.publisher.path], slot=0, settings=self.settings, metrics=OutboxMetrics())
        self.processors: list[ProcessorProcess] = []

    async def start(self) -> None:
        publisher = await self.publisher.start()
        await publisher.ready()
        await self.outbox.start()

    async def close(self) -> None:
        for one in self.processors:
            await one.kill()
        await self.outbox.stop()
        await self.publisher.close()

    async def processor(self, slot: int = 0) -> ProcessorProcess:
        made = ProcessorProcess(self.settings, [self.publisher.path], slot)
        self.processors.append(made)
        return await made.start()

    async def write(self, values: Sequence[bytes]) -> None:
        """Put these on the log; each a record of its own."""
        lanes: dict[int, list[Record]] = {}
        for number, value in enumerate(values):
            record = Record(b"key", value, "id", "datafly", "track", "acme", int(time.time() * 1000))
            lanes.setdefault(number % 4, []).append(record)
        batches = [PartitionBatch(lane, records) for lane, records in lanes.items()]
        await self.outbox.publish(
            self.settings.kafka.topic_raw, batches, len(values), sum(len(value) for value in values)
        )

    async def letters(self) -> list[dict[str, Any]]:
        """The dead letters that are on the log."""
        settings = self.settings
        reader: LogReader = KafkaReader(settings.kafka) if settings.kafka.brokers else LocalReader(settings)
        found = await stored(reader, settings.kafka.topic_dlq)
        await reader.stop()
        return [json.loads(one.record.value) for one in found]


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    try:
        await rig.start()
        yield rig
    finally:
        await rig.close()


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[EventStore]:
    async with event_store(postgres_dsn) as made:
        yield made


@pytest.fixture
async def rig(tmp_path: Path, store: EventStore, postgres_dsn: str) -> AsyncIterator[Rig]:
    """Without Kafka."""
    async with running(Rig(tmp_path, postgres_dsn)) as made:
        yield made


async def stored_are(store: EventStore, count: int, deadline_s: float = PATIENCE_S) -> None:
    """Wait until so many events are stored."""
    async with asyncio.timeout(deadline_s):
        while await one_number(store, "SELECT count(*) FROM events") < count:
            await asyncio.sleep(0.02)


async def test_what_is_on_the_log_is_stored_once(rig: Rig, store: EventStore) -> None:
    await rig.write([envelope(number) for number in range(50)])
    processor = await rig.processor()
    await stored_are(store, 50)
    # Copies, new ones and a person, through the publisher as everything else.
    await rig.write([*(envelope(number) for number in range(40, 60)), cdp("cdp", {"EMAIL": "a@x"})])
    await stored_are(store, 61)
    assert sorted(await ids(store)) == sorted([*(f"evt_{number}" for number in range(60)), "evt_cdp"])
    await until(
        lambda: processor.sample("headgate_processor_records_total", result="copy") == 10,
        "the copies counted",
    )
    assert processor.sample("headgate_processor_records_total", result="stored") == 61
    assert processor.sample("headgate_processor_records_total", result="poison") == 0
    assert processor.sample("headgate_processor_profiles_total", change="created") == 1
    await until(lambda: processor.sample("headgate_processor_lag_records") == 0, "nothing left")
    assert processor.sample("headgate_processor_lag_seconds") == 0
    assert all(beat.serving for beat in processor.beats)
    assert await processor.drain() == 0


POISON = {
    b"not json at all": Reason.NOT_JSON,
    b"\xff\xfe\x00": Reason.NOT_JSON,
    b'{"id":"x","n":01}': Reason.NOT_JSON,
    b'{"hello":"world"}': Reason.SCHEMA,
    envelope("newer", schema=2): Reason.VERSION,
    envelope("refused"): Reason.REFUSED,
}


async def test_poison_goes_to_the_dead_letters_and_stops_nothing(rig: Rig, store: EventStore) -> None:
    await pool_of(store).fetch("ALTER TABLE events ADD CONSTRAINT not_me CHECK (id <> 'evt_refused')")
    good = [envelope(number) for number in range(100)]
    mixed = list(good)
    for place, value in enumerate(POISON):
        mixed.insert(place * 13, value)
    processor = await rig.processor()
    await rig.write(mixed)
    await stored_are(store, 100)
    await until(
        lambda: processor.sample("headgate_processor_records_total", result="poison") == len(POISON), "poison"
    )
    assert sorted(await ids(store)) == sorted(f"evt_{number}" for number in range(100))
    letters = await rig.letters()
    found = {}
    for letter in letters:
        assert letter["details"]
        original = letter["original_event"]
        value = (
            base64.b64decode(original)
            if letter.get("original_encoding") == "base64"
            else json.dumps(original).encode()
        )
        found[value] = letter["error"]
        assert letter["log"] == "publisher-0"
    assert found == {
        json.dumps(json.loads(value)).encode() if reason is not Reason.NOT_JSON else value: str(reason)
        for value, reason in POISON.items()
    }
    for reason in Reason:
        expected = list(POISON.values()).count(reason)
        assert processor.sample("headgate_processor_poison_total", reason=str(reason)) == expected
    # The same records do not come again.
    await processor.drain()
    await rig.processor()
    await rig.write([envelope("last")])
    await stored_are(store, 101)
    assert len(await rig.letters()) == len(POISON)


async def test_the_position_waits_for_the_dead_letter(rig: Rig, store: EventStore) -> None:
    """Without a publisher, poison can't be put away: nothing moves, and nothing is lost."""
    await rig.write([b"poison", envelope(1)])
    for one in rig.publisher.processes:
        await one.drain()
    processor = await rig.processor()
    await until(lambda: processor.sample("headgate_processor_lag_records") == 2, "the lag counted")
    assert await one_number(store, "SELECT count(*) FROM log_positions") == 0
    await processor.kill()
    await rig.processor()
    await (await rig.publisher.start()).ready()
    await stored_are(store, 1)
    assert [letter["error"] for letter in await rig.letters()] == ["not_json"]


async def test_killed_at_any_moment_it_neither_loses_nor_doubles(rig: Rig, store: EventStore) -> None:
    written = 0
    processor = await rig.processor()
    for turn in range(8):
        for _ in range(5):
            await rig.write(
                [
                    cdp(number, {"EMAIL": f"{number % 9}@x", "DEVICE_KEY": f"d{number % 4}"})
                    for number in range(written, written + 40)
                ]
            )
            written += 40
        # Anywhere between nothing and all of what was just written.
        await stored_are(store, written - 200 + turn * 25)
        await processor.kill()
        processor = await rig.processor()
    await stored_are(store, written)
    assert sorted(await ids(store)) == sorted(f"evt_{number}" for number in range(written))
    assert await one_number(store, "SELECT count(*) FROM log_positions") == 1
    # Nine e-mails over four devices are one person: each merge of the others happened once.
    assert await one_number(store, "SELECT count(*) FROM profiles WHERE merged_into IS NULL") == 1
    assert await one_number(store, "SELECT count(*) FROM profile_merges") == await one_number(
        store, "SELECT count(*) - 1 FROM profiles"
    )


async def test_two_processors_share_a_topic_and_are_killed(
    tmp_path: Path, kafka: KafkaServer, postgres_dsn: str, store: EventStore
) -> None:
    async with running(Rig(tmp_path, postgres_dsn, [kafka.bootstrap], count=2)) as rig:
        one, two = await rig.processor(0), await rig.processor(1)
        written = 0
        for _ in range(10):
            await rig.write([envelope(number) for number in range(written, written + 100)] + [b"poison"])
            written += 100
        await stored_are(store, 300)
        await one.kill()
        three = await rig.processor(0)
        for _ in range(10):
            await rig.write([envelope(number) for number in range(written - 50, written + 100)])
            written += 100
        await stored_are(store, written)
        assert sorted(await ids(store)) == sorted(f"evt_{number}" for number in range(written))
        letters = await rig.letters()
        assert len({(letter["partition"], letter["offset"]) for letter in letters}) == 10
        for process in (two, three):
            assert await process.drain() == 0
        # Offsets were committed: the next one has nothing to do but what is new.
        last = await rig.processor(0)
        await rig.write([envelope("last")])
        await stored_are(store, written + 1)
        await until(
            lambda: last.sample("headgate_processor_records_total", result="stored") == 1, "the last one"
        )
        assert last.sample("headgate_processor_records_total", result="copy") == 0


async def test_what_the_local_log_was_left_with_is_stored_beside_kafka(
    tmp_path: Path, kafka: KafkaServer, postgres_dsn: str, store: EventStore
) -> None:
    """Events were accepted, then Kafka came into the settings: they are on the local log alone."""
    before = Rig(tmp_path, postgres_dsn)
    async with running(before):
        await before.write([envelope(number) for number in range(30)])
        processor = await before.processor()
        await stored_are(store, 30)
        await processor.drain()
        await before.write([envelope(number) for number in range(30, 60)])
    (tmp_path / "publisher-0.sock").unlink()
    after = Rig(tmp_path, postgres_dsn, [kafka.bootstrap], topic_raw=before.settings.kafka.topic_raw)
    async with running(after):
        await after.write([envelope(number) for number in range(60, 90)])
        processor = await after.processor()
        await stored_are(store, 90)
        assert sorted(await ids(store)) == sorted(f"evt_{number}" for number in range(90))
        await until(lambda: processor.sample("headgate_processor_lag_records") == 0, "nothing left")
        assert await processor.drain() == 0


async def test_postgres_is_stopped_and_started(tmp_path: Path, run_folder: Path) -> None:
    """No restart, no poison, one line at the beginning and one at the end, and all is stored after it."""
    sockets = run_folder / uuid.uuid4().hex[:6]
    sockets.mkdir()
    server = await start_postgres(tmp_path / "postgres", sockets)
    rig = Rig(tmp_path, server.dsn)
    try:
        async with running_pool(server.dsn) as pool:
            await migrate(pool)
        async with running(rig):
            processor = await rig.processor()
            await rig.write([envelope(number) for number in range(10)])
            await until(
                lambda: processor.sample("headgate_processor_records_total", result="stored") == 10, "stored"
            )
            await server.stop()
            await rig.write([envelope(number) for number in range(10, 30)])
            await until(
                lambda: processor.sample("headgate_processor_waiting", store="postgres") == 1, "an outage"
            )
            await until(lambda: processor.sample("headgate_processor_lag_records") == 20, "the lag counted")
            assert processor.alive
            assert all(beat.serving for beat in processor.beats)
            server = await start_postgres(tmp_path / "postgres", sockets)
            await until(
                lambda: processor.sample("headgate_processor_records_total", result="stored") == 30,
                "all stored",
            )
            assert processor.sample("headgate_processor_records_total", result="poison") == 0
            await until(lambda: processor.sample("headgate_processor_waiting", store="postgres") == 0, "over")
            assert await rig.letters() == []
            async with event_store(server.dsn) as store:
                assert len(await ids(store)) == 30
    finally:
        await server.stop()


async def test_a_database_without_the_schema_is_waited_for(tmp_path: Path, postgres_dsn: str) -> None:
    async with running(Rig(tmp_path, postgres_dsn)) as rig, running_pool(postgres_dsn) as pool:
        await rig.write([envelope(1)])
        processor = await rig.processor()
        await until(lambda: bool(processor.beats), "a sign of life")
        await migrate(pool)
        async with event_store(postgres_dsn) as store:
            await stored_are(store, 1)
        assert processor.sample("headgate_processor_records_total", result="poison") == 0


async def test_a_roll_without_kafka_hands_the_log_over(rig: Rig, store: EventStore) -> None:
    old = await rig.processor()
    await rig.write([envelope(1)])
    await stored_are(store, 1)
    new = await rig.processor()
    await rig.write([envelope(2)])
    await stored_are(store, 2)
    assert await old.drain() == 0
    await rig.write([envelope(3)])
    await stored_are(store, 3)
    await until(
        lambda: new.sample("headgate_processor_records_total", result="stored") == 1, "the new one works"
    )


async def test_a_lock_held_by_a_stranger_is_waited_for_not_taken_for_poison(
    rig: Rig, store: EventStore, postgres_dsn: str
) -> None:
    processor = await rig.processor()
    await rig.write([envelope(1)])
    await stored_are(store, 1)
    stranger = await asyncpg.connect(postgres_dsn)
    await stranger.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    await rig.write([envelope(2)])
    await until(lambda: processor.sample("headgate_processor_lag_records") == 1, "the lag counted")
    await stranger.execute("COMMIT")
    await stranger.close()
    await stored_are(store, 2)
    assert await rows(store, "id") == [("evt_1",), ("evt_2",)]
    assert await rig.letters() == []
