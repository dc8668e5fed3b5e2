"""The local log as the processor reads it: every row once, whatever happens to the files and the readers."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from daemon.adapters.local import LocalLog
from daemon.adapters.local.feed import LocalFeed
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.metrics import Cell
from daemon.ports import PartitionBatch, Position, Reading
from tests.support.logs import PATIENCE_S, record

RETENTION_S = 1000.0


def settings_of(folder: Path, **processor: object) -> Settings:
    return msgspec.convert(
        {
            "data_dir": str(folder),
            "log": {"headroom_bytes": 0, "retention_s": RETENTION_S},
            "processor": processor,
        },
        Settings,
    )


class Positions:
    """What PostgreSQL keeps of a feed, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Position] = {}
        self.away = False

    async def __call__(self, prefix: str) -> Sequence[Position]:
        if self.away:
            raise StoreUnavailable("away")
        return [one for one in self.kept.values() if one.log.startswith(prefix)]

    def take(self, reading: Reading) -> None:
        for move in reading.moves:
            known = self.kept.get(move.log)
            assert move.before == (known.position if known else None)
            self.kept[move.log] = Position(move.log, move.after, move.mark)


class Rig:
    """Writers, positions and feeds over one folder."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_of(folder)
        self.folder = folder / "log"
        self.positions = Positions()
        self.missed = Cell()
        self.late_s = 0.0
        self._logs: dict[int, LocalLog] = {}

    async def write(self, *names: str, slot: int = 0, topic: str = "raw-events", partition: int = 0) -> None:
        """One row with these records."""
        if slot not in self._logs:
            self._logs[slot] = LocalLog(self.settings, slot, spool=False)
            await self._logs[slot].start()
        batch = PartitionBatch(partition, [record(name) for name in names])
        await self._logs[slot].append(topic, [batch])

    @asynccontextmanager
    async def feed(self, **processor: object) -> AsyncIterator[LocalFeed]:
        settings = settings_of(Path(self.settings.data_dir), **processor) if processor else self.settings
        feed = LocalFeed(settings, self.positions, self.missed, lambda: time.time() + self.late_s)
        await feed.start()
        try:
            yield feed
        finally:
            await feed.stop()

    async def close_writers(self) -> None:
        for log in self._logs.values():
            await log.stop()
        self._logs.clear()

    async def all(self, feed: LocalFeed) -> list[str]:
        """Everything that is there, taken and done."""
        found: list[str] = []
        while (reading := await feed.read(0.0)) is not None:
            found += names(reading)
            self.positions.take(reading)
            await feed.done(reading)
        return found

    def sql(self, statement: str, slot: int = 0) -> None:
        """Do something to a file behind everybody's back."""
        with sqlite3.connect(self.folder / f"publisher-{slot}.db") as connection:
            connection.execute(statement)
        connection.close()


def names(reading: Reading) -> list[str]:
    return [one.value.rstrip(b".").decode() for one in reading.records]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.close_writers()


async def test_rows_are_read_once_over_restarts(rig: Rig) -> None:
    await rig.write("a", "b")
    await rig.write("letter", topic="dlq-events")
    await rig.write("c", partition=3)
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a", "b", "c"]
        await rig.write("d")
        assert await rig.all(feed) == ["d"]
    await rig.write("e")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["e"]
        assert feed.lag().records == 0
    assert rig.missed.n == 0


async def test_what_was_not_done_comes_again(rig: Rig) -> None:
    await rig.write("a")
    async with rig.feed() as feed:
        for _ in range(2):
            reading = await feed.read(0.0)
            assert reading is not None
            assert names(reading) == ["a"]
        assert feed.lag().oldest_ms > 0 or feed.lag().records == 0
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a"]


async def test_all_publishers_files_and_those_of_slots_that_are_no_more(rig: Rig) -> None:
    await rig.write("a", slot=0)
    await rig.write("b", slot=7)
    async with rig.feed() as feed:
        assert sorted(await rig.all(feed)) == ["a", "b"]
        await rig.write("c", slot=3)
        await rig.write("d", slot=0)
        assert sorted(await rig.all(feed)) == ["c", "d"]


