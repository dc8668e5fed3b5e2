"""Frontends with lease books on a real Redis whose time the test makes: no real time passes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import redis

from daemon.adapters.redis.lease_book import LEASE_LIFE_S, LeaseBook, Row
from daemon.adapters.redis.script import LEASE

_ids = itertools.count(1)


class Answer:
    """A waiting request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.result: float | None = None

    def done(self) -> bool:
        return self.result is not None

    def set_result(self, result: float, /) -> None:
        assert self.result is None
        self.result = result
        if result == 0.0:
            self._world.note_grant()


class World:
    """One bucket on one Redis, the time, and every grant with its time."""

    def __init__(
        self, client: redis.Redis, rate: float, burst: int, frontends: int, renew_s: float = 0.015
    ) -> None:
        self.client = client
        self.rate = rate
        self.burst = burst
        self.now_us = 1_700_000_000_000_000
        self.name = f"bucket-{next(_ids)}"
        self.grants_us: list[int] = []
        self.renew_s = renew_s
        self.frontends = [Frontend(self, number, frontends) for number in range(frontends)]
        self.calls = 0

    def advance(self, microseconds: int) -> None:
        self.now_us += microseconds

    def set_redis_clock_back(self, microseconds: int) -> None:
        """Only Redis's clock jumps; the frontends' clocks never go back."""
        self.now_us -= microseconds
        for frontend in self.frontends:
            frontend.keep_clock(microseconds)

    def note_grant(self) -> None:
        self.grants_us.append(self.now_us)

    def excess(self) -> float:
        """By how much the worst window exceeds rate * t + burst; <= 0 when the law holds."""
        worst, best_start = -float("inf"), float("inf")
        for index, at in enumerate(self.grants_us):
            seconds = (at - self.grants_us[0]) / 1e6
            best_start = min(best_start, index - self.rate * seconds)
            worst = max(worst, index + 1 - self.rate * seconds - best_start)
        return worst - self.burst

    def run(self, frontend: str, rows: Sequence[Row]) -> list[int]:
        """What Redis makes of a call, now."""
        self.calls += 1
        request = msgspec.msgpack.encode((frontend, self.now_us, "hg:l:", int(LEASE_LIFE_S * 1e6), rows))
        reply = self.client.evalsha(LEASE.sha, 0, request)
        assert isinstance(reply, bytes)
        return msgspec.msgpack.decode(reply, type=list[int])


class Frontend:
    """A process: its book, and the call that is on the way."""

    def __init__(self, world: World, number: int, frontends: int) -> None:
        self.world = world
        self.number = number
        self._frontends = frontends
        self._births = 0
        self.start()

    def start(self) -> None:
        """A new process in this place; what the old one held is nobody's."""
        self.renamed()
        # Every machine's clock counts from somewhere else.
        self._clock_offset_s = 1000.0 * self.number + self._births
        self.book = LeaseBook(self._frontends, self.world.renew_s, self.now)
        self.called_us = 0
        self.on_way: tuple[list[Row], list[int] | None, float] | None = None

    def renamed(self) -> None:
        self._births += 1
        self.name = f"{self.number}.{self._births}"

    @property
    def now(self) -> float:
        return self.world.now_us / 1e6 - 1.7e9 + self._clock_offset_s

    def keep_clock(self, microseconds: int) -> None:
        """The world's time went back, this clock does not."""
        self._clock_offset_s += microseconds / 1e6

    def request(self) -> Answer:
        world, answer = self.world, Answer(self.world)
        got = self.book.take(world.name, world.rate, world.burst, self.now)
        if got is None:
            self.book.wait(self.book.slot(world.name, world.rate, world.burst, self.now), answer)
        else:
            answer.set_result(got)
        return answer

    def send(self) -> None:
        """A call leaves; Redis has not seen it yet."""
        if self.on_way is None and self.book.busy:
            self.called_us = self.world.now_us
            asked_at = self.now
            self.on_way = (self.book.rows(asked_at), None, asked_at)

    def execute(self) -> None:
        """Redis carries out the call that is on the way."""
        if self.on_way is not None and self.on_way[1] is None:
            rows, _, asked_at = self.on_way
            self.on_way = (rows, self.world.run(self.name, rows), asked_at)

    def receive(self) -> None:
        """The reply arrives."""
        rows, reply, asked_at = self.on_way or ([], None, 0.0)
        if reply is not None:
            self.on_way = None
            self.book.granted(rows, reply, asked_at, self.now)

    def lose(self) -> None:
        """The connection breaks: nobody knows whether the call was carried out."""
        self.on_way = None
        self.renamed()
        self.book.forfeit(lambda _: 1.0)

    def call(self) -> None:
        """A whole round trip in no time."""
        self.send()
        self.execute()
        self.receive()

    def turn(self) -> None:
        """What the limiter's timers would do now."""
        since_us = self.world.now_us - self.called_us
        if (self.book.hurry and since_us >= 2000) or (
            self.book.busy and since_us >= self.world.renew_s * 1e6
        ):
            self.call()
