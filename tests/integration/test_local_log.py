"""The local log when the disk is full, failing or shared, and what it does with what is old."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from daemon.adapters.local import LocalLog, LocalReader
from daemon.adapters.local.file import LogFile
from daemon.adapters.local.layout import KEPT
from daemon.adapters.local.rows import OFFSET_PLACES, ROW_BYTES, batches_of, to_rows
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.ports import PartitionBatch
from tests.servers.tools import need
from tests.support.logs import NOW_MS, PATIENCE_S, batch, ids, record, stored, until

Make = Callable[..., LocalLog]
MIB = 1024 * 1024


def settings_for(folder: Path, **log: object) -> Settings:
    return msgspec.convert({"data_dir": str(folder), "log": {"headroom_bytes": 0} | log}, type=Settings)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make local logs in this test's folder; stopped after it."""
    made: list[LocalLog] = []

    def one(*, slot: int = 0, spool: bool = False, folder: Path = tmp_path, **log: object) -> LocalLog:
        made.append(LocalLog(settings_for(folder, **log), slot, spool=spool))
        return made[-1]

    yield one
    for log in made:
        await log.stop()


async def everything(folder: Path) -> list[str]:
    return ids(await stored(LocalReader(settings_for(folder)), "t"))


def big(name: str, size: int = 400_000) -> list[PartitionBatch]:
    return [PartitionBatch(0, [record(name, size=size)])]


# --- no room


async def test_at_the_bound_it_refuses_and_goes_on_when_rows_have_gone(make: Make, tmp_path: Path) -> None:
    log = make(spool=True, bytes_max=2 * MIB)
    await log.start()
    taken = 0
    with pytest.raises(LogUnavailable, match=r"log\.bytes_max is reached") as caught:  # noqa: PT012
        for _ in range(20):
            await log.append("t", big(f"{taken}"))
            taken += 1
    assert taken >= 3
    assert caught.value.retry_after_s >= 1
    assert await everything(tmp_path) == [f"{n}" for n in range(taken)]
    rows = await log.oldest(1)
    await log.remove([rows[0][0]], 1)
    await log.append("t", big("after"))
    assert (await everything(tmp_path))[-1] == "after"


