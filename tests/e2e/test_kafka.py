"""The product on a real Apache Kafka, read by a plain consumer; Kafka killed, hung and absent at the start."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.fixtures.loops import run
from tests.servers.kafka import KafkaServer
from tests.support.load import Load
from tests.support.product import NewProduct, Product, until

NewKafka = Callable[..., KafkaServer]
PER_S = 300.0
#: Kafka's own recovery after a kill takes its time; draining follows.
DRAINED_S = 60.0


def on_kafka(new_product: NewProduct, kafka: KafkaServer, topic: str = "", **environ: str) -> Product:
    return new_product(
        HEADGATE_KAFKA__BROKERS=kafka.bootstrap,
        HEADGATE_KAFKA__TOPIC_RAW=topic or f"raw-{uuid.uuid4().hex[:8]}",
        HEADGATE_KAFKA__TOPIC_DLQ=f"dlq-{uuid.uuid4().hex[:8]}",
        **environ,
    )


def topic_of(product: Product) -> str:
    return product.environ["HEADGATE_KAFKA__TOPIC_RAW"]


def consumed(kafka: KafkaServer, topic: str) -> list[Message]:
    """Everything on the topic now, read as any consumer would."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places, left = [], 0
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            left += high - low
            places.append(TopicPartition(topic, partition, low))
        consumer.assign(places)
        found: list[Message] = []
        end = time.monotonic() + 30.0
        while len(found) < left:
            assert time.monotonic() < end, f"{len(found)} of {left} records read"
            for message in consumer.consume(1000, timeout=1.0):
                assert message.error() is None, message.error()
                found.append(message)
        return found
    finally:
        consumer.close()


def values(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.value() or b"") for message in messages]


def ids(messages: list[Message]) -> set[str]:
    return {one["messageId"] for one in values(messages) if "messageId" in one}


def test_events_are_on_kafka(new_product: NewProduct, kafka: KafkaServer) -> None:
    product = on_kafka(new_product, kafka).start()
    source = product.demo
    message_id = str(uuid.uuid4())
    event = {
        "type": "track",
        "event": "Order Completed",
        "messageId": message_id,
        "properties": {"total": 42.5},
    }
    reply = product.post("t", source, event)
    assert (reply.status, reply.json()) == (200, {"success": True})
    assert reply.get("x-headgate-durability") == "kafka"
    visitor = reply.cookies()["_dfid"]
    # The same visitor again: the same key, so the same partition and in order.
    for number in range(5):
        product.post("p", source, {"type": "page", "name": str(number)}, Cookie=f"_dfid={visitor}")

    topic = topic_of(product)
    partitions = (
        AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(topic, timeout=10).topics[topic]
    )
    assert len(partitions.partitions) == 12, "a missing topic is made as the settings say"
    messages = consumed(kafka, topic)
    assert [one["type"] for one in values(messages)] == ["track"] + ["page"] * 5
    assert [one.get("name") for one in values(messages)] == [None, "0", "1", "2", "3", "4"]
    assert {message.key() for message in messages} == {f"{source.tenant}/{visitor}".encode()}
    assert len({message.partition() for message in messages}) == 1
    first, value = messages[0], values(messages)[0]
    assert dict(first.headers() or []) == {
        "id": value["id"].encode(),
        "contract": b"datafly",
        "type": b"track",
        "tenant": source.tenant.encode(),
    }
    assert value.items() >= event.items()
    assert value["schema"] == 1
    assert abs((first.timestamp()[1]) / 1000 - time.time()) < 60
    assert product.tail() == values(messages)
    assert product.metrics().sum("headgate_store_up", store="kafka") == 1


def test_kafka_hangs_and_dies_under_load(new_product: NewProduct, new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    run(kafka.start())
    product = on_kafka(new_product, kafka, "raw-events").start()
    source = product.create_source()

    def durability() -> str:
        reply = product.post("t", source, {"type": "track", "event": "Probe"})
        assert reply.status == 200
        return reply.get("x-headgate-durability") or ""

    def drained() -> bool:
        metrics = product.metrics()
        return (
            metrics.sum("headgate_spool_records") == 0
            and metrics.sum("headgate_store_up", store="kafka") == 1
        )

    with Load(product.ingest_port, source, connections=16, per_s=PER_S) as load:
        load.wait(300)
        assert set(load.acked.values()) == {"kafka"}
        kafka.pause()
        until(lambda: durability() == "local", "events go to the spool", 15.0)
        until(
            lambda: product.metrics().sum("headgate_store_up", store="kafka") == 0, "the outage is told", 15.0
        )
        assert product.readyz() == (200, [])
        load.wait(300)
        kafka.resume()
        until(drained, "all that waited is on Kafka", DRAINED_S)
        until(lambda: durability() == "kafka", "events go to Kafka again")
        load.wait(300)

        run(kafka.kill())
        until(lambda: durability() == "local", "events go to the spool", 15.0)
        load.wait(300)
        # A publisher that dies meanwhile changes nothing.
        product.kill("publisher")
        load.wait(300)
        assert product.readyz() == (200, [])
        run(kafka.restart())
        until(drained, "all that waited is on Kafka", DRAINED_S)
        until(lambda: durability() == "kafka", "events go to Kafka again")
        load.wait(300)
    assert load.failures == []
    assert load.statuses.keys() == {200}
    assert set(load.acked.values()) == {"kafka", "local"}
    until(drained, "nothing waits")
    messages = consumed(kafka, "raw-events")
    assert load.acked.keys() <= ids(messages)
    # What came twice has the same id, so that readers can drop it.
    by_message: dict[str, set[str]] = {}
    for one in values(messages):
        if "messageId" in one:
            by_message.setdefault(one["messageId"], set()).add(one["id"])
    assert {len(found) for found in by_message.values()} == {1}
    rest = product.at_rest()
    assert rest.outcomes["unavailable"] == 0
    assert rest.sum("headgate_store_outages_total", store="kafka") >= 1


def test_kafka_absent_at_the_start(new_product: NewProduct, new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    product = on_kafka(new_product, kafka, "raw-events").start()
    source = product.demo
    sent = [product.track(source) for _ in range(20)]
    reply = product.post("t", source, {"type": "track", "event": "Seen"})
    assert reply.get("x-headgate-durability") == "local"
    assert product.metrics().sum("headgate_store_up", store="kafka") == 0
    # What waits outlives a kill.
    product.process.kill()
    product.wait()
    product.start()
    run(kafka.start())
    until(lambda: product.metrics().sum("headgate_spool_records") == 0, "drained", DRAINED_S)
    messages = consumed(kafka, "raw-events")
    assert set(sent) <= ids(messages)
    order = [one["messageId"] for one in values(messages) if one.get("messageId") in sent]
    assert len(order) == len(sent), "each once"
    until(
        lambda: (
            product.post("t", source, {"type": "track", "event": "Seen"}).get("x-headgate-durability")
            == "kafka"
        ),
        "events go to Kafka",
    )
