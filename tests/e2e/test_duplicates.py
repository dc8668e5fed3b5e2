"""One id, one event: whoever sends it again, when, over which frontend, and whatever dies in between."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections import Counter

from tests.support.product import NewProduct, Product, Source, until
from tests.support.wire import Reply, Wire, request

#: architecture: the claim of a crashed frontend is free again within this time
FREE_AGAIN_S = 5.0


def event(source: Source, message_id: str) -> bytes:
    body = b'{"type":"track","event":"Once","messageId":"%b"}' % message_id.encode()
    return request("POST", "/v1/t", source.headers, body)


def test_copies_at_the_same_moment(product: Product, source: Source) -> None:
    """Forty copies at once over both frontends: one is published, each is answered as soon as that is durable."""
    sent: list[str] = []
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(product.ingest_port)) for _ in range(40)]
        for _ in range(10):
            sent.append(str(uuid.uuid4()))
            for wire in wires:
                wire.send(event(source, sent[-1]))
            replies = [reply for wire in wires if (reply := wire.reply()) is not None]
            assert Counter(reply.status for reply in replies) == {200: 40}
            assert [reply.get("x-headgate-duplicate") for reply in replies].count(None) == 1
    ids = product.message_ids()
    assert [ids.count(message_id) for message_id in sent] == [1] * 10


def test_copies_while_the_first_is_on_its_way(new_product: NewProduct) -> None:
    """No copy is called a duplicate before the first is durable; when the first fails, the id is free at once."""
    product = new_product().start()
    source = product.demo
    product.track(source)
    message_id = str(uuid.uuid4())
    publisher = product.kill("publisher", 0, signal.SIGSTOP)
    try:
        with Wire(product.ingest_port) as first, contextlib.ExitStack() as stack:
            first.send(event(source, message_id))
            until(lambda: product.metrics().sum("headgate_requests_in_work") == 1, "1 in work")
            copies = [stack.enter_context(Wire(product.ingest_port)) for _ in range(10)]
            for copy in copies:
                copy.send(event(source, message_id))
            for copy in copies:
                assert (reply := copy.reply()) is not None
                assert (reply.status, reply.get("retry-after")) == (503, "1")
            assert (reply := first.reply()) is not None
            assert reply.status == 503
    finally:
        os.kill(publisher, signal.SIGCONT)

    def accepted() -> Reply | None:
        reply = product.post("t", source, {"type": "track", "event": "Once", "messageId": message_id})
        return reply if reply.status == 200 else None

    # The publisher had it in its socket all the time: it may be on the log although nobody was told so.
    until(accepted, "it is taken")
    again = product.post("t", source, {"type": "track", "event": "Once", "messageId": message_id})
    assert again.get("x-headgate-duplicate") == "1"
    found = [one["id"] for one in product.tail() if one.get("messageId") == message_id]
    assert 1 <= len(found) <= 2
    assert len(set(found)) == 1, "a copy on the log has the same id"
    assert product.at_rest().in_work == 0


def test_a_crashed_frontends_claim_is_free_again(new_product: NewProduct) -> None:
    product = new_product().start()
    source = product.demo
    message_id = str(uuid.uuid4())
    publisher = product.kill("publisher", 0, signal.SIGSTOP)
    try:
        with Wire(product.ingest_port) as wire:
            wire.send(event(source, message_id))

            def busy() -> list[str]:
                samples = product.metrics().samples
                return [one["slot"] for name, one, n in samples if name == "headgate_requests_in_work" and n]

            [slot] = until(busy, "1 in work")
            product.kill("frontend", int(slot))
            assert wire.reply() is None
    finally:
        os.kill(publisher, signal.SIGCONT)
    statuses: list[int] = []

    def taken() -> Reply | None:
        reply = product.post("t", source, {"type": "track", "event": "Once", "messageId": message_id})
        statuses.append(reply.status)
        return reply if reply.status == 200 else None

    reply = until(taken, "the claim is free", FREE_AGAIN_S + 2.0)
    assert reply.get("x-headgate-duplicate") is None, "nobody was told that it is durable"
    assert set(statuses) <= {200, 503}
    assert message_id in product.message_ids()
