"""The queue between frontends and publishers: outbox and inbox over real Unix sockets, a log that obeys the test."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from daemon.actors.frames import pack
from daemon.actors.inbox import Inbox
from daemon.actors.messages import Ack, Hello, Publish
from daemon.actors.outbox import Outbox
from daemon.config.schema import Frontend, Limits, Publisher, Settings
from daemon.errors import LogUnavailable, SettingsError
from daemon.observe.catalog import OutboxMetrics, PublisherMetrics
from daemon.ports import Durability, PartitionBatch
from tests.support.logs import PATIENCE_S, batch, record, until

SETTINGS = Settings(frontend=Frontend(answer_timeout_s=20))


@dataclass
class ObedientLog:
    """Keeps what is appended in memory; may be told to wait or to fail."""

    durability: Durability = "kafka"
    error: Exception | None = None
    appends: list[dict[int, list[str]]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go.set()

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.appends.append({one.partition: [r.id for r in one.records] for one in batches})
        return self.durability

    def ids(self, partition: int) -> list[str]:
        """What stands in a partition."""
        return [name for append in self.appends for name in append.get(partition, [])]


class Street:
    """Publishers' sockets, as the supervisor holds them, with an inbox behind each that lives or not."""

    def __init__(self, folder: Path, settings: Settings, count: int) -> None:
        self.settings = settings
        self.paths = [str(folder / f"publisher-{number}.sock") for number in range(count)]
        self.listeners = []
        for path in self.paths:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(64)
            self.listeners.append(listener)
        self.logs = [ObedientLog() for _ in self.paths]
        self.inboxes: list[Inbox | None] = [None for _ in self.paths]
        self.metrics = [PublisherMetrics() for _ in self.paths]
        self.outboxes: list[Outbox] = []

    def open(self, number: int = 0, partitions: int = 4, settings: Settings | None = None) -> Inbox:
        inbox = Inbox(
            self.logs[number],
            {"t": partitions},
            settings=settings or self.settings,
            metrics=self.metrics[number],
        )
        inbox.start(self.listeners[number].fileno())
        self.inboxes[number] = inbox
        return inbox

    async def crash(self, number: int = 0) -> None:
        """As kill -9 does it: connections break, nothing is answered."""
        inbox = self.inboxes[number]
        assert inbox is not None
        self.inboxes[number] = None
        inbox._stop_listening()
        for connection in list(inbox._connections):
            assert connection._transport is not None
            connection._transport.abort()
        for task in list(inbox._tasks):
            task.cancel()
        await until(lambda: not inbox._connections, "the connections to break")
        await asyncio.gather(*inbox._tasks, return_exceptions=True)

    async def outbox(self, settings: Settings | None = None, wait_s: float = PATIENCE_S) -> Outbox:
        outbox = Outbox(self.paths, slot=0, settings=settings or self.settings, metrics=OutboxMetrics())
        await outbox.start(wait_s)
        self.outboxes.append(outbox)
        return outbox

    async def close(self) -> None:
        for outbox in self.outboxes:
            await outbox.stop()
        for number, inbox in enumerate(self.inboxes):
            self.logs[number].go.set()
            if inbox is not None:
                await inbox.drain(1.0)
        for listener in self.listeners:
            listener.close()


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    """One publisher."""
    street = Street(tmp_path, SETTINGS, 1)
    yield street
    await street.close()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Street]:
    """Two publishers."""
    street = Street(tmp_path, SETTINGS, 2)
    yield street
    await street.close()


def publish(outbox: Outbox, *batches: PartitionBatch) -> asyncio.Future[Durability]:
    records = [r for one in batches for r in one.records]
    return outbox.publish("t", list(batches), len(records), sum(len(r.value) for r in records))


async def answer(future: asyncio.Future[Durability]) -> Durability:
    async with asyncio.timeout(PATIENCE_S):
        return await future


# --- the way there and back


async def test_an_answer_says_where_the_records_are(street: Street) -> None:
    street.open()
    outbox = await street.outbox()
    assert await answer(publish(outbox, batch(1, "a", "b"), batch(3, "c"))) == "kafka"
    street.logs[0].durability = "local"
    assert await answer(publish(outbox, batch(1, "d"))) == "local"
    assert street.logs[0].ids(1) == ["a", "b", "d"]
    assert outbox.records == 0


