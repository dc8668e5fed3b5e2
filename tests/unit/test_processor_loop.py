"""The processor's loop by itself: halving, retries, what is given up and when the log moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from daemon.adapters.postgres.events.store import EventStore, Stored
from daemon.adapters.postgres.events.trouble import PositionMoved, RowsRefused
from daemon.adapters.postgres.profiles.book import Changes
from daemon.config.schema import Processor as Settings
from daemon.errors import LogUnavailable, StoreUnavailable
from daemon.events.deadletter import DeadLetter
from daemon.events.stored import Reason, StoredEvent
from daemon.observe.catalog import ProcessorMetrics
from daemon.ports import Feed, Fetched, Lag, Move, Reading
from tests.support.processing import NOON, NOON_MS, envelope
from workers.processor.feeds import KafkaAndRest
from workers.processor.letters import DeadLetters
from workers.processor.patience import Patience
from workers.processor.work import Processor


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.processor.patience.FIRST_S", 0.001)
    monkeypatch.setattr("workers.processor.patience.MAX_S", 0.001)
    monkeypatch.setattr("workers.processor.work.TROUBLE_S", 0.001)
    monkeypatch.setattr("workers.processor.work.READ_S", 0.01)


@dataclass
class Log:
    """A feed over readings in memory."""

    waiting: list[list[bytes]] = field(default_factory=list)
    finished: int = 0
    is_stale: bool = False
    resets: int = 0
    fails: int = 0

    async def start(self) -> None: ...

    async def read(self, wait_s: float) -> Reading | None:
        if self.fails:
            self.fails -= 1
            raise ValueError("not foreseen")
        if self.finished == len(self.waiting):
            await asyncio.sleep(wait_s)
            return None
        values = self.waiting[self.finished]
        records = [Fetched("l", 0, number, value, NOON_MS) for number, value in enumerate(values)]
        return Reading(records, [Move("l", self.finished, self.finished + 1, "")])

    async def done(self, reading: Reading) -> None:
        self.finished += 1

    def stale(self, reading: Reading) -> bool:
        return self.is_stale

    async def reset(self) -> None:
        self.resets += 1

    def lag(self) -> Lag:
        return Lag(0, 0)

    async def stop(self) -> None: ...


@dataclass
class Store:
    """A store in memory; `answer` may raise before it takes a part."""

    answer: Callable[[list[str], Sequence[Move]], None] = lambda ids, moves: None
    ids: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    calls: int = 0

    async def store(self, events: Sequence[StoredEvent], moves: Sequence[Move] = ()) -> Stored:
        self.calls += 1
        await asyncio.sleep(0)
        ids = [event.id.removeprefix("evt_") for event in events]
        self.answer(ids, moves)
        self.ids += ids
        self.moves += moves
        return Stored(len(events), 0, Changes())


@dataclass
class Letters:
    """Letters in memory."""

    sent: list[DeadLetter] = field(default_factory=list)
    fails: int = 0

    async def send(self, letters: Sequence[DeadLetter], patience: Patience) -> None:
        async def write() -> None:
            if letters and self.fails:
                self.fails -= 1
                raise LogUnavailable("full")
            self.sent += letters

        await patience.insist(write, ProcessorMetrics(list(Reason)).retries.at("dead_letters"))


class Rig:
    def __init__(self, *readings: list[bytes], store: Store | None = None) -> None:
        self.log = Log(list(readings))
        self.store = store or Store()
        self.letters = Letters()
        self.metrics = ProcessorMetrics(list(Reason))
        self.work = Processor(
            self.log,
            cast("EventStore", self.store),
            cast("DeadLetters", self.letters),
            Settings(batch_wait_s=0.0),
            self.metrics,
            store_is_up=lambda: True,
            now=lambda: NOON,
        )

    async def run(self, until: Callable[[], bool] | None = None) -> None:
        task = asyncio.create_task(self.work.run())
        async with asyncio.timeout(10):
            while not (until() if until else self.log.finished == len(self.log.waiting)):
                await asyncio.sleep(0.001)
                assert not task.done(), task
        await self.work.drain(task, 5.0)
        assert task.done()

    def counts(self) -> dict[str, float]:
        return {name: self.metrics.records.at(name).n for name in ("stored", "copy", "poison")}


def refusing(*bad: str) -> Callable[[list[str], Sequence[Move]], None]:
    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        found = set(ids) & set(bad)
        if found:
            raise RowsRefused(f"no {found}")

    return answer


async def test_what_is_refused_is_found_and_all_others_keep_their_order() -> None:
    values = [envelope(number) for number in range(100)]
    rig = Rig(values, [envelope("last")], store=Store(refusing("7", "8", "99")))
    await rig.run()
    assert rig.store.ids == [str(number) for number in range(100) if number not in {7, 8, 99}] + ["last"]
    assert [letter.reason for letter in rig.letters.sent] == [Reason.REFUSED] * 3
    assert rig.counts() == {"stored": 98, "copy": 0, "poison": 3}
    # The position moves with nothing before the last of its events, and once.
    assert [move.after for move in rig.store.moves] == [1, 2]
    assert rig.store.calls < 50


async def test_all_refused() -> None:
    values = [envelope(number) for number in range(9)]
    rig = Rig(values, store=Store(refusing(*map(str, range(9)))))
    await rig.run()
    assert rig.store.ids == []
    assert len(rig.letters.sent) == 9
    assert [move.after for move in rig.store.moves] == [1]


async def test_nothing_but_poison_moves_the_position_too() -> None:
    rig = Rig([b"", b"[]"])
    rig.letters.fails = 3
    await rig.run()
    assert {letter.reason for letter in rig.letters.sent} == {Reason.NOT_JSON, Reason.SCHEMA}
    assert [move.after for move in rig.store.moves] == [1]


async def test_an_outage_is_no_poison(caplog: pytest.LogCaptureFixture) -> None:
    left = iter(range(20))

    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        if next(left, None) is not None:
            raise StoreUnavailable("no such table")

    rig = Rig([envelope(1), envelope(2)], store=Store(answer))
    await rig.run()
    assert rig.store.ids == ["1", "2"]
    assert rig.letters.sent == []
    assert rig.metrics.retries.at("store").n == 20
    assert caplog.text.count("no such table") == 1
    assert caplog.text.count("it works again") == 1


async def test_an_outage_in_the_middle_of_halving() -> None:
    calls = iter(range(1000))

    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        if next(calls) % 3 == 1:
            raise StoreUnavailable("away")
        refusing("5")(ids, moves)

    rig = Rig([envelope(number) for number in range(20)], store=Store(answer))
    await rig.run()
    assert rig.store.ids == [str(number) for number in range(20) if number != 5]
    assert len(rig.letters.sent) == 1


async def test_a_fault_that_hangs_on_one_event_is_that_events() -> None:
    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        if "3" in ids:
            raise KeyError("a fault of ours")

    rig = Rig([envelope(number) for number in range(8)], store=Store(answer))
    await rig.run()
    assert rig.store.ids == [str(number) for number in range(8) if number != 3]
    assert [letter.reason for letter in rig.letters.sent] == [Reason.REFUSED]


async def test_what_somebody_else_has_is_let_go() -> None:
    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        raise StoreUnavailable("away")

    rig = Rig([envelope(1)], store=Store(answer))
    rig.log.is_stale = True
    await rig.run(lambda: rig.store.calls > 5)
    assert rig.log.finished == 0, "it is read again, not done"
    assert rig.store.ids == []


async def test_a_position_that_moved_is_taken_up() -> None:
    left = iter(range(1))

    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        if next(left, None) is not None:
            raise PositionMoved("elsewhere")

    rig = Rig([envelope(1)], store=Store(answer))
    await rig.run()
    assert (rig.log.resets, rig.store.ids) == (1, ["1"])


async def test_faults_of_the_feed_end_nothing() -> None:
    rig = Rig([envelope(1)])
    rig.log.fails = 5
    await rig.run()
    assert rig.store.ids == ["1"]


async def test_a_drain_during_an_outage_is_quick() -> None:
    def answer(ids: list[str], moves: Sequence[Move]) -> None:
        raise StoreUnavailable("away")

    rig = Rig([envelope(1)], store=Store(answer))
    task = asyncio.create_task(rig.work.run())
    async with asyncio.timeout(5):
        while rig.store.calls < 3:
            await asyncio.sleep(0.001)
        await rig.work.drain(task, 60.0)
    assert task.done()
    assert rig.log.finished == 0


async def test_a_drain_cuts_what_takes_too_long() -> None:
    hangs = asyncio.Event()

    class Hanging(Store):
        async def store(self, events: Sequence[StoredEvent], moves: Sequence[Move] = ()) -> Stored:
            hangs.set()
            await asyncio.Event().wait()
            raise AssertionError

    rig = Rig([envelope(1)], store=Hanging())
    task = asyncio.create_task(rig.work.run())
    async with asyncio.timeout(5):
        await hangs.wait()
        await rig.work.drain(task, 0.01)
    assert task.done()


class TestKafkaAndRest:
    """Two feeds as one, in turns."""

    async def test_both_are_read_and_told(self) -> None:
        kafka, rest = Log([[b"k1"], [b"k2"]]), Log([[b"r1"], [b"r2"], [b"r3"]])
        now = 0.0
        both: Feed = KafkaAndRest(kafka, rest, lambda: now)
        found = []
        for _ in range(8):
            reading = await both.read(0.0)
            if reading is not None:
                assert not both.stale(reading)
                found.append(reading.records[0].value)
                await both.done(reading)
        assert found == [b"r1", b"k1", b"r2", b"k2", b"r3"]
        assert (kafka.finished, rest.finished) == (2, 3)
        # A rest without anything is looked at again, but not all the time.
        rest.waiting.append([b"r4"])
        assert await both.read(0.0) is None
        now = 1000.0
        reading = await both.read(0.0)
        assert reading is not None
        assert reading.records[0].value == b"r4"
        assert reading.moves == [Move("l", 3, 4, "")]
