"""
The token law, over random schedules of several frontends on a real Redis: no window of t seconds sees
more than rate * t + burst grants, whatever is held, lost, delayed or crashed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.adapters.redis.lease_book import HELD_LIFE_S, LEASE_LIFE_S, LeaseBook
from daemon.adapters.redis.script import LEASE
from tests.support.bucket import World

_TOLERANCE = 1e-4


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url)
    client.script_load(LEASE.text)
    yield client
    client.close()


_ADVANCES_US = [0, 1, 100, 1_000, 7_500, 15_000, 100_000, 740_000, 800_000, 1_100_000, 3_000_000]
_LIMITS = {
    "rate": st.sampled_from([0.5, 5.0, 100.0, 1000.0, 50_000.0]),
    "burst": st.sampled_from([1, 2, 5, 40, 1000]),
}
_step = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from(_ADVANCES_US)),
    st.tuples(st.just("requests"), st.integers(1, 12)),
    st.tuples(st.just("steady"), st.integers(20, 60)),
    st.tuples(
        st.sampled_from(
            ["send", "execute", "receive", "call", "call", "call", "turn", "turn", "lose", "crash"]
        ),
        st.just(0),
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**_LIMITS, steps=st.lists(st.tuples(st.integers(0, 2), _step), min_size=5, max_size=60))
def test_the_law_holds_on_any_schedule(
    client: redis.Redis, rate: float, burst: int, steps: list[tuple[int, tuple[str, int]]]
) -> None:
    world = World(client, rate, burst, frontends=3)
    for number, (what, count) in steps:
        frontend = world.frontends[number]
        match what:
            case "advance":
                world.advance(count)
            case "requests":
                for _ in range(count):
                    frontend.request()
            case "steady":  # long enough that a slice is held in stock
                for _ in range(count):
                    world.advance(1000)
                    for _ in range(3):
                        frontend.request()
                    frontend.turn()
            case "crash":
                frontend.start()
            case _:
                getattr(frontend, what)()
        assert world.excess() <= _TOLERANCE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.sampled_from([(0.5, 1), (5.0, 5), (100.0, 40), (1000.0, 40), (50_000.0, 1000)]),
    chance=st.randoms(use_true_random=False),
)
def test_the_script_keeps_the_law_whatever_honest_frontends_do(
    client: redis.Redis, limit: tuple[float, int], chance: random.Random
) -> None:
    """No book here: holders that ask for, keep, use late and give back whatever they like."""
    rate, burst = limit
    world = World(client, rate, burst, frontends=1)
    holders = [Holder(world, str(number)) for number in range(3)]
    for _ in range(120):
        holder = chance.choice(holders)
        match chance.choice(["advance", "advance", "use", "use", "call", "call", "call", "lost", "crash"]):
            case "advance":
                world.advance(chance.choice([0, 1_000, 15_000, 300_000, 740_000, 1_100_000]))
            case "use":
                holder.use(chance.choice([1, holder.held, holder.held]))
            case "call":
                # Each grant is the more dangerous the later it is used.
                part = chance.choice([0, burst // 2, burst])
                holder.call(part, chance.choice([0, 0, burst]), chance.choice([0.0, 0.5, 1.0]))
            case "lost":
                holder.call(chance.choice([0, burst]), 0, 1.0)
                holder.die()
            case "crash":
                holder.die()
        assert world.excess() <= _TOLERANCE


class Holder:
    """A frontend that is honest and nothing more."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._lives = 0
        self.held = 0
        self._until_us = 0
        self._used_us = world.now_us

    def use(self, count: int) -> None:
        world = self._world
        if world.now_us >= self._until_us:
            self.held = 0
        for _ in range(min(count, self.held)):
            world.note_grant()
            self.held -= 1
            self._used_us = world.now_us

    def call(self, need: int, part: int, keep_part: float) -> None:
        world = self._world
        self.use(0)
        keep = int(self.held * keep_part)
        idle_us = world.now_us - self._used_us
        row = (world.name, world.rate, world.burst, keep, self.held - keep, need, part, 0, idle_us)
        self.held = keep + world.run(f"{self._name}.{self._lives}", [row])[0]
        self._until_us = world.now_us + int(HELD_LIFE_S * 1e6)

    def die(self) -> None:
        self.held = 0
        self._lives += 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), burst=st.sampled_from([50, 1000]))
