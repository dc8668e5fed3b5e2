"""The gate before all events: when it shuts, when it opens, and what it says."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from daemon.config.schema import Settings
from daemon.events.outcome import Outcome
from daemon.frontend.gate import TRY_S, Gate
from daemon.observe.catalog import GateMetrics


class World:
    """What the gate looks at, to be set by the test."""

    def __init__(self, **settings: Any) -> None:
        self.redis = self.postgres = True
        self.oldest_s = 0.0
        self.answers = 0
        self.now_s = 100.0
        self.metrics = GateMetrics()
        self.gate = Gate(
            msgspec.convert(settings, type=Settings),
            self.metrics,
            redis_up=lambda: self.redis,
            postgres_up=lambda: self.postgres,
            oldest_s=lambda: self.oldest_s,
            answers=lambda: self.answers,
            clock=lambda: self.now_s,
        )

    def why(self) -> str:
        self.gate.look()
        return self.gate.why

    def shut(self) -> set[str]:
        return {str(sample.labels["why"]) for sample in self.metrics.shut.collect().samples if sample.value}


def test_by_default_a_store_that_is_away_shuts_nothing() -> None:
    world = World()
    world.redis = world.postgres = False
    assert world.why() == ""
    assert world.gate.reasons == []


@pytest.mark.parametrize("store", ["redis", "postgres"])
def test_a_store_that_the_settings_will_not_do_without(store: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(**{store: {"when_away": "refuse"}})
    assert world.why() == ""
    setattr(world, store, False)
    assert f"({store}.when_away)" in world.why()
    assert world.shut() == {store}
    assert world.gate.reasons == [world.gate.why]
    refusal = world.gate.refusal()
    assert (refusal.outcome, dict(refusal.headers)["retry-after"]) == (Outcome.UNAVAILABLE, "1")
    assert world.metrics.refused.at(store).n == 1
    world.now_s += 7
    assert world.why()
    setattr(world, store, True)
    assert world.why() == ""
    assert world.shut() == set()
    assert [line.message.split(":")[0] for line in caplog.records] == [
        "events are refused with 503 from now on",
        "events are taken again, after 7.0 s",
    ]


def test_events_that_wait_too_long_shut_it_and_answers_open_it() -> None:
    world = World(frontend={"oldest_wait_max_s": 2.0})
    world.oldest_s = 2.0
    assert world.why() == ""
    world.oldest_s = 2.1
    assert "more than 2 s" in world.why()
    assert world.shut() == {"overload"}
    # What is answered now is what has waited; the rest still does.
    world.answers, world.oldest_s = 1, 1.5
    assert world.why()
    world.oldest_s = 0.9
    assert world.why() == ""
    world.oldest_s = 1.9
    assert world.why() == "", "it does not flap: it shuts at the limit again"


def test_when_all_was_given_up_and_nothing_answered_a_few_try() -> None:
    world = World(frontend={"oldest_wait_max_s": 2.0})
    world.oldest_s = 2.5
    assert world.why()
    world.oldest_s = 0.0
    assert world.why(), "nobody has answered"
    world.now_s += TRY_S
    assert world.why() == "", "for one look"
    assert world.gate.reasons, "/readyz is not fooled"
    world.oldest_s = 0.05
    assert world.why(), "those who try wait, and no others"
    world.oldest_s, world.now_s = 0.3, world.now_s + TRY_S
    assert world.why(), "as long as they wait"
    world.answers, world.oldest_s = 1, 0.0
    assert world.why() == ""


def test_when_nobody_tries_it_opens_all_the_same() -> None:
    """A balancer that sees /readyz red sends nothing: it must not stay red for that."""
    world = World(frontend={"oldest_wait_max_s": 2.0})
    world.oldest_s = 2.5
    assert world.why()
    world.oldest_s = 0.0
    assert world.why()
    world.now_s += TRY_S
    assert world.why() == ""
    assert world.shut() == {"overload"}
    assert world.why() == "", "nobody came"
    assert world.shut() == set()
    assert world.gate.reasons == []


def test_an_age_of_0_never_shuts_it() -> None:
    world = World(frontend={"oldest_wait_max_s": 0})
    world.oldest_s = 1000.0
    assert world.why() == ""


def test_the_default_leaves_an_outage_of_kafka_its_deadline() -> None:
    settings = Settings()
    assert settings.publisher.ack_deadline_s < settings.frontend.oldest_wait_max_s
    assert settings.frontend.oldest_wait_max_s < settings.frontend.answer_timeout_s


async def test_it_looks_by_itself_and_no_fault_ends_that(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    world = World(redis={"when_away": "refuse"})
    world.gate.start()
    try:
        del world.redis  # any error will do
        async with asyncio.timeout(10):
            while "AttributeError" not in caplog.text:
                await asyncio.sleep(0.01)
            world.redis = False
            while not world.gate.why:
                await asyncio.sleep(0.01)
    finally:
        await world.gate.stop()
