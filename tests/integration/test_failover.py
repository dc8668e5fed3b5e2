"""Kafka goes and comes back; every event that was acknowledged ends on Kafka. With a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from daemon.adapters.failover import FailoverLog
from daemon.adapters.kafka import KafkaLog, KafkaReader
from daemon.adapters.local import LocalLog
from daemon.adapters.local.layout import REFUSED
from daemon.config.schema import Kafka, Settings
from daemon.errors import LogUnavailable, SettingsError
from daemon.observe.catalog import PublisherMetrics, StoreMetrics
from daemon.ports import PartitionBatch
from tests.fixtures.loops import run
from tests.servers.certificates import Certificates
from tests.servers.kafka import KafkaServer, Security, free_port
from tests.support.logs import PATIENCE_S, batch, ids, record, stored, until

TOPIC = "raw-events"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of this module's own, to be stopped and killed; each test leaves it running."""
    server = KafkaServer(tmp_path_factory.mktemp("broker"))
    run(server.start())
    yield server
    run(server.kill())


class Publishing:
    """A FailoverLog over `brokers`, impatient, with what it told."""

    def __init__(
        self,
        folder: Path,
        *brokers: str,
        slot: int = 0,
        rebuild_after_s: float = 4.0,
        limits: dict[str, int] | None = None,
        spool_age_max_s: float = 0.0,
        **kafka: object,
    ) -> None:
        names = {"topic_raw": f"raw-{folder.name}", "topic_dlq": f"dlq-{folder.name}", "partitions": 4}
        self.settings = msgspec.convert(
            {
                "data_dir": str(folder),
                "kafka": {"brokers": brokers, "request_timeout_s": 3.0} | names | kafka,
                "publisher": {
                    "ack_deadline_s": 0.5,
                    "probe_s": 0.1,
                    "rebuild_after_s": rebuild_after_s,
                    "drain_records_per_s": 100_000,
                },
                "log": {
                    "bytes_max": 4 * 1024 * 1024,
                    "headroom_bytes": 0,
                    "spool_age_max_s": spool_age_max_s,
                },
                "limits": limits or {},
            },
            type=Settings,
        )
        self.topic = self.settings.kafka.topic_raw
        self.metrics = PublisherMetrics()
        self.stores = StoreMetrics(("kafka",))
        self.told: list[dict[str, int]] = []
        self.local = LocalLog(self.settings, slot, spool=True)
        self.log = FailoverLog(
            self.settings,
            self.local,
            metrics=self.metrics,
            stores=self.stores,
            on_partitions=self.told.append,
        )
        self._numbers = itertools.count()
        self.acknowledged: list[str] = []

    async def append(self, partition: int = 0) -> str:
        """Append one record with the next number; give where it is safe."""
        name = f"{next(self._numbers)}"
        async with asyncio.timeout(PATIENCE_S):
            durability = await self.log.append(self.topic, [batch(partition, name)])
        self.acknowledged.append(name)
        return durability

    async def until_up(self) -> None:
        await until(lambda: self.log.kafka_up, "Kafka to be back")

    async def until_drained(self) -> None:
        await self.until_up()
        await until(lambda: self.local.spooled_records == 0, "the spool to be empty")

    async def on_kafka(self) -> list[str]:
        return ids(await stored(KafkaReader(self.settings.kafka), self.topic))


Make = Callable[..., Publishing]


@pytest.fixture
async def make(broker: KafkaServer, tmp_path: Path) -> AsyncIterator[Make]:
    """Make a publishing of this test's data folder; stopped after the test, with the broker running again."""
    made: list[Publishing] = []

    def one(*more_brokers: str, **settings: Any) -> Publishing:
        made.append(Publishing(tmp_path, broker.bootstrap, *more_brokers, **settings))
        return made[-1]

    yield one
    broker.resume()
    for publishing in made:
        await publishing.log.stop()
    if not broker.running:
        await broker.start()


@pytest.fixture
async def publishing(make: Make) -> Publishing:
    """Started, with Kafka there."""
    one = make()
    await one.log.start()
    assert one.log.kafka_up
    return one


# --- one outage


