"""The producer's requests, byte by byte, and what it does with the answers that a healthy broker never gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.produce import (
    ProduceRequest,
    ProduceResponse_v3,
    ProduceResponse_v4,
    ProduceResponse_v5,
    ProduceResponse_v6,
    ProduceResponse_v7,
)
from aiokafka.record.default_records import DefaultRecordBatch

from daemon.adapters.kafka import producer as module
from daemon.adapters.kafka.lanes import Lane, Whole
from daemon.adapters.kafka.produce import Answer, Produce
from daemon.adapters.kafka.producer import Producer
from tests.support.logs import record, until

TOPICS: dict[str, list[tuple[int, Sequence[bytes]]]] = {
    "raw": [(0, (b"fi", b"rst")), (11, (b"second" * 50,))],
    "dlq": [(3, (b"third",))],
}

#: Kafka's codes.
OK, NOT_LEADER, TOO_LARGE, DUPLICATE, DENIED = 0, 6, 10, 46, 29


# --- bytes


@pytest.mark.parametrize("highest", [3, 4, 5, 6, 7, 12])
def test_a_request_is_what_aiokafka_would_send(highest: int) -> None:
    versions = {0: (0, highest)}
    ours = Produce(1500, TOPICS).prepare(versions)
    header = ours.build_request_header(correlation_id=77, client_id="hg-é")
    joined = [(topic, [(n, b"".join(pieces)) for n, pieces in parts]) for topic, parts in TOPICS.items()]
    theirs = ProduceRequest(None, -1, 1500, joined).prepare(versions)
    their_header = theirs.build_request_header(correlation_id=77, client_id="hg-é")
    assert header.encode() + ours.encode() == their_header.encode() + theirs.encode()


@pytest.mark.parametrize("versions", [{}, {0: (0, 2)}, {0: (8, 20)}])
def test_a_broker_that_is_too_old_or_too_new_is_told_apart(versions: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(IncompatibleBrokerVersion):
        Produce(1, TOPICS).prepare(versions)


@pytest.mark.parametrize(
    "version",
    [ProduceResponse_v3, ProduceResponse_v4, ProduceResponse_v5, ProduceResponse_v6, ProduceResponse_v7],
)
def test_an_answer_is_read_as_aiokafka_writes_it(version: Any) -> None:
    more = (0,) if version.API_VERSION >= 5 else ()
    topics = [("raw", [(0, 0, 5, -1, *more), (11, 6, -1, -1, *more)]), ("dlq", [(3, 46, 9, -1, *more)])]
    request = Produce(1, TOPICS).prepare({0: (0, version.API_VERSION)})
    stream = BytesIO(b"\0\0\0\x4d" + version(topics, 0).encode())
    assert request.parse_response_header(stream).correlation_id == 77
    assert request.RESPONSE_TYPE.decode(stream) == [("raw", 0, 0), ("raw", 11, 6), ("dlq", 3, 46)]


def test_an_answer_that_is_cut_short_is_an_error_wherever_it_is_cut() -> None:
    request = Produce(1, TOPICS).prepare({0: (0, 7)})
    whole = ProduceResponse_v7([("raw", [(0, 0, 5, -1, 0), (1, 0, 5, -1, 0)])], 0).encode()
    for end in range(len(whole) - 4):
        with pytest.raises(Exception, match=r"unpack|cut short|buffer"):
            request.decode(BytesIO(whole[:end]))


# --- answers


class Brokers:
    """A stand-in for aiokafka's client: leaders, and what each request is answered with."""

    def __init__(self) -> None:
        self.leaders: dict[tuple[str, int], int] = {}
        self.cluster = SimpleNamespace(leader_for_partition=self.leaders.get, add_listener=self._listen)
        #: (broker, {(topic, partition): values}, {(topic, partition): first sequence number})
        self.sent: list[tuple[int, dict[tuple[str, int], list[bytes]], dict[tuple[str, int], int]]] = []
        self.answer: Callable[[int, list[tuple[str, int]]], list[Answer] | Exception] = lambda _, places: [
            (*place, OK) for place in places
        ]
        self.looks = 0
        self.on_look: Callable[[], None] = lambda: None
        self.hold: dict[int, asyncio.Event] = {}

    def _listen(self, listener: Callable[[object], None]) -> None:
        self.told = listener

    async def send(self, broker: int, request: Produce) -> list[Answer]:
        batches = {
            (topic, number): DefaultRecordBatch(b"".join(data))
            for topic, parts in request._topics.items()
            for number, data in parts
        }
        first = {place: batch.base_sequence for place, batch in batches.items()}
        self.sent.append((broker, {at: [r.value for r in b] for at, b in batches.items()}, first))
        await asyncio.sleep(0)
        if broker in self.hold:
            await self.hold[broker].wait()
        found = self.answer(broker, list(batches))
        if isinstance(found, Exception):
            raise found
        return found

    async def force_metadata_update(self) -> bool:
        self.looks += 1
        await asyncio.sleep(0)
        self.on_look()
        self.told(self.cluster)
        return True