async def test_the_headroom_of_the_disk_is_kept(make: Make, tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    log = make(headroom_bytes=disk.f_bavail * disk.f_frsize + 1024 * MIB)
    await log.start()
    with pytest.raises(LogUnavailable, match=r"below log\.headroom_bytes"):
        await log.append("t", [batch(0, "a")])
    assert "headroom" in await log.trouble()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    need("root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run([need("mount"), "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run([need("umount"), "-l", str(folder)], check=True)


async def test_a_full_disk_is_an_error_not_an_end_and_nothing_acknowledged_is_lost(
    make: Make, small_disk: Path
) -> None:
    # No headroom: SQLite itself runs into the wall, as when somebody else has filled the disk meanwhile.
    log = make(folder=small_disk)
    await log.start()
    acknowledged = []
    for n in range(40):
        try:
            await log.append("t", big(f"{n}", 100_000))
        except LogUnavailable as error:
            assert "disk" in str(error)  # noqa: PT017
            break
        acknowledged.append(f"{n}")
    else:
        pytest.fail("4 MiB can't hold this")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 4 * MIB)
    with pytest.raises(LogUnavailable):
        await log.append("t", big("refused", 100_000))
    assert await log.trouble() != ""
    filler.unlink()
    subprocess.run([need("mount"), "-o", "remount,size=16m", str(small_disk)], check=True)
    assert await log.trouble() == ""
    await log.append("t", big("after", 100_000))
    assert await everything(small_disk) == [*acknowledged, "after"]


async def test_at_the_headroom_a_spool_can_still_be_drained_and_gives_its_room_back(
    make: Make, small_disk: Path
) -> None:
    log = make(folder=small_disk, spool=True, headroom_bytes=2 * MIB)
    await log.start()
    for n in range(4):
        await log.append("t", big(f"{n}", 100_000))
    with pytest.raises(LogUnavailable, match="headroom"):  # noqa: PT012
        for n in range(40):
            await log.append("t", big(f"more-{n}", 100_000))
    while rows := await log.oldest(MIB):
        await log.remove([row[0] for row in rows], sum(len(b.records) for row in rows for b in row[2]))
    assert await log.count() == 0
    await log.append("t", big("after", 100_000))


async def test_a_write_that_fails_in_the_middle_leaves_the_log_whole(make: Make, tmp_path: Path) -> None:
    log = make()
    await log.start()
    await log.append("t", big("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (600_000, hard)
    )  # beyond it, write() fails (Python ignores SIGXFSZ)
    try:
        with pytest.raises(LogUnavailable, match="fails"):
            await log.append("t", big("too much"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await log.trouble() == ""
    await log.append("t", big("after"))
    assert await everything(tmp_path) == ["before", "after"]


async def test_an_append_that_cannot_be_encoded_is_answered_and_holds_nobody_up(
    make: Make, tmp_path: Path
) -> None:
    """Whatever goes wrong in the commit, whoever waits for it hears so, and the next one goes on."""
    log = make()
    await log.start()
    broken = record("b")
    unencodable = [PartitionBatch(0, [msgspec.structs.replace(broken, timestamp_ms=1 << 70)])]
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(LogUnavailable, match="fails"):
            await log.append("t", unencodable)
        await log.append("t", [batch(0, "a")])
    assert await everything(tmp_path) == ["a"]


async def test_a_folder_that_cannot_be_made_is_an_error_that_passes(make: Make, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    log = make()
    with pytest.raises(LogUnavailable):
        await log.start()
    with pytest.raises(LogUnavailable):
        await log.append("t", [batch(0, "a")])
    (tmp_path / "log").unlink()
    assert await log.trouble() == ""
    await log.append("t", [batch(0, "b")])
    assert await everything(tmp_path) == ["b"]


async def test_the_files_name_is_durable_before_anything_is_acknowledged(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a process died between making the file and saying so to the disk."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "publisher-0.db").touch(0o600)
    synced: set[int] = set()

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    log = make()
    await log.start()
    await log.append("t", [batch(0, "a")])
    assert {tmp_path.stat().st_ino, (tmp_path / "log").stat().st_ino} <= synced


# --- the spool


async def test_drained_rows_go_and_give_their_room_back(make: Make, tmp_path: Path) -> None:
    log = make(spool=True)
    await log.start()
    for n in range(20):
        await log.append("t", big(f"{n}"))
    assert await log.count() == 20
    before = log.used_bytes
    found: list[str] = []
    while rows := await log.oldest(MIB):
        assert len(rows) <= 3, "a step is bounded"
        found += [r.id for _, _, batches in rows for one in batches for r in one.records]
        await log.remove([number for number, _, _ in rows], len(rows))
    assert found == [f"{n}" for n in range(20)]
    assert await log.count() == 0
    assert log.used_bytes < before / 10
    await log.stop()
    assert log.path.stat().st_size < before / 4, "pages go back to the disk"


async def test_records_kept_before_there_was_a_kafka_are_not_sent_to_it(make: Make) -> None:
    whole = make()
    await whole.start()
    await whole.append("t", [batch(0, "kept")])
    await whole.stop()
    spool = make(spool=True)
    await spool.start()
    assert (spool.spooled_records, await spool.oldest(MIB)) == (0, [])
    await spool.append("t", [batch(0, "for kafka")])
    assert spool.spooled_records == 1
    assert [r.id for _, _, (one,) in await spool.oldest(MIB) for r in one.records] == ["for kafka"]


async def test_a_row_that_cannot_be_read_is_put_aside(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    log = make(spool=True)
    await log.start()
    await log.append("t", [batch(0, "a")])
    with sqlite3.connect(log.path) as direct:
        direct.execute("UPDATE batch SET body = x'c1'")
    direct.close()
    await log.append("t", [batch(0, "b")])
    found = await log.oldest(MIB)
    assert [r.id for _, _, (one,) in found for r in one.records] == ["b"]
    assert "can't be read and is put aside" in caplog.text
    assert await log.count() == 1


async def test_two_processes_of_a_slot_write_at_once_and_one_drains(make: Make, tmp_path: Path) -> None:
    old, new = make(spool=True), make(spool=True)
    await asyncio.gather(old.start(), new.start())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(
            *(
                log.append("t", [batch(part, f"{n}")])
                for n in range(200)
                for part, log in enumerate((old, new))
            )
        )
    found = await stored(LocalReader(settings_for(tmp_path)), "t")
    for part in range(2):
        assert ids(found, part) == [f"{n}" for n in range(200)]
    assert old.lock_drain()
    assert old.lock_drain()
    assert not new.lock_drain()
    old.unlock_drain()
    assert new.lock_drain()
    assert await new.count() == 400


# --- the whole log


async def test_what_is_past_its_retention_goes(make: Make, tmp_path: Path) -> None:
    first = make()
    await first.start()
    old = [record(f"old-{n}", timestamp_ms=NOW_MS - 100_000) for n in range(3)]
    await first.append("t", [PartitionBatch(0, old)])
    await first.append("t", [batch(0, "young")])
    await first.stop()
    second = make(retention_s=50.0)
    await second.start()
    async with asyncio.timeout(PATIENCE_S):
        while await everything(tmp_path) != ["young"]:
            await asyncio.sleep(0.01)


async def test_retention_0_keeps_everything(make: Make, tmp_path: Path) -> None:
    log = make(retention_s=0)
    await log.start()
    await log.append("t", [PartitionBatch(0, [record("ancient", timestamp_ms=1000)])])
    await log.tidy()
    assert await everything(tmp_path) == ["ancient"]


async def test_many_rows_past_their_retention_go_in_steps_between_appends(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log" / "publisher-0.db", 64 * MIB, 0)
    old = [record(f"{n}", timestamp_ms=1000) for n in range(30)]
    for one in old:
        file.write(to_rows("t", [PartitionBatch(0, [one])]), KEPT)
    assert [file.expire(2000, 20), file.expire(2000, 20), file.expire(2000, 20)] == [20, 10, 0]
    file.close()


# --- reading


async def test_all_publishers_files_are_read_as_one_by_time(make: Make, tmp_path: Path) -> None:
    logs = [make(slot=number) for number in range(3)]
    for log in logs:
        await log.start()
    for n in range(30):
        await logs[n % 3].append("t", [PartitionBatch(n % 4, [record(f"{n}", timestamp_ms=NOW_MS + n)])])
    found = await stored(LocalReader(settings_for(tmp_path)), "t")
    assert ids(found) == [f"{n}" for n in range(30)]
    assert {one.log for one in found} == {"publisher-0", "publisher-1", "publisher-2"}


async def test_a_file_that_appears_later_is_followed_too(make: Make, tmp_path: Path) -> None:
    reader = LocalReader(settings_for(tmp_path))
    found: list[str] = []

    async def follow() -> None:
        async for one in reader.read("t", None, follow=True):
            found.append(one.record.id)  # noqa: PERF401  seen by the test while it grows

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    for slot in range(2):
        log = make(slot=slot)
        await log.start()
        await log.append("t", [batch(0, f"{slot}")])
        await until(lambda slot=slot: f"{slot}" in found, "the news")  # type: ignore[misc]
    await reader.stop()
    async with asyncio.timeout(PATIENCE_S):
        await following
    assert found == ["0", "1"]


async def test_an_empty_folder_is_an_empty_log(tmp_path: Path) -> None:
    assert await everything(tmp_path) == []


async def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "publisher-0.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(LogUnavailable, match=r"publisher-0\.db can't be read"):
        await everything(tmp_path)


async def test_a_file_of_a_newer_headgate_is_left_alone(make: Make) -> None:
    log = make()
    await log.start()
    await log.stop()
    with sqlite3.connect(log.path) as direct:
        direct.execute("PRAGMA user_version = 99")
    direct.close()
    again = make()
    with pytest.raises(LogUnavailable, match="layout 99"):
        await again.start()


async def test_nobody_else_may_read_the_envelopes(make: Make, tmp_path: Path) -> None:
    log = make()
    await log.start()
    await log.append("t", [batch(0, "a")])
    for path in (tmp_path / "log").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# --- rows


def test_an_append_is_cut_into_rows_that_are_not_huge() -> None:
    batches = [
        PartitionBatch(
            n, [record(f"{n}-{k}", size=ROW_BYTES // 4, timestamp_ms=1000 * n + k) for k in range(6)]
        )
        for n in range(3)
    ]
    rows = to_rows("t", batches)
    assert len(rows) > 1
    assert all(len(row.body) < 2 * ROW_BYTES for row in rows)
    assert sum(row.records for row in rows) == 18
    back = [(one.partition, r.id) for row in rows for one in batches_of(row.body) for r in one.records]
    assert back == [(n, f"{n}-{k}") for n in range(3) for k in range(6)]
    for row in rows:
        times = [r.timestamp_ms for one in batches_of(row.body) for r in one.records]
        assert (row.first_ms, row.last_ms) == (min(times), max(times))


def test_a_row_never_has_more_records_than_its_offsets_have_places() -> None:
    small = [record("x", size=1, timestamp_ms=int(time.time()))] * 25_000
    rows = to_rows("t", [PartitionBatch(0, small)])
    assert sum(row.records for row in rows) == 25_000
    assert max(row.records for row in rows) < OFFSET_PLACES
