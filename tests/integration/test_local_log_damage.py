"""The local log's files damaged in every way: what is whole is saved, what is not is counted, and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from daemon.adapters.local import LocalLog, LocalReader
from daemon.adapters.local import rescue as rescue_module
from daemon.adapters.local.aside import corrupt, to_salvage, wal_of
from daemon.adapters.local.layout import DAMAGED
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.observe.catalog import LocalLogMetrics
from daemon.ports import PartitionBatch
from tests.servers.tools import need
from tests.support.logs import batch, ids, record, stored, until

MIB = 1024 * 1024
#: From rows that fit into a corner of a page to rows over many overflow pages.
SIZES = (10, 300, 3000, 5000, 20_000, 200_000)


def settings_for(folder: Path, **log: object) -> Settings:
    return msgspec.convert({"data_dir": str(folder), "log": {"headroom_bytes": 0} | log}, type=Settings)


class Opened(LocalLog):
    """A local log that remembers its metrics."""

    def __init__(self, settings: Settings, slot: int = 0, *, spool: bool = True) -> None:
        self.told = LocalLogMetrics()
        super().__init__(settings, slot, spool=spool, metrics=self.told)

    async def salvaged(self) -> None:
        """Wait until nothing lies aside any more that could be saved."""
        await until(lambda: not to_salvage(self.path), "the salvage")
        if self._rescuing is not None:
            await self._rescuing


Make = Callable[..., Opened]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Opened] = []

    def one(*, spool: bool = True, **log: object) -> Opened:
        made.append(Opened(settings_for(tmp_path, **log), spool=spool))
        return made[-1]

    yield one
    for log in made:
        await log.stop()


async def filled(log: Opened, rows: int) -> dict[str, bytes]:
    """Write `rows` rows of all sizes; gives id → value."""
    written: dict[str, bytes] = {}
    for n in range(rows):
        one = record(f"{n}", size=SIZES[n % len(SIZES)])
        await log.append("t", [PartitionBatch(n % 4, [one])])
        written[one.id] = one.value
    return written


async def held(log: LocalLog) -> dict[str, bytes]:
    """Everything that waits for Kafka, taken off as the drain does."""
    found: dict[str, bytes] = {}
    while rows := await log.oldest(MIB):
        for _, _, batches in rows:
            found |= {one.id: one.value for held in batches for one in held.records}
        await log.remove([number for number, _, _ in rows], len(rows))
    return found


def flushed(path: Path) -> None:
    """Bring everything from the WAL into the file, as a last close does."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# --- a row


