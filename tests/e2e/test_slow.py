"""Slow callers and many: the time limits of head and body, idle connections, and the connection budget."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator

import pytest

from tests.support.product import NewProduct, Product, Source
from tests.support.wire import Wire, request

HEAD_S, BODY_S = 1.0, 2.0
GOOD = b'{"type":"track","event":"Seen"}'


@pytest.fixture
def impatient(new_product: NewProduct) -> Product:
    """The limits lowered, so that the test need not wait for them."""
    return new_product(
        HEADGATE_FRONTEND__COUNT="1",
        HEADGATE_SERVER__HEAD_TIMEOUT_S=str(HEAD_S),
        HEADGATE_SERVER__BODY_TIMEOUT_S=str(BODY_S),
    ).start()


def test_slow_heads_and_bodies(impatient: Product) -> None:
    source = impatient.demo
    whole = request("POST", "/v1/t", source.headers, GOOD)
    at_head, at_body = whole[:30], whole[:-10]
    with contextlib.ExitStack() as stack:
        wires = {
            name: stack.enter_context(Wire(impatient.ingest_port))
            for name in ("half a head", "trickled head", "half a body", "trickled body", "chunks")
        }
        began = time.monotonic()
        wires["half a head"].send(at_head)
        wires["half a body"].send(at_body)
        head, _, body = whole.partition(b"\r\n\r\n")
        wires["trickled body"].send(head + b"\r\n\r\n")
        chunked = request("POST", "/v1/t", {**source.headers, "Transfer-Encoding": "chunked"}, length=False)
        wires["chunks"].send(chunked + b"1\r\n{\r\n")
        for _ in range(25):
            wires["trickled head"].send(b"P")
            wires["trickled body"].send(body[:1])
            wires["chunks"].send(b"1\r\n \r\n")
            time.sleep(0.1)
        # A trickle extends neither limit: both are over.
        for name in ("half a head", "trickled head"):
            reply = wires[name].reply()
            assert reply is None or reply.status in (400, 408), name
            assert wires[name].closed() or reply is None
        for name in ("half a body", "trickled body", "chunks"):
            reply = wires[name].reply()
            assert reply is not None, name
            assert (reply.status, reply.code, reply.get("connection")) == (408, "REQUEST_TIMEOUT", "close"), (
                name
            )
        assert time.monotonic() - began > BODY_S
    rest = impatient.at_rest()
    assert rest.outcomes["timeout"] == 3

    # A body that takes its time is taken, as long as it stays within the limit.
    with Wire(impatient.ingest_port) as wire:
        wire.send(whole[: -len(GOOD)])
        for byte in GOOD:
            wire.send(bytes([byte]))
            time.sleep(0.02)
        assert (reply := wire.reply()) is not None
        assert reply.status == 200
        # An idle connection is closed after the time that a head may take.
        began = time.monotonic()
        assert wire.closed()
        assert time.monotonic() - began > HEAD_S / 2


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for this process's ends of many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_1500_idle_connections_disturb_nobody(product: Product, source: Source) -> None:
    whole = request("POST", "/v1/t", source.headers, GOOD)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Wire(product.ingest_port)) for _ in range(1500)]
        for wire in idle:
            wire.send(whole)
        assert {reply.status for wire in idle if (reply := wire.reply()) is not None} == {200}
        for _ in range(50):
            product.track(source)
        # All of them are still good.
        for wire in idle:
            wire.send(whole)
        assert [reply.status for wire in idle if (reply := wire.reply()) is not None] == [200] * 1500
    assert product.at_rest().in_work == 0


@pytest.mark.usefixtures("many_files")
def test_connections_over_the_budget_wait(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_FRONTEND__COUNT="1", HEADGATE_SERVER__CONNECTIONS_MAX="20").start()
    whole = request("POST", "/v1/t", product.demo.headers, GOOD)
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(Wire(product.ingest_port)) for _ in range(20)]
        for wire in first:
            wire.send(whole)
            assert (reply := wire.reply()) is not None
            assert reply.status == 200
        late = stack.enter_context(Wire(product.ingest_port))
        late.send(whole)
        assert late.quiet(0.3), "it waits, it is not refused"
        assert product.readyz()[0] == 200, "the admin port has its own connections"
        for wire in first[:5]:
            wire.close()
        assert (reply := late.reply()) is not None
        assert reply.status == 200