async def test_the_publisher_says_how_many_partitions_there_are(street: Street) -> None:
    inbox = street.open(partitions=9)
    outbox = await street.outbox()
    assert outbox.partitions("t") == 9
    assert outbox.partitions("never heard of") == SETTINGS.kafka.partitions
    inbox.change_partitions({"t": 18})
    await until(lambda: outbox.partitions("t") == 18, "the new count")


async def test_what_arrives_together_is_appended_together(street: Street) -> None:
    street.open()
    street.logs[0].go.clear()
    outboxes = [await street.outbox() for _ in range(3)]
    answers = [publish(one, batch(0, f"{n}-{k}")) for k in range(10) for n, one in enumerate(outboxes)]
    await until(lambda: sum(m.frames.total() for m in (o._metrics for o in outboxes)) == 30, "all frames")
    street.logs[0].go.set()
    await asyncio.gather(*(answer(one) for one in answers))
    assert len(street.logs[0].appends) < 30
    for n in range(3):
        mine = [name for name in street.logs[0].ids(0) if name.startswith(f"{n}-")]
        assert mine == [f"{n}-{k}" for k in range(10)]


async def test_a_publish_over_two_publishers_is_as_durable_as_its_weakest_part(two: Street) -> None:
    two.open(0)
    two.open(1)
    two.logs[1].durability = "local"
    outbox = await two.outbox()
    assert await answer(publish(outbox, batch(0, "a"), batch(1, "b"), batch(2, "c"))) == "local"
    assert await answer(publish(outbox, batch(0, "d"), batch(2, "e"))) == "kafka"
    assert (two.logs[0].ids(0), two.logs[0].ids(2), two.logs[1].ids(1)) == (["a", "d"], ["c", "e"], ["b"])


async def test_one_failed_part_fails_the_publish(two: Street) -> None:
    two.open(0)
    two.open(1)
    two.logs[1].error = LogUnavailable("the disk is full", 7.5)
    outbox = await two.outbox()
    with pytest.raises(LogUnavailable, match="the disk is full") as caught:
        await answer(publish(outbox, batch(0, "a"), batch(1, "b")))
    assert caught.value.retry_after_s == 7.5
    await until(lambda: outbox.records == 0, "both parts to be answered")


async def test_an_unforeseen_error_is_an_answer_too(street: Street) -> None:
    street.open()
    street.logs[0].error = ZeroDivisionError("unforeseen")
    outbox = await street.outbox()
    with pytest.raises(LogUnavailable, match="the event log failed"):
        await answer(publish(outbox, batch(0, "a")))
    assert street.metrics[0].nacks.total() == 1


async def test_a_tick_bigger_than_a_frame_goes_in_several(street: Street) -> None:
    settings = Settings(
        publisher=Publisher(frame_bytes_max=65536 * 2),
        limits=Limits(body_bytes_max=8192, item_bytes_max=8192),
        frontend=SETTINGS.frontend,
    )
    street.open(settings=settings)
    outbox = await street.outbox(settings)
    sent = [[record(f"{p}-{n}", size=8000) for n in range(40)] for p in range(2)]
    future = outbox.publish("t", [PartitionBatch(p, sent[p]) for p in range(2)], 80, 80 * 8000)
    assert await answer(future) == "kafka"
    for p in range(2):
        assert street.logs[0].ids(p) == [f"{p}-{n}" for n in range(40)]


def test_a_frame_has_to_hold_the_largest_event(tmp_path: Path) -> None:
    settings = Settings(publisher=Publisher(frame_bytes_max=65536))
    with pytest.raises(SettingsError) as caught:
        Outbox([str(tmp_path / "x")], slot=0, settings=settings, metrics=OutboxMetrics())
    assert caught.value.key == "publisher.frame_bytes_max"


# --- bounds and deadlines