async def test_a_flipped_bit_in_a_row_is_found_and_holds_up_nobody(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    log = make()
    await log.start()
    for name in "abc":
        await log.append("t", [batch(0, name)])
    with contextlib.closing(sqlite3.connect(log.path)) as db, db:
        (body,) = db.execute("SELECT body FROM batch ORDER BY id LIMIT 1 OFFSET 1").fetchone()
        # Still msgpack, still a record: only the checksum can tell.
        assert body.count(b"b......") == 1
        db.execute("UPDATE batch SET body = ? WHERE body = ?", (body.replace(b"b......", b"x......"), body))
    assert set(await held(log)) == {"a", "c"}
    assert "its checksum is wrong" in caplog.text
    assert (await log.count(), log.damaged_rows, log.refused_rows) == (0, 1, 0)
    assert log.told.lost_rows.total() == 1
    assert log.told.corrupt_files.total() == 0
    with contextlib.closing(sqlite3.connect(log.path)) as db:
        assert [state for (state,) in db.execute("SELECT state FROM batch")] == [DAMAGED]


async def test_readers_leave_a_damaged_row_out(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = make(spool=False)
    await log.start()
    for name in "abc":
        await log.append("t", [batch(0, name)])
    with contextlib.closing(sqlite3.connect(log.path)) as db, db:
        db.execute("UPDATE batch SET sum = sum + 1 WHERE id = (SELECT min(id) + 1 FROM batch)")
    assert ids(await stored(LocalReader(settings_for(tmp_path)), "t")) == ["a", "c"]
    assert "is left out" in caplog.text


async def test_files_of_before_the_checksums_are_read_and_brought_up(make: Make, tmp_path: Path) -> None:
    first = make()
    await first.start()
    await first.append("t", [batch(0, "old")])
    await first.stop()
    with contextlib.closing(sqlite3.connect(first.path)) as db, db:
        db.execute("DROP INDEX batch_aside")
        db.execute("DROP TABLE salvage")
        db.execute("ALTER TABLE batch DROP COLUMN sum")
    assert ids(await stored(LocalReader(settings_for(tmp_path)), "t")) == ["old"]
    again = make()
    await again.start()
    await again.append("t", [batch(0, "new")])
    assert ids(await stored(LocalReader(settings_for(tmp_path)), "t")) == ["old", "new"]
    assert list(await held(again)) == ["old", "new"]


# --- a file


async def test_a_file_of_nonsense_is_moved_aside_at_the_start(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    nonsense = random.Random(7).randbytes(100_000)
    (folder / "publisher-0.db").write_bytes(nonsense)
    log = make()
    await log.start()
    await log.append("t", [batch(0, "a")])
    await log.salvaged()
    assert await log.count() == 1
    (moved,) = corrupt(log.path)
    assert moved.read_bytes() == nonsense
    assert log.told.corrupt_files.total() == 1
    assert log.told.salvaged.total() == 0
    assert "is corrupt" in caplog.text


async def test_without_its_head_everything_is_saved(make: Make) -> None:
    first = make()
    await first.start()
    written = await filled(first, 60)
    await first.stop()
    with first.path.open("r+b") as file:
        file.write(b"\0" * 4096)
    log = make()
    await log.start()
    await log.append("t", [batch(0, "after")])
    await log.salvaged()
    assert await log.count() == 61
    found = await held(log)
    assert found.pop("after")
    assert found == written
    assert (log.told.salvaged.total(), log.told.lost_rows.total()) == (60, 0)


async def test_what_stands_in_the_wal_alone_is_saved_too(make: Make, tmp_path: Path) -> None:
    """As after a crash; SQLite itself would throw the WAL away, with all that was acknowledged last."""
    source = make()
    await source.start()
    written = await filled(source, 30)
    assert wal_of(source.path).stat().st_size > 100_000
    wal = wal_of(source.path).read_bytes()
    await source.stop()
    for number, head in enumerate((None, b"", b"no database" * 1000)):
        folder = tmp_path / f"case-{number}" / "log"
        folder.mkdir(parents=True)
        (folder / "publisher-0.db-wal").write_bytes(wal)
        if head is not None:
            (folder / "publisher-0.db").write_bytes(head)
        log = Opened(settings_for(folder.parent))
        await log.start()
        await log.salvaged()
        assert await held(log) == written, head
        await log.stop()


async def test_drained_rows_do_not_come_back(make: Make) -> None:
    log = make()
    await log.start()
    written = await filled(log, 40)
    gone = await log.oldest(300_000)
    await log.remove([number for number, _, _ in gone], len(gone))
    await log.stop()
    with log.path.open("r+b") as file:
        file.write(b"\0" * 100)
    again = make()
    await again.start()
    await again.salvaged()
    left = {name: value for name, value in written.items() if int(name) >= len(gone)}
    assert 0 < len(gone) < 40
    assert await held(again) == left
    assert again.told.lost_rows.total() == 0


@pytest.mark.parametrize("seed", range(12))
async def test_random_damage_never_stops_the_log_and_never_changes_a_record(make: Make, seed: int) -> None:
    chance = random.Random(seed)
    first = make()
    await first.start()
    written = await filled(first, 90)
    if chance.random() < 0.7:
        await first.stop()
        flushed(first.path)
    else:
        # As after a kill: the WAL is there.
        copy = (first.path.read_bytes(), wal_of(first.path).read_bytes())
        await first.stop()
        first.path.write_bytes(copy[0])
        wal_of(first.path).write_bytes(copy[1])
    size = first.path.stat().st_size
    with first.path.open("r+b") as file:
        for _ in range(chance.randint(1, 6)):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(chance.choice((1, 8, 200, 4096, 20_000))))
        if chance.random() < 0.3:
            file.truncate(chance.randrange(size))
    log = make()
    await log.start()
    for n in range(5):
        await log.append("t", [batch(0, f"after-{n}")])
    found: dict[str, bytes] = {}
    for _ in range(3):
        found |= await held(log)
        await log.salvaged()
    assert {f"after-{n}" for n in range(5)} <= found.keys()
    saved = {name: value for name, value in found.items() if not name.startswith("after")}
    assert saved.items() <= written.items(), "what is there is as it was"
    assert await log.trouble() == ""
    if len(saved) < len(written):
        assert log.told.corrupt_files.total() or log.told.lost_rows.total()


async def test_a_crash_in_the_middle_of_a_salvage_neither_loses_nor_doubles(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue_module, "CHUNK_BYTES", 100_000)
    first = make()
    await first.start()
    written = await filled(first, 60)
    await first.stop()
    with first.path.open("r+b") as file:
        file.write(b"\0" * 4096)
    restored = 0
    whole = first._file.__class__.restore

    def until_the_third(self: object, *args: object) -> None:
        nonlocal restored
        restored += 1
        if restored == 3:
            raise sqlite3.OperationalError("killed here")
        whole(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("daemon.adapters.local.file.LogFile.restore", until_the_third)
    second = make()
    await second.start()
    await until(lambda: second._rescuing is not None and second._rescuing.done(), "the first try")
    assert to_salvage(second.path)
    before = await second.count()
    assert 0 < before < 60
    await second.stop()
    monkeypatch.undo()
    third = make()
    await third.start()
    await third.salvaged()
    assert await third.count() == 60
    assert await held(third) == written


async def test_with_no_room_the_salvage_waits_and_goes_on(make: Make) -> None:
    first = make()
    await first.start()
    written = await filled(first, 60)
    await first.stop()
    with first.path.open("r+b") as file:
        file.write(b"\0" * 4096)
    # The new file may be half as large as what is to be saved.
    log = make(bytes_max=1 * MIB)
    await log.start()
    found: dict[str, bytes] = {}
    async with asyncio.timeout(30):
        while to_salvage(log.path):
            log._salvage()
            assert log._rescuing is not None
            await log._rescuing
            found |= await held(log)
    assert found | await held(log) == written


async def test_a_file_that_another_process_has_open_stays_where_it_is(make: Make) -> None:
    old, new = make(), make()
    await asyncio.gather(old.start(), new.start())
    await filled(old, 30)
    flushed(old.path)
    with old.path.open("r+b") as file:
        # The tree's middle is gone; its leaves are there.
        file.seek(4096 * 2)
        file.write(os.urandom(4096 * 3))
    for log in (old, new):
        # Whoever finds it first can't move it under the other; that one finds it too, and then it goes.
        with contextlib.suppress(LogUnavailable):
            await log.oldest(MIB)
    await asyncio.gather(*(log.append("t", [batch(0, "a")]) for log in (old, new)))
    assert len(corrupt(old.path)) + len(to_salvage(old.path)) <= 1


async def test_ids_go_on_growing_over_a_file_that_was_lost(make: Make, tmp_path: Path) -> None:
    """A reader that has got to some row must not take the new file's rows for old ones."""
    first = make(spool=False)
    await first.start()
    for n in range(5):
        await first.append("t", [batch(0, f"{n}")])
    await first.stop()
    last = max(one.offset for one in await stored(LocalReader(settings_for(tmp_path)), "t"))
    await asyncio.sleep(0.01)
    for path in (tmp_path / "log").glob("publisher-0.db*"):
        path.unlink()
    second = make(spool=False)
    await second.start()
    await second.append("t", [batch(0, "new")])
    (found,) = await stored(LocalReader(settings_for(tmp_path)), "t")
    assert last < found.offset < 1 << 63


async def test_what_root_makes_belongs_to_the_files_owner(make: Make, tmp_path: Path) -> None:
    """An operator's command as root must not lock the service out of its own files."""
    need("root")
    first = make()
    await first.start()
    await first.append("t", [batch(0, "a")])
    await first.stop()
    for path in first.path.parent.iterdir():
        path.unlink() if path.suffix != ".db" else os.chown(path, 65534, 65534)
    second = make()
    await second.start()
    assert second.lock_drain()
    await second.append("t", [batch(0, "b")])
    assert {path.stat().st_uid for path in (tmp_path / "log").iterdir()} == {65534}
    assert len(list((tmp_path / "log").iterdir())) >= 4
