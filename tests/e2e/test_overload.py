"""More than can be taken: refused early and cheaply, memory stays flat, and it is over when the load is."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil

from tests.chaos.proofs.crowd import Crowd
from tests.support.load import Load
from tests.support.product import NewProduct, Product, Source, until
from tests.support.wire import request

MIB = 1024 * 1024
#: What may wait in a frontend, set low so that it is soon full.
QUEUE_BYTES = 8 * MIB
BATCH_EVENTS = 100


def resident_mib(product: Product) -> float:
    pids = [product.pid("frontend", slot) for slot in range(2)]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / MIB


def flood(product: Product, source: Source) -> Load:
    """Batches of 100 KiB without an id of their own, from 64 callers, as fast as they are answered."""
    event = {"type": "track", "event": "Flood", "properties": {"filler": "x" * 900}}
    body = json.dumps({"batch": [event] * BATCH_EVENTS}).encode()
    return Load(
        product.ingest_port, requests=[request("POST", "/v1/batch", source.headers, body)], connections=64
    )


def test_memory_is_flat_while_nothing_can_be_written(new_product: NewProduct) -> None:
    product = new_product(
        HEADGATE_FRONTEND__QUEUE_BYTES_MAX=str(QUEUE_BYTES),
        HEADGATE_FRONTEND__ANSWER_TIMEOUT_S="2",
        HEADGATE_FRONTEND__OLDEST_WAIT_MAX_S="1",
        HEADGATE_PUBLISHER__ACK_DEADLINE_S="0.5",
        HEADGATE_SUPERVISOR__BEAT_TIMEOUT_S="60",
    ).start()
    source = product.create_source()
    peaks: list[float] = []
    with flood(product, source) as load:
        until(lambda: load.statuses[200] > 50, "batches to be taken")
    for _ in range(2):
        pid = product.kill("publisher", 0, signal.SIGSTOP)
        try:
            with flood(product, source) as load:
                end, peak = time.monotonic() + 6.0, 0.0
                while time.monotonic() < end:
                    peak = max(peak, resident_mib(product))
                    time.sleep(0.1)
            peaks.append(peak)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert load.failures == []
        assert set(load.statuses) <= {200, 503}
        assert load.statuses[503] > 100
        assert all(b"retry-after: " in one.head for one in load.answers if one.status == 503)
        until(lambda: product.readyz() == (200, []), "it to serve again")
        product.track(source)
    assert peaks[1] < peaks[0] * 1.2, "the second flood takes what the first one has left"
    # Once the oldest has waited for its second, nobody else has to wait to be refused.
    assert product.metrics().sum("headgate_gate_refused_requests_total", why="overload") > 50
    assert product.at_rest().in_work == 0


def test_callers_who_send_a_byte_a_second_disturb_nobody(product: Product, source: Source) -> None:
    with Crowd(product.ingest_port, source, idle=100, slow=200) as others:
        with Load(product.ingest_port, source, connections=8, per_s=200) as load:
            load.wait(400)
        assert load.failures == []
        assert load.statuses.keys() == {200}
        assert (others.idle_alive, others.slow_most) == (100, 200)
    assert load.acked.keys() <= set(product.message_ids())
