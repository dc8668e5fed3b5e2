"""The test suite's own Kafka: what other tests take for granted about it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.servers.certificates import Certificates
from tests.servers.kafka import KafkaServer, Security, free_port


async def make_topic(server: KafkaServer, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.internal)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def send(server: KafkaServer, topic: str, value: bytes, **client: Any) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=server.bootstrap, acks="all", enable_idempotence=True, **client
    )
    try:
        await producer.start()
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def read(server: KafkaServer, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=server.internal, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(str(certificates.client_cert), str(certificates.client_key))
    return context


async def test_what_was_acknowledged_survives_a_kill_and_a_move_to_another_port(
    new_kafka: Callable[..., KafkaServer],
) -> None:
    server = new_kafka()
    await server.start()
    await make_topic(server, "t")
    await send(server, "t", b"one")
    await server.kill()
    assert not server.running
    await server.restart(port=free_port())
    await send(server, "t", b"two")
    assert await read(server, "t", 2) == [b"one", b"two"]


async def test_a_secured_listener_takes_the_right_client_and_no_other(
    new_kafka: Callable[..., KafkaServer], certificates: Certificates
) -> None:
    security = Security("SASL_SSL", certificates, client_certificate=True, mechanism="SCRAM-SHA-512")
    server = new_kafka(security=security)
    await server.start()
    await make_topic(server, "t")
    client: dict[str, Any] = {
        "security_protocol": "SASL_SSL",
        "ssl_context": tls(certificates),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": security.username,
        "sasl_plain_password": security.password,
    }
    await send(server, "t", b"let in", **client)
    assert await read(server, "t", 1) == [b"let in"]
    for wrong in ({"sasl_plain_password": "wrong"}, {"ssl_context": ssl.create_default_context()}):
        with pytest.raises(KafkaError):
            await send(server, "t", b"kept out", **(client | wrong))
