"""The front under fire, in small: its stores are in memory, its HTTP server and sockets are the real ones."""

from __future__ import annotations

import asyncio
import logging

import pytest

from daemon.errors import LogUnavailable
from tests.fuzz import corpus
from tests.fuzz.http.attack import attack, replay
from tests.fuzz.http.memory_keys import keys_of
from tests.support.front import Front

#: A second or two of requests.
INPUTS = 1200
DEADLINE_S = 30.0


async def _at_rest(front: Front) -> None:
    """Until every event has its outcome: those whose callers have just left are noticed a moment later."""
    async with asyncio.timeout(DEADLINE_S):
        while not front.balanced():
            await asyncio.sleep(0.01)


async def test_a_short_attack(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    """Right answers only, every event with its outcome, and no error in the log."""
    tally = await attack(front.port, keys_of(front), INPUTS, seed=1)
    assert not tally.faults, "\n\n".join(
        f"{fault.rule}\n{fault.about}\nsent: {fault.sent[:2000]!r}" for fault in tally.faults.values()
    )
    assert tally.inputs == INPUTS
    reached = {kind for kind, outcomes in tally.outcomes.items() if outcomes["200"] or outcomes["202"]}
    assert reached >= {"browser", "batch", "cdp", "cdp batch", "page", "pixel", "signed", "track", "webhook"}
    await _at_rest(front)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_attack_while_nothing_can_be_kept(front: Front) -> None:
    """No log, no stores: what could have been taken is a 503 with Retry-After in its product's shape, nothing else is."""
    keys = keys_of(front)
    front.outbox.error = LogUnavailable("no log takes events", retry_after_s=2.5)
    front.visits.away = True
    tally = await attack(front.port, keys, INPUTS // 3, seed=2)
    front.keys.away = front.webhooks.away = front.merchants.away = front.contracts.away = True
    tally.add(await attack(front.port, keys, INPUTS // 3, seed=3))
    assert not tally.faults, [(fault.rule, fault.about, fault.sent[:1000]) for fault in tally.faults.values()]
    refused = {kind for kind, outcomes in tally.outcomes.items() if outcomes["503"]}
    assert refused >= {
        "browser",
        "batch",
        "cdp",
        "cdp batch",
        "contracts",
        "page",
        "pixel",
        "signed",
        "track",
        "webhook",
    }
    assert not front.outbox.records
    await _at_rest(front)


async def test_the_http_seeds(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    """What broke an answer once, and what looks as if it could."""
    keys = keys_of(front)
    seeds = corpus.seeds("http")

    async def one(name: str, data: bytes) -> tuple[str, str]:
        try:
            return name, await replay(front.port, keys.filled(data))
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{name}: {error!r}") from error

    outcomes = dict(await asyncio.gather(*(one(name, data) for name, data in seeds.items())))
    assert outcomes["a-good-event"] == outcomes["two-events-in-a-row"] == "200"
    assert outcomes["chunks-that-end-in-the-middle"] == outcomes["a-length-that-never-comes"] == "400"
    assert outcomes["a-preflight-from-an-origin-of-30-kb"] == "204"
    await _at_rest(front)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
