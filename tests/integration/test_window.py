"""Sliding windows on a real Valkey: the law over frontends, what gives back, and what happens without Redis."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from daemon.adapters.redis.script import WINDOW
from daemon.adapters.redis.visits import RedisVisitStore
from daemon.adapters.redis.window import LocalWindows, WindowedVisits
from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import ClaimState, Visit, Window
from tests.support.stores import running_wire, settings_for, until

SECOND_US = 1_000_000
_stories = itertools.count(1)
#: 2026, in microseconds.
START_US = 1_772_029_800 * SECOND_US


class Clock:
    """One time for all frontends, moved by the test."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        """Let it pass."""
        self.now_us += int(seconds * SECOND_US)


class Frontend:
    """One frontend's stores."""

    def __init__(self, wire: RedisWire, settings: Settings, clock_us: Callable[[], int]) -> None:
        self.wire = wire
        self.metrics = StoreMetrics()
        self.behind = RedisVisitStore(wire, settings, self.metrics)
        self.windows = WindowedVisits(self.behind, wire, settings, self.metrics, clock_us=clock_us)

    async def send(
        self,
        event: str,
        name: str = "m:203.0.113.9",
        *,
        count: int = 30,
        period_s: float = 60.0,
        done: bool = True,
    ) -> ClaimState:
        """An event that comes in and, where it is new, is published; what came of its claim."""
        visit = seen(event, name, count=count, period_s=period_s)
        await self.windows.visit([visit])
        if visit.claim == "new" and done:
            self.windows.confirm([visit])
        return visit.claim


def seen(event: str, name: str = "m:203.0.113.9", *, count: int = 30, period_s: float = 60.0) -> Visit:
    """What a tick asks for an event."""
    return Visit(claim_id=event, window=Window(name, count, period_s))


class Site:
    """Frontends on one Redis, with one clock."""

    def __init__(self, redis_url: str) -> None:
        self.settings = settings_for(redis_url, claims__pending_s=5.0)
        self.clock = Clock()
        self.frontends: list[Frontend] = []

    def __getitem__(self, number: int) -> Frontend:
        return self.frontends[number]


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    """Three frontends."""
    made = Site(redis_url)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            wire = await stack.enter_async_context(running_wire(made.settings))
            frontend = Frontend(wire, made.settings, made.clock)
            await frontend.behind.start()
            made.frontends.append(frontend)
        yield made
        for frontend in made.frontends:
            await frontend.windows.stop()
            await frontend.behind.stop()


async def places(redis_url: str, name: str = "m:203.0.113.9") -> int:
    """How many places of a window are taken."""
    async with Redis.from_url(redis_url) as client:
        return int(await client.zcard(f"hg:w:{name}"))


# --- the law ----------------------------------------------------------------------------------------


async def test_thirty_in_a_minute_over_all_frontends(site: Site) -> None:
    """The 31st is told when there is room, to the microsecond, whichever frontend it comes to; others are untouched."""
    for number in range(30):
        assert await site[number % 3].send(f"e{number}") == "new"
        site.clock.forward(1)
    visit = seen("e30")
    await site[0].windows.visit([visit])
    assert visit.claim == "limited"
    assert visit.window is not None
    assert visit.window.wait_s == 30.0
    assert await site[1].send("e30", "m:203.0.113.10") == "new"
    assert await site[1].send("other merchant's", "n:203.0.113.9") == "new"
    site.clock.forward(29.999_999)
    assert await site[2].send("e31") == "limited"
    site.clock.forward(0.000_001)
    assert await site[2].send("e31") == "new"
    assert await site[0].send("e32") == "limited"
    site.clock.forward(1)
    assert await site[0].send("e32") == "new"


async def test_any_minute_not_the_clocks(site: Site) -> None:
    """Thirty at the end of a minute and thirty at the beginning of the next one are sixty in a moment."""
    site.clock.forward(59)
    assert [await site[0].send(f"a{n}") for n in range(30)] == ["new"] * 30
    site.clock.forward(2)
    assert await site[0].send("b") == "limited"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4_000_000), st.integers(0, 40)), max_size=80),
    st.integers(1, 5),
)
async def test_no_window_sees_more(site: Site, story: list[tuple[int, int, int]], count: int) -> None:
    """Against a model: whatever comes when and where, copies included, with a window of five seconds."""
    name = f"story {next(_stories)}"
    known: set[str] = set()
    taken: list[int] = []
    for where, pause_us, event in story:
        site.clock.now_us += pause_us
        now = site.clock.now_us
        recent = [at for at in taken if at > now - 5 * SECOND_US]
        event_id = f"{name} {event}"
        wanted = "confirmed" if event_id in known else "new" if len(recent) < count else "limited"
        found = await site[where].send(event_id, name, count=count, period_s=5.0)
        if found == "pending":  # its confirm is still on its way
            await until(lambda: not any(one.behind._confirms for one in site.frontends))
            found = await site[where].send(event_id, name, count=count, period_s=5.0)
        assert found == wanted
        if found == "new":
            known.add(event_id)
            taken.append(now)
    assert all(sum(at <= other < at + 5 * SECOND_US for other in taken) <= count for at in taken)


