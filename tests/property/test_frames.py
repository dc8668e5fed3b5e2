"""Frames: whatever the pieces in which bytes arrive, the same messages come out; bad bytes raise FrameError alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.actors.frames import FrameError, FrameReader, pack
from daemon.actors.messages import Ack, Bye, Hello, Nack, Publish, ToFrontend, ToPublisher, Welcome
from daemon.ports import PartitionBatch, Record

BYTES_MAX = 1_000_000

texts = st.text(max_size=30)
numbers = st.integers(0, 2**53)
records = st.builds(
    Record,
    key=st.binary(max_size=40),
    value=st.binary(max_size=300),
    id=texts,
    contract=texts,
    type=texts,
    tenant=texts,
    timestamp_ms=numbers,
)
batches = st.builds(PartitionBatch, partition=st.integers(0, 9999), records=st.lists(records, max_size=5))
to_publisher = st.one_of(
    st.builds(Hello, slot=st.integers(0, 255), pid=numbers),
    st.builds(Publish, seq=numbers, topic=texts, batches=st.lists(batches, max_size=5)),
    st.just(Bye()),
)
to_frontend = st.one_of(
    st.builds(
        Welcome,
        records_max=numbers,
        bytes_max=numbers,
        partitions=st.dictionaries(texts, numbers, max_size=3),
    ),
    st.builds(Ack, seq=numbers, durability=st.sampled_from(["kafka", "local"])),
    st.builds(Nack, seq=numbers, reason=texts, retry_after_s=st.floats(0, 1e6)),
)


@st.composite
def pieces(draw: st.DrawFn, kind: st.SearchStrategy[object]) -> tuple[list[object], list[bytes]]:
    """Give messages, and their bytes cut anywhere."""
    sent = draw(st.lists(kind, max_size=6))
    data = b"".join(pack(message) for message in sent)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return sent, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(pieces(to_publisher))
def test_messages_to_publishers_survive_any_cut(made: tuple[list[object], list[bytes]]) -> None:
    sent, parts = made
    reader: FrameReader[object] = FrameReader(ToPublisher, BYTES_MAX)
    assert [message for part in parts for message in reader.feed(part)] == sent


@given(pieces(to_frontend))
def test_messages_to_frontends_survive_any_cut(made: tuple[list[object], list[bytes]]) -> None:
    sent, parts = made
    reader: FrameReader[object] = FrameReader(ToFrontend, BYTES_MAX)
    assert [message for part in parts for message in reader.feed(part)] == sent


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_give_messages_or_a_frame_error(parts: list[bytes]) -> None:
    reader: FrameReader[object] = FrameReader(ToPublisher, 1000)
    try:
        for part in parts:
            reader.feed(part)
    except FrameError:
        return


def test_a_frame_over_the_limit_is_refused_by_its_head() -> None:
    reader: FrameReader[object] = FrameReader(ToPublisher, 1000)
    assert reader.feed((1000).to_bytes(4, "big")) == []
    with pytest.raises(FrameError, match="1001 bytes is over the limit of 1000"):
        FrameReader(ToPublisher, 1000).feed((1001).to_bytes(4, "big"))


@given(pieces(to_publisher))
def test_an_unfinished_frame_is_all_that_is_held_back(made: tuple[list[object], list[bytes]]) -> None:
    _, parts = made
    reader: FrameReader[object] = FrameReader(ToPublisher, BYTES_MAX)
    for part in parts:
        reader.feed(part)
    assert not reader._held