def test_a_flushed_redis_gives_one_bucket_more_and_no_more(
    client: redis.Redis, seed: int, burst: int
) -> None:
    chance = random.Random(seed)
    world = World(client, 1000.0, burst, frontends=4)
    flushed = False
    for step in range(300):
        world.advance(1000)
        if step == 150:
            client.delete(f"hg:l:{world.name}")
            flushed = True
        for frontend in world.frontends:
            for _ in range(chance.randrange(6)):
                frontend.request()
            frontend.turn()
        assert world.excess() <= _TOLERANCE + (burst if flushed else 0)


@pytest.mark.parametrize("frontends", [1, 4, 16])
@pytest.mark.parametrize("load", [1.05, 1.5, 20.0])
def test_at_saturation_the_rate_is_granted_within_a_twentieth(
    client: redis.Redis, frontends: int, load: float
) -> None:
    rate, seconds = 1000.0, 3
    chance = random.Random(frontends * 100 + int(load))
    world = World(client, rate, 1000, frontends=frontends)
    asked = 0.0
    granted_at_start = 0
    for step in range(1000 * (seconds + 2)):
        if step == 2000:
            granted_at_start = len(world.grants_us)  # the burst is used up by now, or nearly
        world.advance(1000)
        asked += load * rate / 1000
        while asked >= 1:
            asked -= 1
            chance.choice(world.frontends).request()
        for frontend in world.frontends:
            frontend.turn()
    assert world.excess() <= _TOLERANCE
    granted = len(world.grants_us)
    # The bucket starts full: at a small overload some of it is still left to be granted.
    offered = min(load * rate * (seconds + 2), rate * (seconds + 2) + world.burst)
    assert granted >= 0.95 * offered
    if load > 1.5:
        assert 0.95 * rate * seconds <= granted - granted_at_start <= 1.05 * rate * seconds


def test_at_saturation_the_calls_are_few(client: redis.Redis) -> None:
    world = World(client, 1000.0, 1000, frontends=4)
    requests = 0
    for _ in range(2000):
        world.advance(1000)
        for frontend in world.frontends:
            for _ in range(5):
                frontend.request()
                requests += 1
            frontend.turn()
    assert world.calls / requests <= 0.02


@pytest.mark.parametrize("seed", range(5))
def test_a_small_bucket_is_exact_over_all_frontends(client: redis.Redis, seed: int) -> None:
    chance = random.Random(seed)
    world = World(client, 5.0, 5, frontends=4)
    for _ in range(3):
        before = len(world.grants_us)
        answers = [chance.choice(world.frontends).request() for _ in range(6)]
        for frontend in world.frontends:
            frontend.turn()
        assert len(world.grants_us) - before == 5
        refused = [answer.result for answer in answers if answer.result]
        assert len(refused) == 1
        assert 0 < refused[0] <= 0.2 + 1e-6
        # One is there again after exactly that long (the holders have reported meanwhile).
        world.advance(1_000)
        for _ in range(20):
            world.advance(10_000)
            for frontend in world.frontends:
                frontend.turn()
        answer = chance.choice(world.frontends).request()
        for frontend in world.frontends:
            frontend.turn()
        assert answer.result == 0.0
        world.advance(1_300_000)


def test_a_crashed_frontends_tokens_come_back_as_time_and_never_as_tokens(client: redis.Redis) -> None:
    world = World(client, 1000.0, 100, frontends=2)
    one, other = world.frontends
    for _ in range(60):  # a steady pace, so that a slice is held
        world.advance(1000)
        one.request()
        one.turn()
    held = one.book.held
    assert held > 0
    one.start()
    world.advance(int(LEASE_LIFE_S * 1e6) - 50_000)
    answers = [other.request() for _ in range(200)]
    other.call()
    assert sum(answer.result == 0.0 for answer in answers) <= 100 - held
    assert world.excess() <= _TOLERANCE


def test_a_token_is_not_used_after_its_time(client: redis.Redis) -> None:
    world = World(client, 1000.0, 100, frontends=2)
    one = world.frontends[0]
    for _ in range(60):
        world.advance(1000)
        one.request()
        one.turn()
    assert one.book.held > 0
    assert HELD_LIFE_S < LEASE_LIFE_S
    world.advance(int(HELD_LIFE_S * 1e6))
    assert one.request().result is None  # asks, though it held some