async def test_a_frozen_broker_misses_the_deadline_and_all_goes_to_the_local_log(
    broker: KafkaServer, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "daemon")
    assert await publishing.append() == "kafka"
    broker.pause()
    # The first misses the deadline; those beside it don't wait for their own.
    first = await asyncio.gather(*(publishing.append(n % 4) for n in range(50)))
    assert set(first) == {"local"}
    assert not publishing.log.kafka_up
    assert {await publishing.append() for _ in range(50)} == {"local"}
    assert publishing.stores.up.at("kafka").n == 0
    assert publishing.stores.outages.total() == 1
    assert publishing.metrics.breaker.at().n == 1
    assert await publishing.log.trouble() == ""
    broker.resume()
    await publishing.until_drained()
    assert await publishing.append() == "kafka"
    assert publishing.stores.up.at("kafka").n == 1
    assert publishing.metrics.breaker.at().n == 0
    assert set(await publishing.on_kafka()) == set(publishing.acknowledged)
    messages = [line.message for line in caplog.records]
    assert [text for text in messages if text.startswith("Kafka is away, events go to the local log")]
    assert [text for text in messages if text.startswith("Kafka acknowledges again after")]


async def test_what_was_spooled_drains_in_order(broker: KafkaServer, publishing: Publishing) -> None:
    broker.pause()
    for _ in range(30):
        assert await publishing.append() == "local"
    broker.resume()
    await publishing.until_drained()
    # Copies of what was on its way may stand before; each id's last place is the drain's.
    found = await publishing.on_kafka()
    last_places = list(dict.fromkeys(reversed(found)))[::-1]
    assert last_places == publishing.acknowledged
    assert publishing.metrics.drained.total() == 30


async def test_a_killed_broker_that_comes_back(broker: KafkaServer, publishing: Publishing) -> None:
    stop = False

    async def traffic(partition: int) -> None:
        while not stop:
            await publishing.append(partition)
            await asyncio.sleep(0.005)

    lanes = [asyncio.create_task(traffic(number)) for number in range(4)]
    await until(lambda: len(publishing.acknowledged) > 100, "traffic")
    await broker.kill()
    await until(lambda: not publishing.log.kafka_up, "the outage to be seen")
    spooled = len(publishing.acknowledged) + 100
    await until(lambda: len(publishing.acknowledged) > spooled, "traffic without Kafka")
    await broker.start()
    await publishing.until_up()
    direct = len(publishing.acknowledged) + 100
    await until(lambda: len(publishing.acknowledged) > direct, "traffic with Kafka")
    stop = True
    await asyncio.gather(*lanes)
    await publishing.until_drained()
    assert set(publishing.acknowledged) <= set(await publishing.on_kafka())


async def test_a_broker_that_comes_back_under_another_address(broker: KafkaServer, make: Make) -> None:
    other = free_port()
    publishing = make(f"127.0.0.1:{other}")
    await publishing.log.start()
    old = broker.port
    try:
        assert await publishing.append() == "kafka"
        await broker.kill()
        assert await publishing.append() == "local"
        await broker.restart(port=other)
        await publishing.until_drained()
        assert await publishing.append() == "kafka"
        assert set(await publishing.on_kafka()) == set(publishing.acknowledged)
    finally:
        await publishing.log.stop()
        await broker.restart(port=old)


async def test_outage_after_outage(broker: KafkaServer, publishing: Publishing) -> None:
    for _ in range(3):
        assert await publishing.append() == "kafka"
        broker.pause()
        assert await publishing.append() == "local"
        broker.resume()
        await publishing.until_drained()
    assert publishing.stores.outages.total() == 3
    assert set(await publishing.on_kafka()) == set(publishing.acknowledged)


async def test_stopping_in_an_outage_keeps_the_spool_for_the_next_start(
    broker: KafkaServer, make: Make
) -> None:
    publishing = make()
    await publishing.log.start()
    broker.pause()
    try:
        for _ in range(5):
            assert await publishing.append() == "local"
        async with asyncio.timeout(PATIENCE_S):
            await publishing.log.stop()
    finally:
        broker.resume()
    again = make()
    await again.log.start()
    await again.until_drained()
    assert set(await again.on_kafka()) == set(publishing.acknowledged)