async def test_one_tick_with_more_than_there_is_room_for(site: Site) -> None:
    """All at once through all frontends, in calls of more than one part: exactly as many as there are places."""
    waves = [[seen(f"{wave}-{n}") for n in range(300)] for wave in range(3)]
    await asyncio.gather(
        *(frontend.windows.visit(wave) for frontend, wave in zip(site.frontends, waves, strict=True))
    )
    states = [visit.claim for wave in waves for visit in wave]
    assert (states.count("new"), states.count("limited")) == (30, 870)


# --- what uses nothing up ------------------------------------------------------------------------------


async def test_copies_take_no_place(site: Site, redis_url: str) -> None:
    """Confirmed ones, and those of an event that has not finished; they are told as copies although it is full."""
    assert await site[0].send("a", count=2) == "new"
    assert await site[0].send("b", count=2, done=False) == "new"
    await until(lambda: not site[0].behind._confirms)
    assert await site[1].send("a", count=2) == "confirmed"
    assert await site[1].send("b", count=2) == "pending"
    assert await site[1].send("c", count=2) == "limited"
    assert await places(redis_url) == 2


async def test_a_copy_that_follows_at_once_finds_its_first_one_done(site: Site) -> None:
    """The confirm goes with the same trip, before the claim."""
    assert await site[0].send("a") == "new"
    assert await site[0].send("a") == "confirmed"


async def test_what_was_not_published_gives_its_place_back(site: Site, redis_url: str) -> None:
    """With the next call, or by itself; the id is free too."""
    assert await site[0].send("a", count=1, done=False) == "new"
    assert await site[1].send("b", count=1) == "limited"
    site[0].windows.release("a")
    await until(lambda: _nobody(redis_url))
    assert await site[1].send("b", count=1) == "new"
    site.clock.forward(60)
    assert await site[0].send("a", count=1, done=False) == "new"
    site[0].windows.release("a")
    assert await site[0].send("a", count=1) == "new"


async def _nobody(redis_url: str) -> bool:
    return await places(redis_url) == 0


async def test_only_its_own_claim_is_given_back(site: Site, redis_url: str) -> None:
    """Another frontend has claimed the id since: its place stays."""
    assert await site[0].send("a", done=False) == "new"
    async with Redis.from_url(redis_url) as client:
        await client.set("hg:c:a", "somebody else")
        site[0].windows.release("a")
        assert await site[0].send("b") == "new"
        assert await client.get("hg:c:a") == b"somebody else"
    assert await places(redis_url) == 2


async def test_visits_without_a_window_go_as_ever(site: Site, redis_url: str) -> None:
    """In one tick with the others; released ones too."""
    plain, windowed = Visit(claim_id="plain", visitor="v", learn={"uid": "u"}), seen("windowed")
    await site[0].windows.visit([plain, windowed])
    assert (plain.claim, plain.known, windowed.claim) == ("new", {"uid": "u"}, "new")
    site[0].windows.release("plain")
    again = Visit(claim_id="plain")
    await site[0].windows.visit([again])
    assert again.claim == "new"
    assert await places(redis_url) == 1


# --- keys, clocks, the script --------------------------------------------------------------------------


async def test_keys_expire_and_are_bounded(site: Site, redis_url: str) -> None:
    """A window holds no more than its count, and is gone soon after its period."""
    for number in range(100):
        await site[0].send(f"e{number}", count=10)
    async with Redis.from_url(redis_url) as client:
        assert await client.zcard("hg:w:m:203.0.113.9") == 10
        assert 60_000 < await client.pttl("hg:w:m:203.0.113.9") <= 61_000
        site.clock.forward(61)
        assert await site[0].send("late", count=10) == "new"
        assert await client.zcard("hg:w:m:203.0.113.9") == 1


async def test_fewer_are_allowed_from_now_on(site: Site) -> None:
    """A smaller count holds for what was let in before; the wait is until enough of it is gone."""
    for number in range(5):
        assert await site[0].send(f"e{number}", count=5) == "new"
        site.clock.forward(1)
    visit = seen("more", count=2)
    await site[0].windows.visit([visit])
    assert visit.claim == "limited"
    assert visit.window is not None
    assert visit.window.wait_s == 58.0
    site.clock.forward(58)
    assert await site[0].send("more", count=2) == "new"


