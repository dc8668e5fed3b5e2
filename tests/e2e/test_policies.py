"""What the settings say is to happen while a store is away, or while events wait too long; and that it ends by itself."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable

import pytest

from tests.e2e.test_kafka import NewKafka, on_kafka
from tests.e2e.test_stores import frozen
from tests.fixtures.loops import run
from tests.support.load import Load
from tests.support.product import NewProduct, Product, until
from tests.support.wire import Reply

#: architecture: an outage is told within 10 s.
TOLD_S = 10.0


@pytest.fixture
def strict(new_product: NewProduct) -> Product:
    """An instance that does not do without its stores, and is impatient."""
    return new_product(
        HEADGATE_REDIS__WHEN_AWAY="refuse",
        HEADGATE_POSTGRES__WHEN_AWAY="refuse",
        HEADGATE_POSTGRES__TIMEOUT_S="1",
        HEADGATE_FRONTEND__OLDEST_WAIT_MAX_S="0.5",
    ).start()


def sent(product: Product) -> Reply:
    event = {"type": "track", "event": "Seen", "messageId": str(uuid.uuid4())}
    return product.post("t", product.demo, event)


def refuses(product: Product, why: str) -> Callable[[], bool]:
    """Whether every frontend says in /readyz that it refuses, and one did so to a caller."""

    def look() -> bool:
        status, reasons = product.readyz()
        if status != 503 or why not in " ".join(reasons):
            return False
        reply = sent(product)
        return (reply.status, reply.code) == (503, "UNAVAILABLE") and int(reply.get("retry-after") or 0) >= 1

    return look


def serves(product: Product) -> bool:
    return product.readyz() == (200, []) and sent(product).status == 200


def test_refusing_is_a_setting_for_redis_and_postgres_and_for_events_that_wait(strict: Product) -> None:
    until(lambda: serves(strict), "it to serve")
    for server, why, cause in (
        ("valkey", "redis.when_away", "redis"),
        ("postgres", "postgres.when_away", "postgres"),
    ):
        with frozen(strict.servers()[server]):
            until(refuses(strict, why), f"{why} to hold", TOLD_S)
            assert strict.metrics().sum("headgate_gate_shut", why=cause) == 2
        until(lambda: serves(strict), "it to serve again")
        assert strict.metrics().sum("headgate_gate_refused_requests_total", why=cause) >= 1
        # Each frontend tells of itself with its beat.
        until(lambda: strict.metrics().sum("headgate_gate_shut") == 0, "both gates to be open")

    # Somebody has to wait before it can be seen that waiting takes too long.
    with Load(strict.ingest_port, strict.demo, connections=8, per_s=100) as load:
        load.wait(20)
        pid = strict.kill("publisher", 0, signal.SIGSTOP)
        try:
            until(refuses(strict, "wait for more than 0.5 s"), "the gate to shut", TOLD_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: serves(strict), "it to serve again")
    assert load.failures == []
    assert load.statuses.keys() == {200, 503}
    assert load.acked.keys() <= set(strict.message_ids())
    lines = [line["message"] for line in strict.logged()]
    assert sum(line.startswith("events are refused with 503 from now on") for line in lines) >= 6
    assert sum(line.startswith("events are taken again") for line in lines) >= 6
    assert strict.at_rest().in_work == 0


def test_refusing_is_a_setting_for_kafka(new_product: NewProduct, new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    run(kafka.start())
    product = on_kafka(new_product, kafka, "raw-events", HEADGATE_KAFKA__WHEN_AWAY="refuse").start()
    until(lambda: serves(product), "it to serve")
    run(kafka.kill())
    until(refuses(product, "kafka.when_away"), "it to refuse", TOLD_S)
    assert product.metrics().sum("headgate_store_up", store="kafka") == 0
    assert product.metrics().sum("headgate_spool_records") == 0
    run(kafka.restart())
    until(lambda: serves(product), "it to serve again")
    assert sent(product).get("x-headgate-durability") == "kafka"
    assert product.at_rest().in_work == 0
