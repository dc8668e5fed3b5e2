"""What processes read of each other, and the processor of the log: frames, rows of the local log, envelopes."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from daemon.actors.frames import FrameError, FrameReader, pack
from daemon.actors.messages import (
    Ack,
    Beat,
    Bye,
    Drain,
    Drained,
    Failed,
    Family,
    Hello,
    Metrics,
    Nack,
    Publish,
    Ready,
    Sample,
    Scrape,
    SetLog,
    Setup,
    Stop,
    ToChild,
    ToFrontend,
    ToPublisher,
    ToSupervisor,
    Welcome,
)
from daemon.adapters.local.rows import DamagedRow, read_row, to_rows
from daemon.events import stored
from daemon.events.deadletter import dead_letter
from daemon.events.profiles import Book, handles
from daemon.events.stored import Poison
from daemon.ports import PartitionBatch, Record
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.common import NOW, NOW_MS, check_row
from tests.fuzz.targets.target import Target, refused

FRAME_BYTES_MAX = 64 * 1024

KINDS: dict[str, Any] = {
    "publisher": ToPublisher,
    "frontend": ToFrontend,
    "child": ToChild,
    "supervisor": ToSupervisor,
}


def frames(data: bytes) -> str:
    """A stream of one of the four conversations, at once and in pieces: the same messages, or a FrameError from both."""
    kind, stream = split(data, 2)
    union = KINDS.get(text_of(kind), ToPublisher)
    found, error = _fed(union, [stream])
    pieces, cut = _fed(union, [stream[at : at + 7] for at in range(0, len(stream), 7)])
    assert (found, error) == (pieces, cut)
    again, failed = _fed(union, [b"".join(map(pack, found))])
    assert not failed
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(found)
    return f"{error or 'open'} after {'some' if found else 'no'} messages"


def _fed(union: Any, pieces: list[bytes]) -> tuple[list[Any], str]:
    reader: FrameReader[Any] = FrameReader(union, FRAME_BYTES_MAX)
    found: list[Any] = []
    for piece in pieces:
        try:
            found += reader.feed(piece)
        except FrameError as error:
            # what came whole in front of it in one piece is lost with it: the connection is given up
            return [], refused(error)
    return found, ""


def row(data: bytes) -> str:
    """A row of the local log's file, with no checksum to stand in front of it."""
    topic = "raw-events"
    try:
        found = read_row(topic, data, None)
    except DamagedRow as error:
        assert str(error)
        return "DamagedRow"
    again = [read_row(one.topic, one.body, one.checksum) for one in to_rows(topic, found)]
    kept = [record for part in again for batch in part for record in batch.records]
    assert kept == [record for batch in found for record in batch.records]
    return "a row"


def envelope(data: bytes) -> str:
    """A record of the log, which anybody may have written: a row, or a dead letter that is JSON."""
    try:
        found = stored.read(data, NOW_MS, NOW)
    except Poison as poison:
        letter = dead_letter(poison, data, "raw-events", 3, 1042)
        letter.body.decode()
        members = msgspec.json.decode(letter.body, type=dict[str, msgspec.Raw])
        assert members.keys() >= {"error", "details", "original_event", "log", "partition", "offset"}
        assert len(letter.body) <= 2 * len(data) + 8192, (
            f"{len(data)} bytes became a letter of {len(letter.body)}"
        )
        return f"Poison: {poison.reason}"
    check_row(found)
    assert found.envelope == data
    book = Book({}, {})
    profile = book.resolve(found)
    assert (profile is None) == (not handles(found))
    for link in book.links:
        link.value.encode()
    return f"a row of {found.contract}"


_RECORD = Record(b"acme/v1", b'{"id":"1"}', "1", "datafly", "track", "acme", NOW_MS)
_MESSAGES: tuple[Any, ...] = (
    Hello(1, 4711), Publish(1, "raw-events", [PartitionBatch(0, [_RECORD, _RECORD])]), Bye(), Welcome(100, 1000, {"raw-events": 3}),
    Ack(1, "kafka"), Nack(1, "away", 1.5), Setup("frontend", 0, b"{}", 3, ["/tmp/q"], {"frontend": 2}), Drain(1.0), Stop(),
    Scrape(7), SetLog("debug"), Ready("note"), Beat(1, serving=True, reasons=["why"]), Drained(),
    Metrics(0, [Family("n", "counter", "help", [Sample("n_total", {"a": "b"}, 1.0)])]), Failed("why", 78),
)  # fmt: skip


def _stream(rng: random.Random) -> bytes:
    """Some messages in frames."""
    made = b"".join(pack(rng.choice(_MESSAGES)) for _ in range(rng.randrange(1, 4)))
    if rng.random() < 0.1:
        made += (rng.choice((0, 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2**32 - 1))).to_bytes(4)
    return made


def _body(rng: random.Random) -> bytes:
    """A row's body."""
    records = [
        Record(rng.randbytes(4), rng.randbytes(rng.randrange(20)), "1", "datafly", "track", "acme", NOW_MS)
        for _ in range(rng.randrange(3))
    ]
    return msgspec.msgpack.encode([PartitionBatch(rng.randrange(4), records)])


_ENVELOPE = (
    "id", "schema", "contract", "channel", "tenant", "source", "type", "event", "name", "userId", "anonymousId", "groupId",
    "properties", "context", "identity", "value", "timestamp", "receivedAt", "sentAt", "messageId",
)  # fmt: skip
_ENVELOPE_VALUES = (
    '"datafly"', '"resultfly"', '"tracklayer"', "1", "2", '"2"', '[{"type":"EMAIL","value":"a@b.c"}]',
    '[{"type":"EXTERNAL","value":"1"},{"type":"EXTERNAL","value":"2"}]', '[{"type":"PHONE"}]', '[{"type":"x","value":" "}]', '[7]',
    '"2026-02-25T14:30:00.000Z"', '"1999-01-01T00:00:00Z"', '"2027-02-25T14:30:00.000Z"',
)  # fmt: skip

TARGETS = (
    Target(
        "frames", "the queues' and the control channel's frames", frames,
        (Grammar("text", tuple(KINDS)), Grammar("bytes", made=_stream)), 8 * 1024, share=1.5,
    ),
    Target("log-row", "a row of the local log's file", row, (Grammar("bytes", made=_body),), 8 * 1024, share=0.7),
    Target("envelope", "a record of the log, as the processor reads it", envelope, (Grammar("json", _ENVELOPE, _ENVELOPE_VALUES),), share=2),
)  # fmt: skip
