"""The front at its limits: requests in work, and a gate that is shut. Refused before the body, counted, and told why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.config.schema import Server
from daemon.events.outcome import Outcome
from tests.support.front import TRACK, Front, made
from tests.support.logs import until


@pytest.fixture
async def narrow() -> AsyncIterator[Front]:
    """A front that has two requests in work at most."""
    async for one in made(server=Server(requests_max=2)):
        yield one


async def test_requests_over_the_cap_are_refused_at_once_and_those_in_work_are_not(narrow: Front) -> None:
    narrow.outbox.hold = asyncio.Event()
    waiting = [asyncio.create_task(narrow.post()) for _ in range(2)]
    await until(lambda: narrow.outbox.publishes > 0 and narrow.kit.accounts.requests == 2, "two in work")
    reply = await narrow.post()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json() == {"error": {"code": "UNAVAILABLE", "message": "too many requests in work"}}
    narrow.outbox.hold.set()
    assert [one.status_code for one in await asyncio.gather(*waiting)] == [200, 200]
    assert (await narrow.post()).status_code == 200
    assert narrow.outcome(Outcome.UNAVAILABLE) == 1


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/t", {"error": {"code": "UNAVAILABLE", "message": "not now"}}),
        ("/v1/track", {"error": {"code": "UNAVAILABLE", "message": "not now"}}),
        ("/v1/cdp/events", {"status": "error", "error_code": "unavailable", "message": "not now"}),
        (
            "/v1/browser/events",
            {"success": False, "error": "unavailable", "message": "not now", "details": []},
        ),
    ],
)
async def test_a_shut_gate_is_said_in_each_products_shape(
    front: Front, path: str, shape: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = front.kit.gate
    monkeypatch.setattr(gate, "why", "not now")
    monkeypatch.setattr(gate, "_cause", "overload")
    # What would be refused for other reasons is not looked at: neither the key nor the body.
    reply = await front.post(path, body=b"{", key="dk_live_nobody")
    assert (reply.status_code, reply.json()) == (503, shape)
    assert int(reply.headers["retry-after"]) >= 1
    monkeypatch.undo()
    assert (await front.post("/v1/t", TRACK)).status_code == 200
    assert front.outcome(Outcome.UNAVAILABLE) == 1


async def test_a_shut_gate_reads_no_body(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front.kit.gate, "why", "not now")
    monkeypatch.setattr(front.kit.gate, "_cause", "overload")
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(b"POST /v1/t HTTP/1.1\r\nHost: t\r\nContent-Length: 400000\r\n\r\n{")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    writer.close()
