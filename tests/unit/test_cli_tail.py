"""What `headgate tail` selects: times, filters, the newest N, and where following begins."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from daemon.cli.tailing import follow
from daemon.cli.tailing.selection import Head, Wanted, head_of, matches, since_ms, started_ms
from daemon.errors import UsageError
from daemon.ports import Record, StoredRecord

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "age_s"),
    [
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1w", 604800),
        ("1.5h", 5400),
        (" 5 M ", 300),
        ("0s", 0),
    ],
)
def test_spans_count_back_from_now(text: str, age_s: float) -> None:
    assert since_ms(text, NOW_S) == int((NOW_S - age_s) * 1000)


def test_iso_times_with_a_zone_are_absolute() -> None:
    assert since_ms("2023-11-14T22:13:20Z") == 1_700_000_000_000
    assert since_ms("2023-11-14T23:13:20+01:00") == 1_700_000_000_000


def test_iso_times_without_a_zone_are_local() -> None:
    parsed = time.strptime("2023-11-14 12:00:00", "%Y-%m-%d %H:%M:%S")
    assert since_ms("2023-11-14 12:00") == int(time.mktime(parsed) * 1000)


def test_a_span_longer_than_the_epoch_is_the_beginning() -> None:
    assert since_ms("999999999w", NOW_S) == 0


@pytest.mark.parametrize("text", ["", "5", "5x", "yesterday", "-5m", "2023-13-01", "1e9999h", "m"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="5m"):
        since_ms(text)


def test_this_process_started_a_moment_ago_and_not_in_the_future() -> None:
    now_ms = time.time() * 1000
    assert now_ms - 3_600_000 * 24 < started_ms() <= now_ms


def test_the_filter_knows_type_and_source() -> None:
    head = Head(source="src_a", type="track")
    assert matches(head, "", None)
    assert matches(head, "track", frozenset({"src_a"}))
    assert not matches(head, "page", None)
    assert not matches(head, "", frozenset({"src_b"}))


@pytest.mark.parametrize(
    "value", [b"", b"no json", b"[1]", b'"text"', b"\xff\xfe", b"[" * 5000, b'{"type": 1}']
)
def test_records_that_are_no_envelopes_are_left_out(value: bytes) -> None:
    assert head_of(value) is None


class ListReader:
    """A LogReader over a list; `later` comes only to those who follow."""

    def __init__(self, records: list[StoredRecord], later: list[StoredRecord] | None = None) -> None:
        self.records = records
        self.later = later or []
        self.asked: list[int | None] = []

    async def read(self, topic: str, since_ms: int | None, follow: bool) -> AsyncIterator[StoredRecord]:
        self.asked.append(since_ms)
        for stored in [*self.records, *(self.later if follow else [])]:
            if since_ms is None or stored.record.timestamp_ms >= since_ms:
                yield stored

    async def stop(self) -> None:
        pass


def stored(
    offset: int, age_s: float, *, partition: int = 0, source: str = "src_a", kind: str = "page"
) -> StoredRecord:
    at_ms = int((time.time() - age_s) * 1000)
    value = msgspec.json.encode({"tenant": "t", "source": source, "type": kind, "n": offset})
    return StoredRecord(
        "kafka", partition, offset, Record(b"k", value, str(offset), "datafly", kind, "t", at_ms)
    )


async def shown(
    reader: ListReader, wanted: Wanted, sources: frozenset[str] | None = None
) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    await follow.tail(
        reader, "raw-events", wanted, sources, lambda one, _: out.append((one.partition, one.offset))
    )
    return out


async def test_everything_comes_in_the_log_s_order() -> None:
    reader = ListReader([stored(n, 1000 - n) for n in range(5)])
    assert await shown(reader, Wanted()) == [(0, n) for n in range(5)]


async def test_the_newest_are_chosen_by_time_over_partitions_and_shown_oldest_first() -> None:
    # Partition 0 is read before partition 1, although its last record is the newest of all.
    reader = ListReader([stored(0, 50), stored(1, 5), stored(0, 40, partition=1), stored(1, 10, partition=1)])
    assert await shown(reader, Wanted(limit=3)) == [(1, 0), (1, 1), (0, 1)]


async def test_looking_for_the_newest_goes_back_no_further_than_needed() -> None:
    reader = ListReader([stored(n, 30) for n in range(3)])
    assert len(await shown(reader, Wanted(limit=3))) == 3
    assert len(reader.asked) == 1
    assert reader.asked[0] is not None


async def test_the_newest_of_a_quiet_log_are_found_however_old() -> None:
    reader = ListReader([stored(n, 30 * 86400 - n) for n in range(3)])
    assert await shown(reader, Wanted(limit=2)) == [(0, 1), (0, 2)]
    assert reader.asked[-1] is None


async def test_since_bounds_the_newest() -> None:
    reader = ListReader([stored(0, 7200), stored(1, 10)])
    bound = since_ms("1h")
    assert await shown(reader, Wanted(limit=5, since_ms=bound)) == [(0, 1)]
    assert all(asked is not None and asked >= bound for asked in reader.asked)


async def test_following_shows_the_newest_once_and_then_what_comes() -> None:
    old, new = [stored(n, 0.5) for n in range(3)], [stored(3, -1), stored(4, -1)]
    reader = ListReader(old, new)
    assert await shown(reader, Wanted(follow=True, backlog=10)) == [(0, n) for n in range(5)]


async def test_following_with_a_limit_ends_after_so_many_that_match() -> None:
    later = [stored(n, -1, kind="track" if n % 2 else "page") for n in range(10)]
    reader = ListReader([stored(0, 5000, kind="track")], later)
    wanted = Wanted(follow=True, limit=2, since_ms=since_ms("1m"), type="track")
    assert await shown(reader, wanted) == [(0, 1), (0, 3)]


async def test_only_the_wanted_sources_are_shown() -> None:
    reader = ListReader([stored(0, 9, source="src_a"), stored(1, 8, source="src_b")])
    assert await shown(reader, Wanted(), frozenset({"src_b"})) == [(0, 1)]
