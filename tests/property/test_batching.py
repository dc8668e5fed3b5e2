"""Batches and rows: whatever the sizes, every record goes out once, in order, and every append hears of it once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka.lanes import BATCH_BYTES, RECORD_BYTES, Headers, Lane, Whole
from daemon.adapters.local.rows import ROW_BYTES, batches_of, to_rows
from daemon.ports import PartitionBatch, Record
from tests.support.logs import record

RECORD_BYTES_MAX = 200_000


@dataclass
class Builder:
    """A batch as aiokafka builds it: the first record always fits, the others up to a size."""

    bytes_max: int
    values: list[bytes] = field(default_factory=list)
    size: int = 0

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> object | None:
        if self.values and self.size + len(value) > self.bytes_max:
            return None
        self.values.append(value)
        self.size += len(value)
        return self


sizes = st.one_of(st.integers(1, 2000), st.integers(50_000, 190_000))
appends = st.lists(st.lists(sizes, min_size=1, max_size=8), max_size=12)


@given(appends, st.integers(1, 400_000), st.sets(st.integers(0, 11)))
async def test_a_lane_sends_each_record_once_in_order(
    made: list[list[int]], builder_bytes: int, given_up: set[int]
) -> None:
    lane, headers, sent = Lane("t", 0), Headers(), list[bytes]()
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
        builder = Builder(builder_bytes)
        taken, size, too_large = lane.fill(builder, headers, RECORD_BYTES_MAX)
        assert too_large is None
        assert bool(taken) == bool(builder.values)
        assert size <= BATCH_BYTES or len(builder.values) == 1
        sent += builder.values
        for whole in taken:
            whole.done()
    kept = [n for n in range(len(made)) if n not in given_up]
    assert sent == [one.value for n in kept for one in records[n]]
    assert all(wholes[n].future.done() and wholes[n].left == 0 for n in kept)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
async def test_a_record_that_no_batch_can_take_fails_its_own_append_alone(
    before: int, after: int, others: int
) -> None:
    lane, headers = Lane("t", 0), Headers()
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
        builder = Builder(10**9)
        taken, _, too_large = lane.fill(builder, headers, RECORD_BYTES_MAX)
        for whole in taken:
            whole.done()
        sent += builder.values
        if too_large is not None:
            assert too_large is bad
            failed += 1
            too_large.fail(ValueError("too large"))
    assert failed == 1
    assert isinstance(bad.future.exception(), ValueError)
    assert sum(value.startswith(b"ok") for value in sent) == others
    assert good.future.done() == bool(others)


def test_headers_are_right_however_many_kinds_there_are() -> None:
    headers = Headers()
    for n in range(Headers.REMEMBERED_MAX + 10):
        one = Record(b"", b"", f"id{n}", "datafly", "track", f"tenant-{n}", 0)
        assert headers.of(one) == [
            ("id", f"id{n}".encode()),
            ("contract", b"datafly"),
            ("type", b"track"),
            ("tenant", f"tenant-{n}".encode()),
        ]
    assert len(headers._known) <= Headers.REMEMBERED_MAX


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