async def test_order_within_a_file_and_places(rig: Rig) -> None:
    for number in range(30):
        await rig.write(f"{number}a", f"{number}b", slot=number % 2, partition=number % 5)
    async with rig.feed(batch_records_max=8) as feed:
        found = await rig.all(feed)
    for slot in (0, 1):
        own = [name for name in found if int(name[:-1]) % 2 == slot]
        assert own == [f"{n}{part}" for n in range(slot, 30, 2) for part in "ab"]


async def test_batches_are_bounded(rig: Rig) -> None:
    for number in range(20):
        await rig.write(f"{number}", f"{number}x")
    async with rig.feed(batch_records_max=6) as feed:
        reading = await feed.read(0.0)
        assert reading is not None
        assert len(reading.records) == 6
    async with rig.feed(batch_bytes_max=65536) as feed:
        reading = await feed.read(0.0)
        assert reading is not None
        assert len(reading.records) == 40


async def test_it_keeps_up_with_a_writer(rig: Rig) -> None:
    written: list[str] = []

    async def write() -> None:
        for number in range(200):
            name = f"n{number}"
            await rig.write(name, slot=number % 2)
            written.append(name)

    async with rig.feed() as feed, asyncio.timeout(PATIENCE_S):
        writer = asyncio.create_task(write())
        found: list[str] = []
        while len(found) < 200:
            reading = await feed.read(1.0)
            if reading is not None:
                found += names(reading)
                rig.positions.take(reading)
                await feed.done(reading)
        await writer
    assert sorted(found) == sorted(written)
    assert rig.missed.n == 0


async def test_one_reader_at_a_time(rig: Rig) -> None:
    await rig.write("a")
    async with rig.feed() as first, rig.feed() as second:
        assert await rig.all(first) == ["a"]
        await rig.write("b")
        assert await second.read(0.0) is None
        assert second.lag().records == 0
        await first.stop()
        assert await rig.all(second) == ["b"]