async def test_an_outage_shows_without_traffic(
    broker: KafkaServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.adapters.failover.log.PING_S", 0.2)
    publishing = make()
    await publishing.log.start()
    await broker.kill()
    await until(lambda: publishing.stores.up.at("kafka").n == 0, "the outage to be seen")
    assert publishing.stores.outages.total() == 1
    await broker.start()
    await until(lambda: publishing.stores.up.at("kafka").n == 1, "Kafka to be back")
    assert await publishing.append() == "kafka"


async def test_an_idle_kafka_is_no_outage(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    answers = KafkaLog.answers

    async def counted(self: KafkaLog, timeout_s: float) -> bool:
        asked.append(await answers(self, timeout_s))
        return asked[-1]

    monkeypatch.setattr(KafkaLog, "answers", counted)
    monkeypatch.setattr("daemon.adapters.failover.log.PING_S", 0.05)
    publishing = make()
    await publishing.log.start()
    await until(lambda: len(asked) >= 5, "some questions")
    assert asked == [True] * len(asked)
    assert publishing.stores.outages.total() == 0


# --- the start


async def test_kafka_away_at_the_start(broker: KafkaServer, make: Make) -> None:
    await broker.kill()
    publishing = make()
    try:
        await publishing.log.start()
        assert not publishing.log.kafka_up
        assert publishing.stores.outages.total() == 1
        assert publishing.log.partitions(publishing.topic) == 4
        for _ in range(20):
            assert await publishing.append() == "local"
        assert publishing.local.spooled_records == 20
        await broker.start()
        await publishing.until_drained()
        assert await publishing.on_kafka() == publishing.acknowledged
    finally:
        await publishing.log.stop()
        if not broker.running:
            await broker.start()


async def test_a_frozen_broker_at_the_start_is_an_answer_too(broker: KafkaServer, make: Make) -> None:
    publishing = make(request_timeout_s=0.5)
    broker.pause()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await publishing.log.start()
        assert await publishing.append() == "local"
    finally:
        broker.resume()
        await publishing.until_drained()
        await publishing.log.stop()


async def test_the_partitions_are_kafkas_and_are_remembered_without_it(
    broker: KafkaServer, make: Make
) -> None:
    first = make(partitions=7)
    await first.log.start()
    assert first.told == [{first.topic: 7, first.settings.kafka.topic_dlq: 7}]
    await first.log.stop()
    broker.pause()
    try:
        second = make(partitions=3, request_timeout_s=0.5)
        await second.log.start()
        assert second.log.partitions(second.topic) == 7
        await second.log.stop()
    finally:
        broker.resume()


async def test_a_record_for_a_partition_that_kafka_does_not_have_goes_to_one_it_has(
    publishing: Publishing,
) -> None:
    assert await publishing.append(partition=4 * 5 + 3) == "kafka"
    (found,) = await stored(KafkaReader(publishing.settings.kafka), publishing.topic)
    assert found.partition == 3


async def test_missing_topics_are_named_when_they_shall_not_be_created(
    broker: KafkaServer, make: Make
) -> None:
    publishing = make(create_topics=False)
    with pytest.raises(SettingsError, match=r"kafka\.create_topics = true") as caught:
        await publishing.log.start()
    assert publishing.topic in str(caught.value)
    assert publishing.settings.kafka.topic_dlq in str(caught.value)
    assert caught.value.exit_code == 78


async def test_a_topic_that_takes_too_little_is_a_setting_that_cannot_work(
    broker: KafkaServer, make: Make
) -> None:
    publishing = make()
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_topics(
        [NewTopic(publishing.topic, 1, 1, topic_configs={"max.message.bytes": "100000"})]
    )
    await admin.close()
    with pytest.raises(SettingsError, match=r"max\.message\.bytes") as caught:
        await publishing.log.start()
    assert caught.value.key == "limits.body_bytes_max"


async def test_too_many_replicas_are_said_and_the_local_log_serves(broker: KafkaServer, make: Make) -> None:
    publishing = make(replication_factor=3)
    with pytest.raises(LogUnavailable, match="replication_factor = 3"):
        await KafkaLog(publishing.settings.kafka).start()
    await publishing.log.start()
    assert await publishing.append() == "local"


async def test_a_topic_that_was_deleted_is_made_anew(broker: KafkaServer, publishing: Publishing) -> None:
    assert await publishing.append() == "kafka"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([publishing.topic])
    await admin.close()
    async with asyncio.timeout(PATIENCE_S):
        while await publishing.append() == "kafka":
            pass  # the broker deletes when it gets to it
    spooled = publishing.acknowledged[-1]
    await publishing.until_drained()
    assert await publishing.append() == "kafka"
    assert {spooled, publishing.acknowledged[-1]} <= set(await publishing.on_kafka())


async def test_a_client_without_acknowledgements_is_made_anew_though_kafka_can_be_reached(make: Make) -> None:
    publishing = make(rebuild_after_s=0.6)
    await publishing.log.start()
    assert await publishing.append() == "kafka"
    _connections(publishing, "pause_reading")
    assert await publishing.append() == "local"
    await publishing.until_drained()
    assert publishing.metrics.rebuilds.total() == 1
    assert await publishing.append() == "kafka"
    assert set(await publishing.on_kafka()) == {"0", "1", "2"}


async def test_a_slow_kafka_gets_its_client_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing = make(rebuild_after_s=60.0)
    probes = []
    whole = FailoverLog._candidate

    async def counted(self: FailoverLog) -> KafkaLog | None:
        found = await whole(self)
        probes.append(found)
        return found

    monkeypatch.setattr(FailoverLog, "_candidate", counted)
    await publishing.log.start()
    assert await publishing.append() == "kafka"
    _connections(publishing, "pause_reading")
    assert await publishing.append() == "local"
    await until(lambda: len(probes) >= 2, "probes that reach Kafka")
    assert probes == [None] * len(probes)
    _connections(publishing, "resume_reading")
    await publishing.until_drained()
    assert publishing.metrics.rebuilds.total() == 0
    assert await publishing.append() == "kafka"
    assert set(await publishing.on_kafka()) == {"0", "1", "2"}


def _connections(publishing: Publishing, do: str) -> None:
    """Make the client deaf on the connections it has, as a firewall that lost its state does, or end that."""
    client = publishing.log._kafka or publishing.log._stalled
    assert client is not None
    assert client._producer is not None
    for connection in client._producer.client._conns.values():
        getattr(connection._writer.transport, do)()


# --- several slots, several processes


@pytest.mark.usefixtures("broker")
async def test_the_spool_of_a_slot_that_is_no_more_is_drained_by_one_that_lives(make: Make) -> None:
    orphan = make(slot=3)
    await orphan.local.append(orphan.topic, [batch(0, "left behind")])
    await orphan.local.stop()
    publishing = make(slot=1)
    await publishing.log.start()
    await until(lambda: publishing.metrics.drained.total() == 1, "the drain")
    assert await publishing.on_kafka() == ["left behind"]


async def test_who_dies_meanwhile_is_stood_in_for_until_it_is_back(
    broker: KafkaServer, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.adapters.failover.log.COUNT_S", 0.05)
    living, dying = make(slot=0, request_timeout_s=0.5), make(slot=1, request_timeout_s=0.5)
    await asyncio.gather(living.log.start(), dying.log.start())
    broker.pause()
    assert await dying.append() == "local"
    assert living.metrics.spool_records.collect().samples[0].value == 0, "who lives drains its own"
    await dying.log.stop()
    await until(lambda: living.log._spool.records == 1, "the other to take over")
    assert living.metrics.spool_records.collect().samples[0].value == 1
    assert living.metrics.spool_oldest.collect().samples[0].value > 0
    await until(lambda: "publisher 1 is not there, and 1 records wait" in caplog.text, "the word of it")
    # It comes back while Kafka is still away: it writes into the same file, whoever drains it.
    back = make(slot=1, request_timeout_s=0.5)
    await back.log.start()
    back._numbers = itertools.count(100)
    assert await back.append() == "local"
    broker.resume()
    await asyncio.gather(living.until_up(), back.until_drained())
    await until(lambda: not living.log._adoption.logs, "the other to let go")
    await until(lambda: back.local.holds_drain, "its own right to be back")
    assert {"0", "100"} <= set(await living.on_kafka())


async def test_nothing_unforeseen_ends_what_goes_on_in_the_background(
    broker: KafkaServer, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.adapters.failover.log.PING_S", 0.05)
    monkeypatch.setattr("daemon.adapters.failover.log.COUNT_S", 0.05)
    publishing = make()
    await publishing.log.start()
    tasks = list(publishing.log._tasks)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    for name in (
        "kafka.log.KafkaLog.answers",
        "failover.spool.Spool.look_around",
        "local.file.LogFile.oldest",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"daemon.adapters.{name}", broken)
            if name.endswith("oldest"):
                await publishing.local.append(publishing.topic, [batch(0, "spooled")])
            caplog.clear()
            await until(lambda: "ZeroDivisionError" in caplog.text, f"{name} to fail")
    assert not any(task.done() for task in tasks)
    await publishing.until_drained()
    assert await publishing.append() == "kafka"
    assert set(await publishing.on_kafka()) == {"spooled", "0"}


async def test_old_and_new_publisher_of_a_slot_share_the_file_and_take_turns_draining(
    broker: KafkaServer, publishing: Publishing, make: Make
) -> None:
    broker.pause()
    assert await publishing.append() == "local"
    successor = make(request_timeout_s=0.5)
    await successor.log.start()
    successor._numbers = itertools.count(1000)
    both = [one.append() for _ in range(30) for one in (publishing, successor)]
    assert set(await asyncio.gather(*both)) == {"local"}
    broker.resume()
    await asyncio.gather(publishing.until_up(), successor.until_up())
    assert not (publishing.local._lock.held and successor.local._lock.held)
    await publishing.log.stop()
    await successor.until_drained()
    await successor.local.count()
    assert successor.local.spooled_records == 0
    assert set(await successor.on_kafka()) == {*publishing.acknowledged, *successor.acknowledged}


# --- no room


async def test_with_kafka_away_and_the_spool_full_it_says_so_and_recovers(
    broker: KafkaServer, publishing: Publishing
) -> None:
    broker.pause()
    big = [PartitionBatch(0, [record("big", size=500_000)])]
    with pytest.raises(LogUnavailable, match=r"log\.bytes_max") as caught:  # noqa: PT012  the how-manieth is not known
        for _ in range(20):
            assert await publishing.log.append(publishing.topic, big) == "local"
    assert caught.value.retry_after_s >= 1
    broker.resume()
    await publishing.until_drained()
    assert await publishing.log.append(publishing.topic, big) == "kafka"
    assert await publishing.log.trouble() == ""


async def test_beyond_the_age_that_is_allowed_no_more_is_spooled_until_kafka_has_it(
    broker: KafkaServer, make: Make
) -> None:
    publishing = make(spool_age_max_s=0.3)
    await publishing.log.start()
    broker.pause()
    assert await publishing.append() == "local"
    await until(lambda: publishing.local.oldest_s > 0.3, "time to pass")
    with pytest.raises(LogUnavailable, match=r"log\.spool_age_max_s") as caught:
        await publishing.append()
    assert caught.value.retry_after_s >= 1
    assert "spool_age_max_s" in await publishing.log.trouble()
    broker.resume()
    await publishing.until_drained()
    assert await publishing.append() == "kafka"
    assert await publishing.log.trouble() == ""
    # And a fresh outage begins with a fresh age.
    broker.pause()
    assert await publishing.append() == "local"


async def test_records_that_kafka_will_never_take_do_not_hold_up_the_drain(
    broker: KafkaServer, publishing: Publishing
) -> None:
    broker.pause()
    assert await publishing.append() == "local"
    await publishing.local.append(publishing.topic, [PartitionBatch(0, [record("huge", size=1_200_000)])])
    assert await publishing.append() == "local"
    broker.resume()
    await publishing.until_drained()
    assert set(await publishing.on_kafka()) == {"0", "1"}


async def test_a_record_that_kafka_will_never_take_takes_no_other_with_it(
    broker: KafkaServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """What was acknowledged beside and behind it goes to Kafka, be it as large as Kafka takes."""
    publishing = make(limits={"body_bytes_max": 1024, "item_bytes_max": 1024})
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    few = {"max.message.bytes": "100000"}
    await admin.create_topics(
        [NewTopic(name, 4, 1, topic_configs=few) for name in (publishing.topic, f"dlq{publishing.topic[3:]}")]
    )
    await admin.close()
    await publishing.log.start()
    broker.pause()
    assert await publishing.append() == "local"
    huge, large = record("huge", size=150_000), record("large", size=90_000)
    await publishing.local.append(publishing.topic, [PartitionBatch(0, [huge, record("behind")])])
    await publishing.local.append(publishing.topic, [PartitionBatch(0, [large])])
    broker.resume()
    await publishing.until_drained()
    assert set(await publishing.on_kafka()) == {"0", "behind", "large"}
    assert caplog.text.count("stay there") == 1
    with contextlib.closing(sqlite3.connect(publishing.local.path)) as file:
        assert file.execute("SELECT state, records FROM batch").fetchall() == [(REFUSED, 2)]


# --- how to talk to the brokers

SECURED = [
    Security("SSL", client_certificate=True),
    Security("SASL_PLAINTEXT", mechanism="PLAIN"),
    Security("SASL_SSL", mechanism="SCRAM-SHA-512"),
]


@pytest.mark.parametrize("security", SECURED, ids=lambda one: f"{one.protocol}-{one.mechanism}")
async def test_tls_and_sasl(
    new_kafka: Callable[..., KafkaServer], certificates: Certificates, security: Security
) -> None:
    server = new_kafka(security=_with(security, certificates))
    await server.start()
    right: dict[str, object] = {"security_protocol": security.protocol, "brokers": [server.bootstrap]}
    wrong: list[dict[str, object]] = []
    if "SSL" in security.protocol.split("_"):
        right["ssl_ca_file"] = str(certificates.ca)
        wrong.append({"ssl_ca_file": str(certificates.other_ca)})
    if security.client_certificate:
        right |= {
            "ssl_cert_file": str(certificates.client_cert),
            "ssl_key_file": str(certificates.client_key),
        }
        wrong.append({"ssl_cert_file": "", "ssl_key_file": ""})
    if security.protocol.startswith("SASL"):
        right |= {
            "sasl_mechanism": security.mechanism,
            "sasl_username": security.username,
            "sasl_password": security.password,
        }
        wrong.append({"sasl_password": "not the one"})
    settings = msgspec.convert(right, type=Kafka)
    log = KafkaLog(settings)
    await log.start()
    await log.append(TOPIC, [batch(0, "secret")])
    await log.stop()
    assert ids(await stored(KafkaReader(settings), TOPIC)) == ["secret"]
    for change in wrong:
        with pytest.raises(LogUnavailable, match=r"(?i)can't be reached: .*(ssl|authentication|closed)"):
            await KafkaLog(msgspec.convert(right | change, type=Kafka)).start(5.0)


def _with(security: Security, certificates: Certificates) -> Security:
    return Security(
        security.protocol,
        certificates=certificates,
        client_certificate=security.client_certificate,
        mechanism=security.mechanism,
    )


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"security_protocol": "SSL", "ssl_ca_file": "/nowhere/ca.pem"}, "kafka.ssl_ca_file"),
        ({"security_protocol": "SSL", "ssl_ca_file": __file__}, "kafka.ssl_ca_file"),
        ({"security_protocol": "SASL_SSL"}, "kafka.sasl_username"),
        ({"security_protocol": "SSL", "ssl_key_file": __file__}, "kafka.ssl_cert_file"),
        ({"security_protocol": "SSL", "ssl_cert_file": __file__}, "kafka.ssl_cert_file"),
    ],
)
async def test_settings_that_do_not_fit_together_are_named(settings: dict[str, str], key: str) -> None:
    kafka = msgspec.convert({"brokers": ["127.0.0.1:1"], **settings}, type=Kafka)
    with pytest.raises(SettingsError) as caught:
        await KafkaLog(kafka).start()
    assert caught.value.key == key


async def test_a_broker_that_is_not_there_is_said_with_its_address_and_why() -> None:
    port = free_port()
    with pytest.raises(
        LogUnavailable, match=rf"127\.0\.0\.1:{port} can't be reached: .*refused|Connect call"
    ):
        await KafkaLog(Kafka(brokers=(f"127.0.0.1:{port}",))).start()
    with contextlib.suppress(LogUnavailable):
        await stored(KafkaReader(Kafka(brokers=(f"127.0.0.1:{port}",))), TOPIC)
        pytest.fail("a reader without a broker has to say so")