async def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room(street: Street) -> None:
    settings = Settings(frontend=Frontend(answer_timeout_s=20, queue_records_max=10))
    street.open()
    street.logs[0].go.clear()
    outbox = await street.outbox(settings)
    first = publish(outbox, batch(0, *"abcdefgh"))
    with pytest.raises(LogUnavailable, match="full"):
        publish(outbox, batch(0, *"xyz"))
    assert outbox._metrics.full.total() == 1
    assert outbox.serving == (True, [])
    second = publish(outbox, batch(0, "i", "j"))
    assert outbox.serving == (False, ["the queue to the publishers is full"])
    street.logs[0].go.set()
    assert [await answer(first), await answer(second)] == ["kafka", "kafka"]
    assert await answer(publish(outbox, batch(0, *"klm"))) == "kafka"
    assert street.logs[0].ids(0) == list("abcdefghijklm")


async def test_the_publishers_bound_holds_for_the_frontend_too(street: Street) -> None:
    street.open(settings=Settings(publisher=Publisher(queue_records_max=3)))
    street.logs[0].go.clear()
    outbox = await street.outbox()
    publish(outbox, batch(0, "a", "b", "c"))
    with pytest.raises(LogUnavailable, match="full"):
        publish(outbox, batch(0, "d"))
    street.logs[0].go.set()


async def test_what_is_not_answered_in_time_fails_and_gives_its_room_back(street: Street) -> None:
    street.open()
    street.logs[0].go.clear()
    outbox = await street.outbox(Settings(frontend=Frontend(answer_timeout_s=0.05)))
    futures = [publish(outbox, batch(0, f"{n}")) for n in range(5)]
    for future in futures:
        with pytest.raises(LogUnavailable, match=r"within 0\.05 s"):
            await answer(future)
    assert (outbox.records, outbox._bytes) == (0, 0)
    # The late answers find nobody, and harm nobody.
    street.logs[0].go.set()
    await until(lambda: len(street.logs[0].ids(0)) == 5, "the late appends")
    outbox._answer_timeout_s = PATIENCE_S
    assert await answer(publish(outbox, batch(0, "next"))) == "kafka"


async def test_a_publisher_that_reads_nothing_does_not_fill_the_frontends_memory(street: Street) -> None:
    """Frames whose time is over give their room in the queue back, but stay in the socket's buffer."""
    inbox = street.open()
    outbox = await street.outbox(
        Settings(frontend=Frontend(answer_timeout_s=0.01, queue_bytes_max=256 * 1024))
    )
    for connection in inbox._connections:
        connection.pause()
    sent = PartitionBatch(0, [record("late", size=100_000)])
    for _ in range(50):
        if not outbox.serving[0]:
            break
        with pytest.raises(LogUnavailable, match="within"):
            await answer(publish(outbox, sent))
    with pytest.raises(LogUnavailable, match="does not read"):
        publish(outbox, sent)
    assert outbox._links[0].held_bytes < 256 * 1024 + 2 * 100_000
    assert outbox.serving == (False, ["a publisher does not read what it was sent"])
    for connection in inbox._connections:
        connection.resume()
    await until(lambda: outbox.serving[0], "the publisher to have read")
    outbox._answer_timeout_s = PATIENCE_S
    assert await answer(publish(outbox, batch(0, "next"))) == "kafka"


async def test_a_publisher_over_its_bound_reads_no_more_until_there_is_room(street: Street) -> None:
    inbox = street.open(settings=Settings(publisher=Publisher(queue_records_max=20)))
    street.logs[0].go.clear()
    outboxes = [await street.outbox() for _ in range(4)]
    futures = []
    for outbox in outboxes:
        outbox._records_max = 10_000  # a frontend that does not keep to what it was told
        futures += [publish(outbox, batch(0, f"{k}")) for k in range(100)]
        await asyncio.sleep(0)
    await until(lambda: inbox._paused, "the bound to be reached")
    street.logs[0].go.set()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*futures)
    assert len(street.logs[0].ids(0)) == 400
    assert inbox.records == 0
    assert not inbox._paused


# --- publishers that go and come


