"""Steps that need no server: decoding, envelopes, frames, Kafka's batches and requests. Each is one function call."""

from __future__ import annotations

import random
import timeit
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import NamedTuple
from uuid import UUID

import msgspec

from daemon.actors.frames import FrameReader, pack
from daemon.actors.messages import Ack, Publish, ToFrontend, ToPublisher
from daemon.adapters.kafka.batches import Batch, Kinds
from daemon.adapters.kafka.produce import Produce
from daemon.adapters.local.rows import read_row, to_rows
from daemon.events import datafly
from daemon.events.envelope import derived_id, encode, partition_of, record_key
from daemon.ports import PartitionBatch, Record

#: A record's time, Unix milliseconds; any will do.
NOW_MS = 1_772_029_800_000
STAMP = "2026-02-25T14:30:00.000Z"
FRAME_BYTES_MAX = 1 << 26
BATCH_BYTES_MAX = 1 << 22

#: Events per frame, partitions: a tick of single events, and a batch.
SHAPES = ((16, 4), (16, 12), (400, 12))


class Cost(NamedTuple):
    """What a step costs: microseconds for one event, and for one call."""

    group: str
    step: str
    events: int
    call_us: float

    @property
    def event_us(self) -> float:
        """Microseconds per event."""
        return self.call_us / self.events


class Step(NamedTuple):
    """A call that works on `events` events."""

    group: str
    name: str
    events: int
    call: Callable[[], object]


def measure(step: Step, seconds: float) -> Cost:
    """The least of several rounds, as a disturbance only ever adds; about `seconds` in all."""
    timer = timeit.Timer(step.call)
    once = max(timer.timeit(1), timer.timeit(1) / 2, 1e-7)
    rounds = 15
    number = max(1, int(seconds / rounds / once))
    return Cost(step.group, step.name, step.events, 1e6 * min(timer.repeat(rounds, number)) / number)


def body(rng: random.Random) -> bytes:
    """A track call of a shop's server, about 450 bytes."""
    return msgspec.json.encode(
        {
            "type": "track",
            "event": "Product Viewed",
            "userId": f"user-{rng.randrange(10**6)}",
            "anonymousId": str(UUID(int=rng.getrandbits(128))),
            "messageId": str(UUID(int=rng.getrandbits(128))),
            "timestamp": STAMP,
            "context": {"locale": "de-DE", "page": {"url": "https://shop.example/p/1", "title": "A product"}},
            "properties": {"product_id": rng.randrange(10**6), "price": 19.9, "text": "x" * 120},
        }
    )


def records_of(rng: random.Random, count: int) -> list[Record]:
    """Records as a frontend makes them, within a few milliseconds."""
    found = []
    for number in range(count):
        event = datafly.decode_server(body(rng))
        visitor = str(event.anonymousId)
        value = encode(datafly.to_envelope(event, received(visitor)))
        name = derived_id("bench", "src", visitor)
        found.append(
            Record(
                record_key("bench", visitor), value, name, "datafly", "track", "bench", NOW_MS + number // 8
            )
        )
    return found


def received(event_id: str) -> datafly.Received:
    """What the frontend adds to an event."""
    return datafly.Received(event_id, "bench", "src_1", "server", STAMP, None, None, None, None, {}, {})


def steps(seed: int) -> Iterator[Step]:
    """All of them."""
    rng = random.Random(seed)
    yield from _events(rng)
    for events, partitions in SHAPES:
        yield from _publishing(rng, events, partitions)


def _events(rng: random.Random) -> Iterator[Step]:
    raw = body(rng)
    event = datafly.decode_server(raw)
    visitor = str(event.anonymousId)
    ours = received(visitor)
    envelope = datafly.to_envelope(event, ours)
    key = record_key("bench", visitor)
    yield Step("event", f"decode and check, {len(raw)} bytes", 1, lambda: datafly.decode_server(raw))
    yield Step("event", "envelope, as an object", 1, lambda: datafly.to_envelope(event, ours))
    yield Step("event", "envelope, as JSON", 1, lambda: encode(envelope))
    yield Step("event", "derived id", 1, lambda: derived_id("bench", "src_1", visitor))
    yield Step("event", "key and partition", 1, lambda: partition_of(record_key("bench", visitor), 12))
    assert partition_of(key, 12) < 12


def _publishing(rng: random.Random, events: int, partitions: int) -> Iterator[Step]:
    lanes: dict[int, list[Record]] = {}
    for record in records_of(rng, events):
        lanes.setdefault(partition_of(record.key, partitions), []).append(record)
    batches = [PartitionBatch(number, records) for number, records in sorted(lanes.items())]
    publish = Publish(1, "raw-events", batches)
    frame, reader = pack(publish), FrameReader[Publish](ToPublisher, FRAME_BYTES_MAX)
    answer, answers = pack(Ack(1, "kafka")), FrameReader[Ack](ToFrontend, FRAME_BYTES_MAX)
    group = f"publish, {events} events over {len(batches)} partitions"
    yield Step(group, "frame: pack", events, lambda: pack(publish))
    yield Step(group, "frame: read", events, lambda: reader.feed(frame))
    yield Step(
        group,
        "frame: its answer, packed and read",
        events,
        lambda: answers.feed(answer) or pack(Ack(1, "kafka")),
    )

    kinds = Kinds()

    def build() -> list[Batch]:
        built = []
        for one in batches:
            batch = Batch(kinds)
            assert batch.add(one.records, BATCH_BYTES_MAX) == len(one.records)
            built.append(batch)
        return built

    def seal(compression: str) -> list[tuple[bytes, bytes]]:
        return [batch.seal(compression, 7, 0, 0) for batch in built]

    built = build()
    for batch in built:
        # The first is the head's place: sealing again is the same work again.
        assert batch.count
    sealed = seal("none")
    parts = [(one.partition, pieces) for one, pieces in zip(batches, sealed, strict=True)]
    request = Produce(1000, {"raw-events": parts}).prepare({0: (0, 7)})
    request.build_request_header(1, "headgate")
    told = _answer(list(lanes))
    yield Step(group, "Kafka: records of the batches", events, build)
    yield Step(group, "Kafka: seal, no compression", events, lambda: seal("none"))
    for compression in ("lz4", "zstd"):
        yield Step(group, f"Kafka: seal, {compression}", events, lambda name=compression: seal(name))  # type: ignore[misc]
    yield Step(group, "Kafka: request", events, request.encode)
    yield Step(group, "Kafka: answer", events, lambda: request.decode(BytesIO(told)))
    (row, *_) = to_rows("raw-events", batches)
    yield Step(group, "local log: row", events, lambda: to_rows("raw-events", batches))
    yield Step(group, "local log: row, read", events, lambda: read_row(row.topic, row.body, row.checksum))


def _answer(partitions: list[int]) -> bytes:
    """Kafka's yes about these partitions, version 7, without its header."""
    from aiokafka.protocol.produce import ProduceResponse_v7

    topics = [("raw-events", [(number, 0, 1, -1, 0) for number in partitions])]
    return bytes(ProduceResponse_v7(topics, 0).encode())