async def test_a_clock_that_goes_back(site: Site) -> None:
    """A little: what was let in counts on. By hours (another server): it is forgotten, nobody waits for hours."""
    assert await site[0].send("a", count=1) == "new"
    site.clock.forward(-1)
    visit = seen("b", count=1)
    await site[0].windows.visit([visit])
    assert visit.claim == "limited"
    assert visit.window is not None
    assert visit.window.wait_s == 61.0
    site.clock.forward(-7200)
    assert await site[0].send("b", count=1) == "new"


async def test_the_servers_own_clock(redis_url: str) -> None:
    """Without a test's clock, frontends share Redis's; a short window is over by itself."""
    made = settings_for(redis_url)
    async with running_wire(made) as wire:
        frontend = Frontend(wire, made, lambda: 0)
        assert await frontend.send("a", count=1, period_s=0.05) == "new"
        visit = seen("b", count=1, period_s=0.05)
        await frontend.windows.visit([visit])
        assert visit.claim in {"limited", "new"}
        if visit.claim == "limited":
            assert visit.window is not None
            assert 0 < visit.window.wait_s <= 0.05
            await until(lambda: _let_in(frontend))
        await frontend.windows.stop()
        await frontend.behind.stop()


async def _let_in(frontend: Frontend) -> bool:
    return await frontend.send("b", count=1, period_s=0.05) == "new"


async def test_a_script_that_redis_has_forgotten_is_loaded_again(site: Site, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.script_flush()
    assert await site[0].send("a") == "new"


# --- without Redis -------------------------------------------------------------------------------------


async def test_without_redis_each_frontend_counts_alone() -> None:
    """Nobody is refused who would not have been: a whole window per frontend, and no claims."""
    made = settings_for()
    async with running_wire(made) as wire:
        one, two = Frontend(wire, made, lambda: 0), Frontend(wire, made, lambda: 0)
        for frontend in (one, two):
            assert [await frontend.send(f"e{n}", count=3) for n in range(3)] == ["skipped"] * 3
            visit = seen("e3", count=3)
            await frontend.windows.visit([visit])
            assert visit.claim == "limited"
            assert visit.window is not None
            assert 0 < visit.window.wait_s <= 60
            assert await frontend.send("e3", "m:203.0.113.10", count=3) == "skipped"
            assert frontend.metrics.local_limits.total() == 5
            await frontend.windows.stop()


async def test_when_nothing_is_taken_without_redis() -> None:
    """redis.when_away decides for these events too."""
    made = settings_for(redis__when_away="refuse")
    async with running_wire(made) as wire:
        frontend = Frontend(wire, made, lambda: 0)
        with pytest.raises(StoreUnavailable):
            await frontend.send("a")
        await frontend.windows.stop()


async def test_a_call_that_fails_is_answered_here(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis refuses the script: events are claimed as any other, each frontend counts alone, and it is said once."""
    broken: Any = type(WINDOW)("window")
    broken.text, broken.sha = "return redis.error_reply('ERR broken')", "0" * 40
    monkeypatch.setattr("daemon.adapters.redis.window.WINDOW", broken)
    assert [await site[0].send(f"e{n}", count=2) for n in range(3)] == ["new", "new", "limited"]
    await until(lambda: not site[0].behind._confirms)
    # a copy takes no place here either
    site[0].windows._local.give_back(Window("m:203.0.113.9", 2, 60.0))
    assert await site[0].send("e0", count=2) == "confirmed"
    assert await site[0].send("e9", count=2) == "new"


async def test_gives_wait_for_redis(site: Site, redis_url: str) -> None:
    """What was to be given back while Redis was away is, once it is there."""
    assert await site[0].send("a", count=1, done=False) == "new"
    wire = site[0].wire
    link = wire._link
    assert link is not None
    link.close("for the test")
    site[0].windows.release("a")
    await until(lambda: wire.up)
    await until(lambda: _nobody(redis_url))


def test_local_windows_are_bounded() -> None:
    """In number, each by its count; the longest unused go first."""
    windows = LocalWindows(names_max=3)
    for name in "abcd":
        assert windows.take(Window(name, 1, 60.0), 1.0) == 0.0
    assert len(windows) == 3
    assert windows.take(Window("d", 1, 60.0), 2.0) == 59.0
    assert windows.take(Window("a", 1, 60.0), 2.0) == 0.0
    assert windows.take(Window("d", 1, 60.0), 61.0) == 0.0
