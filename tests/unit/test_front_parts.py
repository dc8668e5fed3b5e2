"""The small parts of the front: hot keys, random bytes, times, the shared future."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from daemon.errors import LogUnavailable
from daemon.events.envelope import partition_of
from daemon.events.outcome import Outcome
from daemon.frontend.accounts import Accounts
from daemon.frontend.hotkeys import HotKeys
from daemon.frontend.kit import Times
from daemon.frontend.query import parameter
from daemon.frontend.refusal import unavailable, whole_seconds
from daemon.frontend.tick import SharedFuture, Ticker
from daemon.frontend.work import RandomPool
from daemon.observe.catalog import IngestMetrics, OutboxMetrics
from daemon.ports import Durability, Record, Visit
from tests.support.memory import MemoryOutbox, MemoryVisits


def test_a_hot_key_is_spread_and_a_cool_one_is_not() -> None:
    """Over the bound in one second: salted, over several partitions; the next second it is itself again."""
    keys = HotKeys(100)
    assert all(keys.salted(b"t/v", 10.2) is None for _ in range(100))
    salted = [keys.salted(b"t/v", 10.9) for _ in range(160)]
    assert all(key is not None and key.startswith(b"t/v#") for key in salted)
    assert len({partition_of(key or b"", 12) for key in salted}) > 4
    assert keys.salted(b"t/other", 10.9) is None
    assert keys.salted(b"t/v", 11.0) is None


def test_keys_of_a_tick_are_counted_together() -> None:
    """As one by one; a hot one among them leaves all to be asked for, uncounted, and so does a flood."""
    keys = HotKeys(3)
    assert keys.all_cool([b"a", b"a", b"b"], 1.0)
    assert keys.salted(b"a", 1.1) is None
    assert not keys.all_cool([b"b", b"a"], 1.2)
    assert keys.salted(b"b", 1.3) is None
    assert keys.salted(b"b", 1.3) is None
    assert keys.salted(b"b", 1.3) is not None
    assert keys.all_cool([b"a", b"b"], 2.0)
    assert not keys.all_cool([b"%d" % number for number in range(keys.KEYS_MAX)], 2.5)
    assert keys.all_cool([b"a", b"b"], 2.6)


def test_counting_keys_is_bounded() -> None:
    """A flood of different keys takes no more memory than KEYS_MAX of them; known ones are counted on."""
    keys = HotKeys(2)
    for number in range(keys.KEYS_MAX):
        keys.salted(b"%d" % number, 1.0)
    for _ in range(5):
        assert keys.salted(b"late", 1.0) is None
    assert keys.salted(b"7", 1.0) is None
    assert keys.salted(b"7", 1.0) is not None


def test_random_bytes_are_never_given_twice() -> None:
    """Across the blocks' borders too."""
    pool = RandomPool(64)
    given = [pool.take(24) for _ in range(100)]
    assert {len(part) for part in given} == {24}
    assert len(set(given)) == 100


def test_times_are_iso_in_utc() -> None:
    """Milliseconds, also when the second or only the millisecond changes."""
    times = Times()
    assert times.iso(1772029800.0) == "2026-02-25T14:30:00.000Z"
    assert times.iso(1772029800.1234) == "2026-02-25T14:30:00.123Z"
    assert times.iso(1772029801.001) == "2026-02-25T14:30:01.001Z"
    assert times.iso(1772029800.1234) == "2026-02-25T14:30:00.123Z"


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 1), (0.001, 1), (1.0, 1), (1.01, 2), (59.2, 60)])
def test_retry_after_is_whole_and_at_least_one(seconds: float, whole: int) -> None:
    """RFC 9110 has no fractions."""
    assert whole_seconds(seconds) == whole
    assert unavailable("x", seconds).headers == [("retry-after", str(whole))]