async def test_frames_without_an_answer_are_sent_again_in_order_after_a_crash(street: Street) -> None:
    street.open()
    outbox = await street.outbox()
    assert await answer(publish(outbox, batch(0, "before"))) == "kafka"
    street.logs[0].go.clear()
    futures = [publish(outbox, batch(0, f"{n}")) for n in range(20)]
    await until(lambda: street.inboxes[0] is not None and street.inboxes[0].records == 20, "the frames")
    await street.crash()
    futures += [publish(outbox, batch(0, f"{n}")) for n in range(20, 30)]
    street.logs[0].go.set()
    street.open()
    assert {await answer(one) for one in futures} == {"kafka"}
    assert street.logs[0].ids(0) == ["before", *(f"{n}" for n in range(30))]
    assert outbox._metrics.resent.total() == 20


async def test_crashes_at_any_moment_lose_nothing_that_was_answered(street: Street) -> None:
    street.open()
    outbox = await street.outbox()
    answered: list[str] = []
    stop = False

    async def traffic(lane: int) -> None:
        for n in itertools.count():
            if stop:
                return
            name = f"{lane}-{n}"
            await answer(publish(outbox, batch(lane, name)))
            answered.append(name)

    lanes = [asyncio.create_task(traffic(lane)) for lane in range(4)]
    for crash in range(8):
        enough = len(answered) + 40
        await until(lambda enough=enough: len(answered) >= enough, "traffic")  # type: ignore[misc]
        await street.crash()
        for _ in range(crash % 3):
            await asyncio.sleep(0)
        street.open()
    stop = True
    await asyncio.gather(*lanes)
    for lane in range(4):
        there = street.logs[0].ids(lane)
        first_time = list(dict.fromkeys(there))
        assert first_time == [f"{lane}-{n}" for n in range(len(first_time))], "lost or out of order"
    assert set(answered) <= {name for lane in range(4) for name in street.logs[0].ids(lane)}


async def test_a_drained_publisher_hands_over_to_its_successor_without_loss_or_copies(street: Street) -> None:
    street.open()
    outbox = await street.outbox()
    futures = []
    for roll in range(5):
        futures += [publish(outbox, batch(0, f"{roll}-{n}")) for n in range(50)]
        old = street.inboxes[0]
        assert old is not None
        await asyncio.sleep(0.001 * roll)
        successor_log = street.open()
        await old.drain(PATIENCE_S)
        assert successor_log is not old
        assert old.records == 0
    assert {await answer(one) for one in futures} == {"kafka"}
    assert street.logs[0].ids(0) == [f"{roll}-{n}" for roll in range(5) for n in range(50)]


async def test_a_drain_answers_what_was_read_before_it_closes(street: Street) -> None:
    inbox = street.open()
    street.logs[0].go.clear()
    outbox = await street.outbox()
    future = publish(outbox, batch(0, "a"))
    await until(lambda: inbox.records == 1, "the frame")
    draining = asyncio.create_task(inbox.drain(PATIENCE_S))
    await asyncio.sleep(0)
    street.inboxes[0] = None
    street.logs[0].go.set()
    assert await answer(future) == "kafka"
    await draining


async def test_who_writes_to_a_publisher_that_leaves_still_reads_its_answer(street: Street) -> None:
    """Else it would send again what is on the log: a copy for nothing."""
    inbox = street.open()
    reader, writer = await asyncio.open_unix_connection(street.paths[0])
    writer.write(pack(Publish(1, "t", [batch(0, "a")])))
    await until(lambda: street.logs[0].ids(0) == ["a"], "the first frame")
    draining = asyncio.create_task(inbox.drain(PATIENCE_S))
    await asyncio.sleep(0.05)
    for number in range(2, 5):
        writer.write(pack(Publish(number, "t", [batch(0, f"late {number}")])))
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE_S):
        said = await reader.read()  # up to its end
    assert pack(Ack(1, "kafka")) in said
    assert not draining.done()
    writer.close()
    await writer.wait_closed()
    await draining
    street.inboxes[0] = None
    assert street.logs[0].ids(0) == ["a"]