class Rig:
    """A producer over stand-in brokers; counts what it tells."""

    def __init__(self) -> None:
        self.brokers = Brokers()
        self.refused: list[BaseException] = []
        self.producer = Producer(
            cast("AIOKafkaClient", self.brokers),
            compression="none",
            record_bytes_max=100_000,
            timeout_s=1.0,
            acknowledged=self._acknowledged,
            refused=self._refused,
            too_large=lambda _, whole: whole.fail(ValueError("too large")),
        )

    def _acknowledged(self, taken: Sequence[Whole]) -> None:
        for whole in taken:
            whole.done()

    def _refused(self, taken: Sequence[Whole], error: BaseException) -> None:
        self.refused.append(error)
        for whole in taken:
            whole.fail(error)

    def lane(self, partition: int, leader: int | None) -> Lane:
        lane = Lane("raw", partition)
        if leader is not None:
            self.brokers.leaders[lane.place] = leader
        return lane

    def append(self, lane: Lane, *names: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append((Whole(future, 1), [record(name, size=len(name)) for name in names]))
        self.producer.push(lane)
        return future


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    return Rig()


async def test_what_comes_in_during_a_request_is_the_next_one_over_all_partitions(rig: Rig) -> None:
    lanes = [rig.lane(number, 1) for number in range(3)]
    rig.brokers.hold[1] = asyncio.Event()
    first = rig.append(lanes[0], "a")
    await until(lambda: len(rig.brokers.sent) == 1, "the first request")
    rest = [rig.append(lanes[n % 3], f"{n}") for n in range(9)]
    rig.brokers.hold[1].set()
    await asyncio.gather(first, *rest)
    assert [sorted(places) for _, places, _ in rig.brokers.sent] == [
        [("raw", 0)],
        [("raw", n) for n in range(3)],
    ]
    assert rig.brokers.sent[1][1] == {
        ("raw", 0): [b"0", b"3", b"6"], ("raw", 1): [b"1", b"4", b"7"], ("raw", 2): [b"2", b"5", b"8"],
    }  # fmt: skip
    assert rig.brokers.sent[1][2] == {("raw", 0): 1, ("raw", 1): 0, ("raw", 2): 0}
    assert rig.producer.idle.is_set()


async def test_a_broker_that_does_not_answer_holds_up_its_own_partitions_alone(rig: Rig) -> None:
    hung, well = rig.lane(0, 1), rig.lane(1, 2)
    rig.brokers.hold[1] = asyncio.Event()
    held = rig.append(hung, "held")
    await rig.append(well, "well")
    assert not held.done()
    await rig.producer.close()
    assert not held.done()


@pytest.mark.parametrize("failure", [KafkaConnectionError("gone"), RequestTimedOutError(), OSError("reset")])
async def test_a_request_without_an_answer_is_sent_again_as_it_was(rig: Rig, failure: Exception) -> None:
    lane = rig.lane(0, 1)
    ok = rig.brokers.answer
    failures: list[Exception] = [failure, failure]
    rig.brokers.answer = lambda *of: failures.pop() if failures else ok(*of)
    sent = rig.append(lane, "a", "b")
    await until(lambda: len(rig.brokers.sent) >= 1, "the first try")
    later = rig.append(lane, "c")
    await asyncio.gather(sent, later)
    tries = [(places[("raw", 0)], first[("raw", 0)]) for _, places, first in rig.brokers.sent]
    assert tries == [([b"a", b"b"], 0)] * 3 + [([b"c"], 2)]
    assert rig.brokers.looks >= 2


async def test_a_new_leader_gets_what_the_old_one_refused_and_others_are_not_held_up(rig: Rig) -> None:
    moved, stays = rig.lane(0, 1), rig.lane(1, 1)

    def answer(broker: int, places: list[tuple[str, int]]) -> list[Answer]:
        return [(*place, NOT_LEADER if broker == 1 and place == moved.place else OK) for place in places]

    rig.brokers.answer = answer
    rig.brokers.on_look = lambda: rig.brokers.leaders.update({moved.place: 2})
    await asyncio.gather(rig.append(moved, "a"), rig.append(stays, "b"))
    assert [broker for broker, places, _ in rig.brokers.sent if moved.place in places] == [1, 2]
    assert [broker for broker, places, _ in rig.brokers.sent if stays.place in places] == [1]


async def test_a_lane_that_waits_goes_to_a_new_leader_though_the_old_one_hangs(rig: Rig) -> None:
    busy, moves = rig.lane(0, 1), rig.lane(1, 1)
    rig.brokers.hold[1] = asyncio.Event()
    first = rig.append(busy, "a")
    await until(lambda: len(rig.brokers.sent) == 1, "the first request")
    second = rig.append(moves, "b")
    rig.brokers.leaders[moves.place] = 2
    rig.brokers.told(rig.brokers.cluster)
    await second
    assert not first.done()
    rig.brokers.hold[1].set()
    await first
    assert [(broker, list(places)) for broker, places, _ in rig.brokers.sent] == [
        (1, [("raw", 0)]),
        (2, [("raw", 1)]),
    ]


@pytest.mark.parametrize("leader", [None, -1])
async def test_a_partition_without_a_leader_waits_for_one(rig: Rig, leader: int | None) -> None:
    lane = rig.lane(0, leader)

    def found() -> None:
        if rig.brokers.looks == 3:
            rig.brokers.leaders[lane.place] = 5

    rig.brokers.on_look = found
    await rig.append(lane, "a")
    assert rig.brokers.looks == 3
    assert [broker for broker, _, _ in rig.brokers.sent] == [5]


async def test_a_duplicate_is_a_record_that_the_broker_has(rig: Rig) -> None:
    rig.brokers.answer = lambda _, places: [(*place, DUPLICATE) for place in places]
    await rig.append(rig.lane(0, 1), "a")
    assert not rig.refused


async def test_an_answer_that_leaves_a_partition_out_is_asked_for_again(rig: Rig) -> None:
    lanes = [rig.lane(number, 1) for number in range(2)]
    ok = rig.brokers.answer
    rig.brokers.answer = lambda broker, places: (
        ok(broker, places[1:]) if len(rig.brokers.sent) == 1 else ok(broker, places)
    )
    await asyncio.gather(*(rig.append(lane, "a") for lane in lanes))
    assert [list(places) for _, places, _ in rig.brokers.sent] == [[("raw", 0), ("raw", 1)], [("raw", 0)]]


@pytest.mark.parametrize("code", [TOO_LARGE, DENIED, 45])
async def test_a_refusal_that_no_retry_ends_is_told(rig: Rig, code: int) -> None:
    rig.brokers.answer = lambda _, places: [(*place, code) for place in places]
    with pytest.raises(Exception, match=r"."):
        await rig.append(rig.lane(0, 1), "a")
    assert len(rig.refused) == len(rig.brokers.sent) == 1


@pytest.mark.parametrize("failure", [TopicAuthorizationFailedError("raw"), ZeroDivisionError("a bug")])
async def test_what_can_not_be_sent_at_all_is_told_and_hangs_nobody(rig: Rig, failure: Exception) -> None:
    rig.brokers.answer = lambda *_: failure
    lane = rig.lane(0, 1)
    sent = rig.append(lane, "a")
    await until(lambda: bool(rig.refused), "the word of it")
    assert rig.refused == [failure]
    assert sent.done() == isinstance(failure, TopicAuthorizationFailedError)


async def test_what_was_given_up_before_its_turn_is_not_sent(rig: Rig) -> None:
    lane = rig.lane(0, 1)
    rig.brokers.hold[1] = asyncio.Event()
    first = rig.append(lane, "a")
    await until(lambda: len(rig.brokers.sent) == 1, "the first request")
    rig.append(lane, "b").cancel()
    rig.brokers.hold[1].set()
    await first
    await rig.producer.idle.wait()
    assert len(rig.brokers.sent) == 1


async def test_a_request_has_its_bounds_and_what_is_over_them_has_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_BYTES_MAX", 400)
    lanes = [rig.lane(number, 1) for number in range(5)]
    await asyncio.gather(*(rig.append(lane, "x" * 100) for lane in lanes))
    assert [len(places) for _, places, _ in rig.brokers.sent] == [2, 2, 1]
