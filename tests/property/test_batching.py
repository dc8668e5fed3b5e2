"""Batches and rows: whatever the sizes, every record goes out once, in order, and every append hears of it once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import decode_varint
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka.batches import HEAD_BYTES, SEQUENCE_MAX, Batch, Kinds, sequence_after, varint
from daemon.adapters.kafka.lanes import BATCH_BYTES, RECORD_BYTES, Lane, Whole
from daemon.adapters.local.rows import ROW_BYTES, batches_of, to_rows
from daemon.ports import PartitionBatch, Record
from tests.support.logs import record

RECORD_BYTES_MAX = 200_000


def read_back(batch: Sequence[bytes]) -> list[Any]:
    """The records of a sealed batch, as aiokafka's reader has them; its checksum is right."""
    found = DefaultRecordBatch(b"".join(batch))
    assert found.validate_crc()
    return list(found)


sizes = st.one_of(st.integers(1, 2000), st.integers(50_000, 190_000))
appends = st.lists(st.lists(sizes, min_size=1, max_size=8), max_size=12)


@given(appends, st.integers(200_000, 600_000), st.sets(st.integers(0, 11)))
async def test_a_lane_sends_each_record_once_in_order(
    made: list[list[int]], record_bytes_max: int, given_up: set[int]
) -> None:
    lane, kinds, sent = Lane("t", 0), Kinds(), list[bytes]()
    wholes, records = [], []
    for number, lengths in enumerate(made):
        whole = Whole(asyncio.get_running_loop().create_future(), 1)
        mine = [record(f"{number}-{n}", size=max(size, 12)) for n, size in enumerate(lengths)]
        wholes.append(whole)
        records.append(mine)
        lane.waiting.append((whole, mine))
        if number in given_up:
            whole.future.cancel()
    while lane.waiting:
        built = Batch(kinds)
        taken, too_large = lane.fill(built, record_bytes_max)
        assert too_large is None
        assert bool(taken) == bool(built.count)
        if not taken:
            continue
        sealed = built.seal("none", 7, 0, 0)
        assert sum(map(len, sealed)) == built.size + HEAD_BYTES
        assert built.size <= min(BATCH_BYTES, record_bytes_max) or built.count == 1
        sent += [one.value for one in read_back(sealed)]
        for whole in taken:
            whole.done()
    kept = [n for n in range(len(made)) if n not in given_up]
    assert sent == [one.value for n in kept for one in records[n]]
    assert all(wholes[n].future.done() and wholes[n].left == 0 for n in kept)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
async def test_a_record_that_no_batch_can_take_fails_its_own_append_alone(
    before: int, after: int, others: int
) -> None:
    lane, kinds = Lane("t", 0), Kinds()
    loop = asyncio.get_running_loop()
    bad, good = Whole(loop.create_future(), 1), Whole(loop.create_future(), 1)
    huge = record("huge", size=RECORD_BYTES_MAX)
    lane.waiting.append(
        (bad, [*(record("x") for _ in range(before)), huge, *(record("x") for _ in range(after))])
    )
    if others:
        lane.waiting.append((good, [record("ok") for _ in range(others)]))
    sent: list[bytes] = []
    failed = 0
    while lane.waiting:
        built = Batch(kinds)
        taken, too_large = lane.fill(built, RECORD_BYTES_MAX)
        for whole in taken:
            whole.done()
        if taken:
            sent += [one.value for one in read_back(built.seal("none", 7, 0, 0))]
        if too_large is not None:
            assert too_large is bad
            failed += 1
            too_large.fail(ValueError("too large"))
    assert failed == 1
    assert isinstance(bad.future.exception(), ValueError)
    assert sum(value.startswith(b"ok") for value in sent) == others
    assert good.future.done() == bool(others)


# Some come again: records of one kind after the other have the same headers.
texts = st.one_of(st.sampled_from(["", "a", "b"]), st.text(max_size=100))
long_or_short = st.one_of(st.binary(max_size=200), st.integers(8_000, 20_000).map(bytes))
any_records = st.lists(
    st.builds(
        Record, key=long_or_short, value=long_or_short, id=texts, contract=texts, type=texts, tenant=texts,
        timestamp_ms=st.integers(0, 2**53),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


@given(any_records, st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]), st.integers(0, SEQUENCE_MAX))
def test_a_batch_is_what_aiokafka_reads_and_would_have_written(
    records: list[Record], compression: str, sequence: int
) -> None:
    batch = Batch(Kinds())
    assert batch.add(records, 10**9) == batch.count == len(records)
    sealed = b"".join(batch.seal(compression, 77, 3, sequence))
    found = DefaultRecordBatch(sealed)
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (77, 3, sequence)
    assert found.max_timestamp == max(one.timestamp_ms for one in records)
    back = [(one.offset, one.timestamp, one.key, one.value, list(one.headers)) for one in found]
    assert back == [
        (
            n,
            one.timestamp_ms,
            one.key,
            one.value,
            [
                ("id", one.id.encode()),
                ("contract", one.contract.encode()),
                ("type", one.type.encode()),
                ("tenant", one.tenant.encode()),
            ],
        )
        for n, one in enumerate(records)
    ]
    if compression == "none":
        builder = DefaultRecordBatchBuilder(
            2, 0, is_transactional=0, producer_id=77, producer_epoch=3, base_sequence=sequence, batch_size=10**9
        )  # fmt: skip
        for offset, timestamp, key, value, headers in back:
            builder.append(offset, timestamp, key, value, headers)
        assert sealed == bytes(builder.build())


def test_a_batch_of_many_records_has_offsets_of_several_bytes() -> None:
    batch = Batch(Kinds())
    many = [record(f"{n}", size=12) for n in range(9000)]
    assert batch.add(many, 10**9) == 9000
    assert [one.offset for one in read_back(batch.seal("none", 1, 0, 0))] == list(range(9000))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_kafkas(number: int) -> None:
    assert decode_varint(bytearray(varint(number)), 0) == (number, len(varint(number)))


def test_sequence_numbers_begin_again_after_the_last() -> None:
    assert sequence_after(5, 3) == 8
    assert sequence_after(SEQUENCE_MAX, 1) == 0
    assert sequence_after(SEQUENCE_MAX - 1, 5) == 3


def test_kinds_are_right_however_many_there_are() -> None:
    kinds = Kinds()
    for n in range(Kinds.REMEMBERED_MAX + 10):
        batch = Batch(kinds)
        batch.add([Record(b"", b"", f"id{n}", "datafly", "track", f"tenant-{n}", 0)], 10**9)
        (one,) = read_back(batch.seal("none", 1, 0, 0))
        assert dict(one.headers)["tenant"] == f"tenant-{n}".encode()
    assert len(kinds.known) <= Kinds.REMEMBERED_MAX


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.integers(1, ROW_BYTES), max_size=6)),
        max_size=5,
    )
)
def test_rows_hold_each_record_once_in_order(made: list[tuple[int, list[int]]]) -> None:
    batches = [
        PartitionBatch(partition, [record(f"{k}-{n}", size=max(size, 8)) for n, size in enumerate(lengths)])
        for k, (partition, lengths) in enumerate(made)
    ]
    rows = to_rows("t", batches)
    back = [(one.partition, r.id) for row in rows for one in batches_of(row.body) for r in one.records]
    assert back == [(one.partition, r.id) for one in batches for r in one.records]
    assert all(row.records == sum(len(b.records) for b in batches_of(row.body)) > 0 for row in rows)
    for row in rows:
        # Full at ROW_BYTES, and one record may go over it.
        assert len(row.body) < 2 * ROW_BYTES + RECORD_BYTES * row.records