async def test_a_frontend_that_does_not_leave_is_not_waited_for(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.actors.inbox.GOODBYE_S", 0.02)
    inbox = street.open()
    _, writer = await asyncio.open_unix_connection(street.paths[0])
    await until(lambda: bool(inbox._connections), "the connection")
    await inbox.drain(PATIENCE_S)
    street.inboxes[0] = None
    writer.close()


async def test_a_drain_has_a_limit_and_the_frontend_keeps_what_was_not_written(street: Street) -> None:
    inbox = street.open()
    street.logs[0].go.clear()
    outbox = await street.outbox()
    future = publish(outbox, batch(0, "a"))
    await until(lambda: inbox.records == 1, "the frame")
    await inbox.drain(0.02)
    assert not future.done()
    street.logs[0].go.set()
    street.open()
    assert await answer(future) == "kafka"
    assert street.logs[0].ids(0) == ["a"]


async def test_a_publisher_that_stays_away_loses_its_partitions_to_another_one(two: Street) -> None:
    two.open(0)
    two.open(1)
    outbox = await two.outbox(Settings(frontend=Frontend(answer_timeout_s=60)))
    outbox._reroute_after_s = 0.05
    await two.crash(1)
    waiting = [publish(outbox, batch(1, f"{n}")) for n in range(5)]
    assert {await answer(one) for one in waiting} == {"kafka"}
    assert await answer(publish(outbox, batch(1, "5"), batch(0, "x"))) == "kafka"
    assert two.logs[0].ids(1) == [f"{n}" for n in range(6)]
    assert outbox.serving == (True, [])
    two.open(1)
    await until(lambda: outbox._links[1].up, "the publisher to be back")
    assert await answer(publish(outbox, batch(1, "home"))) == "kafka"
    assert two.logs[1].ids(1) == ["home"]


async def test_with_no_publisher_an_outbox_starts_says_so_and_goes_on_when_there_is_one(
    street: Street,
) -> None:
    outbox = await street.outbox(wait_s=0.01)
    assert outbox.serving == (False, ["publisher 0 does not answer"])
    future = publish(outbox, batch(0, "early"))
    street.open()
    assert await answer(future) == "kafka"
    assert outbox.serving == (True, [])


async def test_an_outbox_that_stops_fails_what_is_open(street: Street) -> None:
    street.open()
    street.logs[0].go.clear()
    outbox = await street.outbox()
    future = publish(outbox, batch(0, "a"))
    await outbox.drain(0.01)
    await outbox.stop()
    with pytest.raises(LogUnavailable, match="stopping"):
        await answer(future)
    assert outbox.records == 0


async def test_a_drained_outbox_has_all_answers(street: Street) -> None:
    street.open()
    outbox = await street.outbox()
    futures = [publish(outbox, batch(0, f"{n}")) for n in range(20)]
    await outbox.drain(PATIENCE_S)
    assert all(one.done() for one in futures)


# --- strangers


async def test_a_stranger_on_the_socket_is_cut_off_and_disturbs_nobody(street: Street) -> None:
    inbox = street.open()
    outbox = await street.outbox()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x03abc", pack(Ack(1, "kafka"))):
        reader, writer = await asyncio.open_unix_connection(street.paths[0])
        writer.write(pack(Hello(9, 1)) + noise)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read()  # the Welcome, then the end
        writer.close()
    await until(lambda: len(inbox._connections) == 1, "the strangers to be gone")
    assert await answer(publish(outbox, batch(0, "a"))) == "kafka"


async def test_a_frontend_that_dies_has_its_records_written_all_the_same(street: Street) -> None:
    inbox = street.open()
    street.logs[0].go.clear()
    _, writer = await asyncio.open_unix_connection(street.paths[0])
    writer.write(pack(Hello(0, 1)) + pack(Publish(1, "t", [batch(2, "last words")])))
    await until(lambda: inbox.records == 1, "the frame")
    writer.transport.abort()
    await until(lambda: not inbox._connections, "the frontend to be gone")
    street.logs[0].go.set()
    await until(lambda: street.logs[0].ids(2) == ["last words"], "the append")
    assert inbox.records == 0


def test_an_answer_is_small() -> None:
    # 4 bytes of length, then an array of tag, number and word: what every frame costs on its way back.
    assert len(pack(Ack(1_000_000, "kafka"))) <= 4 + 1 + 1 + 5 + 6
    assert msgspec.msgpack.decode(pack(Ack(7, "local"))[4:]) == [12, 7, "local"]