@pytest.mark.parametrize(
    ("query", "value"),
    [("wk=a", "a"), ("x=1&wk=a&y", "a"), ("wk=a&wk=b", "a"), ("awk=a", ""), ("x=wk=a", ""), ("wk", ""), ("wk=", ""),
     ("", ""), ("&wk=a+b%20c%2B", "a b c+"), ("x=%26wk=a", ""), ("wk=%", "%")],
)  # fmt: skip
def test_one_parameter(query: str, value: str) -> None:
    """The first, decoded; never an error."""
    assert parameter(query, "wk") == value


class OneWork:
    """A work without a claim."""

    def __init__(self, error: Exception | None = None) -> None:
        self.id = "i"
        self.visit = Visit()
        self.outcome: Outcome | None = None
        self.durability: Durability | None = None
        self.retry_after_s = 0.0
        self._error = error

    def record(self) -> Record:
        """A record, or the error."""
        if self._error is not None:
            raise self._error
        return Record(b"k", b"{}", "i", "datafly", "track", "t", 0)


def ticker(visits: MemoryVisits, outbox: MemoryOutbox) -> Ticker:
    """A ticker over these."""
    return Ticker(
        "raw-events", 0.001, visits, outbox, HotKeys(100), IngestMetrics(list(Outcome)), OutboxMetrics()
    )


async def test_cancelling_one_request_leaves_the_others_waiting() -> None:
    """A cancelled waiter must not take the tick's future with it."""
    outbox = MemoryOutbox()
    outbox.hold = asyncio.Event()
    ticks = ticker(MemoryVisits(), outbox)
    works = [OneWork() for _ in range(3)]

    async def request(work: OneWork) -> Outcome | None:
        await ticks.add(work)
        return work.outcome

    requests = [asyncio.ensure_future(request(work)) for work in works]
    async with asyncio.timeout(5):
        while outbox.publishes == 0:
            await asyncio.sleep(0)
        requests[0].cancel()
        await asyncio.sleep(0)
        outbox.hold.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    await ticks.idle()


def test_a_shared_future_refuses_to_be_cancelled() -> None:
    """What asyncio does to a future when its waiter is cancelled."""
    loop = asyncio.new_event_loop()
    try:
        assert SharedFuture(loop=loop).cancel() is False
    finally:
        loop.close()


@pytest.mark.parametrize("error", [LogUnavailable("full", 3.0), RuntimeError("a bug of ours")])
async def test_every_work_of_a_failed_tick_has_an_outcome(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for ever, whatever fails."""
    ticks = ticker(MemoryVisits(), MemoryOutbox())
    works = [OneWork(), OneWork(error)]
    with caplog.at_level(logging.CRITICAL):
        await asyncio.gather(*{ticks.add(work) for work in works})
    assert [work.outcome for work in works] == [Outcome.UNAVAILABLE] * 2


async def test_a_store_that_breaks_its_word_loses_nothing() -> None:
    """`visit` never raises; should it, the events are refused, not lost."""

    class Broken(MemoryVisits):
        async def visit(self, visits: Sequence[Visit]) -> None:
            raise RuntimeError("a bug of ours")

    work = OneWork()
    await ticker(Broken(), MemoryOutbox()).add(work)
    assert work.outcome is Outcome.UNAVAILABLE


def test_the_books_balance_and_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    """received = Σ outcomes + in work; one warning a second for each kind of 5xx."""
    metrics = IngestMetrics(list(Outcome))
    accounts = Accounts(metrics)
    accounts.began()
    accounts.more(9)
    assert (accounts.in_work, accounts.requests) == (10, 1)
    accounts.ended(Outcome.ACCEPTED, 6)
    accounts.finished(Outcome.UNAVAILABLE, 4)
    assert (accounts.in_work, accounts.requests) == (0, 0)
    assert metrics.received.total() == metrics.outcomes.total() == 10
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            accounts.refused(Outcome.UNAVAILABLE, 503, "/v1/t", "busy", "r1")
            accounts.refused(Outcome.INVALID_KEY, 401, "/v1/t", "bad", "r2")
    assert len(caplog.records) == 1