def test_a_grant_that_comes_too_late_is_no_refusal() -> None:
    """A frontend that was stopped, or had no CPU, since it asked: its callers are within their rate."""
    book = LeaseBook(frontends=2, renew_s=0.015, now=0.0)
    answers: list[float] = []

    class Waiting:
        def done(self) -> bool:
            return False

        def set_result(self, result: float, /) -> None:
            answers.append(result)

    book.wait(book.slot("key", 1000.0, 1000, 0.0), Waiting())
    rows = book.rows(0.0)
    book.granted(rows, [1, 0], asked_at=0.0, now=HELD_LIFE_S + 0.1)
    assert answers == []
    assert book.hurry, "they wait for the next call, which goes soon"
    again = book.rows(HELD_LIFE_S + 0.2)
    assert [(row[0], row[5]) for row in again] == [("key", 1)]
    book.granted(again, [1, 0], asked_at=HELD_LIFE_S + 0.2, now=HELD_LIFE_S + 0.21)
    assert answers == [0.0]


def test_a_limit_that_changes_is_in_force_with_the_next_request(client: redis.Redis) -> None:
    world = World(client, 5.0, 5, frontends=1)
    (frontend,) = world.frontends
    answers = [frontend.request() for _ in range(7)]
    frontend.turn()
    assert [answer.result == 0.0 for answer in answers] == [True] * 5 + [False] * 2
    assert frontend.request().result
    world.rate, world.burst = 5000.0, 5000
    world.advance(100_000)
    answer = frontend.request()
    frontend.turn()
    assert answer.result == 0.0


def test_a_clock_that_goes_back_refills_nothing(client: redis.Redis) -> None:
    world = World(client, 10.0, 10, frontends=2)
    one, other = world.frontends
    for _ in range(10):
        one.request()
    one.turn()
    assert len(world.grants_us) == 10
    world.set_redis_clock_back(3_600_000_000)
    answer = other.request()
    other.call()
    assert answer.result
    assert answer.result <= 0.1 + 1e-6
    # and the crashed holder's lease still ends within its life
    world.advance(int(LEASE_LIFE_S * 1e6) + 1)
    answers = [other.request() for _ in range(20)]
    other.call()
    assert sum(answer.result == 0.0 for answer in answers) <= 10
    world.advance(1_000_000)
    answers = [other.request() for _ in range(20)]
    other.call()
    assert any(answer.result == 0.0 for answer in answers)


def test_a_full_bucket_leaves_nothing_in_redis(client: redis.Redis) -> None:
    world = World(client, 1000.0, 10, frontends=1)
    key = f"hg:l:{world.name}"
    assert world.run("f", [(world.name, 1000.0, 10, 0, 0, 4, 0, 0, 0)]) == [4, 0]
    assert 0 < client.pttl(key) < 5000
    assert world.run("f", [(world.name, 1000.0, 10, 0, 4, 0, 0, 0, 0)]) == [0, 0]
    assert not client.exists(key)


def test_what_is_held_counts_in_a_bucket_that_is_younger(client: redis.Redis) -> None:
    world = World(client, 10.0, 10, frontends=1)
    assert world.run("f", [(world.name, 10.0, 10, 6, 3, 0, 0, 0, 0)]) == [0, 0]
    assert world.run("g", [(world.name, 10.0, 10, 0, 0, 20, 0, 0, 0)])[0] == 4


def test_what_a_frontend_granted_by_itself_is_taken_off_a_full_bucket(client: redis.Redis) -> None:
    world = World(client, 10.0, 10, frontends=1)
    assert world.run("f", [(world.name, 10.0, 10, 0, 0, 20, 0, 7, 0)])[0] == 3
    world = World(client, 10.0, 10, frontends=1)
    granted, wait_us = world.run("f", [(world.name, 10.0, 10, 0, 0, 20, 0, 7000, 0)])
    assert (granted, wait_us) == (0, 100_000)  # and not a debt of minutes


def test_two_hundred_thousand_names_stay_bounded() -> None:
    from daemon.adapters.redis.lease_book import GENERATION_S, NAMES_MAX, ROWS_MAX, LeaseBook

    book = LeaseBook(4, 0.015, 0.0)
    for number in range(300_000):
        book.take_local(f"n{number}", 10.0, 10, 0.0)
    assert len(book.young) + len(book._old) <= NAMES_MAX + 1
    book.back_again()
    names: set[str] = set()
    now = 1.0
    while book.busy:
        rows = book.rows(now)
        assert len(rows) <= ROWS_MAX
        assert not names.intersection(row[0] for row in rows)
        names.update(row[0] for row in rows)
        book.granted(rows, [0, 0] * len(rows), now, now)
        now += 0.015
    assert len(names) <= NAMES_MAX
    for turn in (1, 2):
        book.take("x", 1.0, 1, now)
        book.turn(now + turn * GENERATION_S)
    assert len(book.young) + len(book._old) <= 1