async def test_what_retention_took_before_it_was_read_is_noticed(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.write("a")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a"]
    for name in "bcd":
        await rig.write(name)
    rig.sql("DELETE FROM batch WHERE records = 1 AND id < (SELECT max(id) FROM batch)")
    rig.late_s = 2 * RETENTION_S
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["d"]
    assert rig.missed.n == 2
    assert "2 rows of" in caplog.text


async def test_a_gap_in_the_middle_is_noticed_while_it_runs(rig: Rig) -> None:
    rig.late_s = 2 * RETENTION_S
    async with rig.feed() as feed:
        await rig.write("a")
        assert await rig.all(feed) == ["a"]
        for name in "bcd":
            await rig.write(name)
        rig.sql("DELETE FROM batch WHERE id = (SELECT max(id) FROM batch) - 1")
        assert await rig.all(feed) == ["b", "d"]
    assert rig.missed.n == 1


async def test_rows_that_went_to_kafka_are_no_gap(rig: Rig) -> None:
    """Young rows are not taken by retention: they were spooled in a time when there was a Kafka."""
    await rig.write("a")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a"]
        await rig.write("b")
        await rig.write("c")
        rig.sql("DELETE FROM batch WHERE id = (SELECT max(id) FROM batch) - 1")
        assert await rig.all(feed) == ["c"]
    assert rig.missed.n == 0


async def test_a_log_that_began_before_the_processor_is_read_from_its_oldest_row(rig: Rig) -> None:
    for name in "abc":
        await rig.write(name)
    rig.sql("DELETE FROM batch WHERE id = (SELECT min(id) FROM batch)")
    rig.late_s = 2 * RETENTION_S
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["b", "c"]
    assert rig.missed.n == 0


@pytest.mark.parametrize("running", [True, False], ids=["while it reads", "between two readers"])
async def test_a_file_that_was_replaced_is_read_whole(rig: Rig, running: bool) -> None:
    await rig.write("a", "b")

    async def replace() -> None:
        await rig.close_writers()
        for path in rig.folder.glob("publisher-0.db*"):
            path.rename(path.with_name(path.name + ".aside"))
        await rig.write("c")
        await rig.write("d")

    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a", "b"]
        if running:
            await replace()
            assert await rig.all(feed) == ["c", "d"]
    if not running:
        await replace()
        async with rig.feed() as feed:
            assert await rig.all(feed) == ["c", "d"]
    assert rig.missed.n == 0


async def test_numbers_that_begin_again_are_read_from_the_first(rig: Rig) -> None:
    await rig.write("a")
    await rig.write("b")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a", "b"]
    rig.sql("DELETE FROM batch")
    rig.sql("UPDATE sqlite_sequence SET seq = 0")
    await rig.write("c")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["c"]
        await rig.write("d")
        assert await rig.all(feed) == ["d"]


async def test_a_copy_of_the_folder_is_known_by_its_rows(rig: Rig) -> None:
    """Restored from a backup: other inodes, the same rows."""
    await rig.write("a")
    await rig.write("b")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a", "b"]
    await rig.close_writers()
    shutil.copytree(rig.folder, rig.folder.with_name("copy"))
    shutil.rmtree(rig.folder)
    rig.folder.with_name("copy").rename(rig.folder)
    await rig.write("c")
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["c"]


async def test_folders_that_share_a_database_are_strangers(tmp_path: Path) -> None:
    one, other = Rig(tmp_path / "one"), Rig(tmp_path / "other")
    other.positions = one.positions
    await one.write("a")
    await other.write("b")
    async with one.feed() as feed:
        assert await one.all(feed) == ["a"]
    async with other.feed() as feed:
        assert await other.all(feed) == ["b"]
    assert len(one.positions.kept) == 2
    await one.close_writers()
    await other.close_writers()


async def test_positions_that_moved_without_us_are_taken_up(rig: Rig) -> None:
    await rig.write("a")
    await rig.write("b")
    async with rig.feed(batch_records_max=1) as feed:
        reading = await feed.read(0.0)
        assert reading is not None
        rig.positions.take(reading)  # somebody else has stored them, and this feed is never told
        await feed.reset()
        assert await rig.all(feed) == ["b"]


async def test_positions_away(rig: Rig) -> None:
    await rig.write("a")
    rig.positions.away = True
    async with rig.feed() as feed:
        assert await feed.read(0.0) is None
        rig.positions.away = False
        assert await rig.all(feed) == ["a"]


async def test_a_damaged_row_is_told_and_holds_nobody_up(rig: Rig) -> None:
    await rig.write("a")
    await rig.write("b")
    await rig.write("c")
    rig.sql("UPDATE batch SET body = x'00ff' WHERE id = (SELECT max(id) FROM batch) - 1")
    async with rig.feed() as feed:
        reading = await feed.read(0.0)
        assert reading is not None
        assert [one.trouble != "" for one in reading.records] == [False, True, False]
        assert reading.records[1].value == b"\x00\xff"


async def test_a_file_that_can_not_be_read_holds_no_other_up(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.write("a")
    (rig.folder / "publisher-5.db").write_bytes(b"this is no database, and longer than the head of one " * 10)
    async with rig.feed() as feed:
        assert await rig.all(feed) == ["a"]
        await rig.write("b")
        assert await rig.all(feed) == ["b"]
    assert caplog.text.count("publisher-5") == 1


async def test_an_empty_folder(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "nothing")
    async with rig.feed() as feed:
        assert await feed.read(0.0) is None
        assert feed.lag().records == 0
    assert not rig.folder.exists()


async def test_lag_counts_what_waits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.adapters.local.feed.COUNT_S", 0.001)
    for number in range(5):
        await rig.write(f"{number}a", f"{number}b")
    async with rig.feed(batch_records_max=2) as feed:
        waiting = []
        while (reading := await feed.read(0.0)) is not None:
            waiting.append(feed.lag().records)
            assert feed.lag().oldest_ms == reading.records[0].timestamp_ms
            rig.positions.take(reading)
            await feed.done(reading)
        assert waiting == [10, 8, 6, 4, 2]
        assert feed.lag().records == 0
