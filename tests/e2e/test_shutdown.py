"""TERM: what was half sent is finished and durable, nothing new is taken, nobody is left over."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from typing import Self

from tests.support.load import Load
from tests.support.product import NewProduct, Product, until
from tests.support.wire import Wire, request

#: architecture: /readyz is 503 within 0.5 s of TERM
UNREADY_S = 0.5
#: No answer, as the connection was closed.
CLOSED = 0


def whole_request(product: Product, message_id: str) -> bytes:
    body = b'{"type":"track","event":"Held","messageId":"%b"}' % message_id.encode()
    return request("POST", "/v1/t", product.demo.headers, body)


class Held:
    """A request of which a part is sent now and the rest later."""

    def __init__(self, product: Product, sent: int) -> None:
        self.message_id = str(uuid.uuid4())
        self._data = whole_request(product, self.message_id)
        self._sent = sent
        self.wire = Wire(product.ingest_port)
        self.wire.send(self._data[:sent])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wire.close()

    def finish(self) -> int:
        """Send the rest; gives the status of the answer, CLOSED for none."""
        self.wire.send(self._data[self._sent :])
        reply = self.wire.reply()
        assert reply is None or reply.get("connection") == "close", "whoever takes leave says so"
        return reply.status if reply is not None else CLOSED


def test_half_sent_requests_are_finished(new_product: NewProduct) -> None:
    """Held at the last byte, in the middle of the body and of the head, until long after the drain window."""
    product = new_product().start()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Wire(product.ingest_port)) for _ in range(8)]
        for wire in idle:
            wire.send(whole_request(product, str(uuid.uuid4())))
            assert (reply := wire.reply()) is not None
            assert reply.status == 200
        held = [stack.enter_context(Held(product, sent)) for sent in (-1, -30, 20) for _ in range(5)]
        # A request is only half sent once its first half has arrived.
        until(lambda: product.metrics().sum("headgate_requests_in_work") == 10, "10 requests in work")

        product.send(signal.SIGTERM)
        until(lambda: product.readyz()[0] != 200, "not ready any more", UNREADY_S)
        assert product.readyz() == (503, ["shutting down"])
        time.sleep(1.5)
        assert [one.finish() for one in held] == [200] * 15
        assert product.wait() == 0
        assert product.processes() == {}
        assert all(wire.closed() for wire in idle)
    assert {one.message_id for one in held} <= set(product.message_ids())


def test_new_connections_are_refused_once_the_window_is_over(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_FRONTEND__COUNT="1", HEADGATE_SERVER__DRAIN_WINDOW_S="0.2").start()

    def refused() -> bool:
        try:
            with Wire(product.ingest_port, timeout_s=5.0) as wire:
                wire.send(whole_request(product, str(uuid.uuid4())))
                reply = wire.reply()
        except ConnectionRefusedError:
            return True
        if reply is not None:
            assert (reply.status, reply.get("connection")) == (200, "close")
        return False

    with Held(product, -1) as held:
        until(lambda: product.metrics().sum("headgate_requests_in_work") == 1, "1 request in work")
        product.send(signal.SIGTERM)
        until(lambda: product.readyz()[0] == 503, "not ready any more")
        until(refused, "new connections refused", 5.0, every_s=0.0)
        assert product.running, "it waits for the one that is half sent"
        assert held.finish() == 200
    assert product.wait() == 0
    assert product.processes() == {}


def test_a_request_that_never_ends_is_cut_at_the_drain_limit(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_FRONTEND__COUNT="1", HEADGATE_SERVER__DRAIN_LIMIT_S="3").start()
    with Held(product, -1) as held:
        until(lambda: product.metrics().sum("headgate_requests_in_work") == 1, "1 request in work")
        product.send(signal.SIGTERM)
        assert product.wait(15.0) == 0
        assert product.processes() == {}
        assert held.finish() in (503, CLOSED)
    assert held.message_id not in product.message_ids()


def test_under_load_every_acknowledged_event_is_on_the_log(new_product: NewProduct) -> None:
    product = new_product().start()
    source = product.create_source()
    with (
        Load(product.ingest_port, source, connections=8) as kept,
        Load(product.ingest_port, source, connections=8, fresh=True) as fresh,
    ):
        kept.wait(300)
        product.send(signal.SIGTERM)
        assert product.wait() == 0
    assert product.processes() == {}
    assert kept.statuses.keys() | fresh.statuses.keys() <= {200, 503}
    assert kept.acked.keys() | fresh.acked.keys() <= set(product.message_ids())
    # What failed are new connections, once nobody took them any more; a connection that was served is closed with
    # its last answer.
    failures = kept.failures + fresh.failures
    assert [one for one in failures if not one.startswith("no connection") and "after 0 on" not in one] == []


def test_signal_to_the_whole_process_group(new_product: NewProduct) -> None:
    """Ctrl-C in a terminal; and `make` passes TERM on, so that it comes twice."""
    product = new_product(HEADGATE_FRONTEND__COUNT="1").start()
    source = product.demo
    acked = [product.track(source) for _ in range(5)]
    os.killpg(product.process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(product.process.pid, signal.SIGTERM)
    assert product.wait() == 0
    assert product.processes() == {}
    assert set(acked) <= set(product.message_ids())
    assert "stopping now" not in product.log


def test_a_second_term_stops_now(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_FRONTEND__COUNT="1").start()
    with Held(product, -1) as held:
        until(lambda: product.metrics().sum("headgate_requests_in_work") == 1, "1 request in work")
        product.send(signal.SIGTERM)
        time.sleep(1.2)
        assert product.running
        product.send(signal.SIGTERM)
        assert product.wait(5.0) == 0
        assert product.processes() == {}
        assert held.finish() in (503, CLOSED)


def test_term_while_it_starts(new_product: NewProduct) -> None:
    """At every moment of a start TERM ends it, and the next start works."""
    product = new_product(HEADGATE_FRONTEND__COUNT="1")
    for after_s in (0.0, 0.5, 1.0):
        product.start(wait=False)
        time.sleep(after_s)
        product.send(signal.SIGTERM)
        # Before Python has come to set a handler the signal kills, and there is nothing to be ended yet.
        assert product.wait(20.0) in (0, -signal.SIGTERM), product.log
        assert product.processes() == {}
    product.start()
    assert product.track(product.demo)
