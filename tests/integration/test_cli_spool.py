"""`headgate spool` as a process: looking, draining, verifying and exporting, with and without publishers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import stat
import time
import uuid
from pathlib import Path

import msgspec
import pytest

from daemon.adapters.kafka import KafkaLog, KafkaReader
from daemon.adapters.local import LocalLog
from daemon.config.load import load
from daemon.config.schema import Settings
from daemon.ports import PartitionBatch, Record
from tests.servers.kafka import KafkaServer, free_port
from tests.support.command import Command, wait_for
from tests.support.logs import ids, record, stored


@pytest.fixture
def headgate(tmp_path: Path) -> Command:
    return Command(
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_LOG__HEADROOM_BYTES="0",
        HEADGATE_LOG__SPOOL_AGE_MAX_S="0",
        HEADGATE_KAFKA__BROKERS=f"127.0.0.1:{free_port()}",
        HEADGATE_KAFKA__TOPIC_RAW=f"raw-{uuid.uuid4().hex[:8]}",
        HEADGATE_KAFKA__TOPIC_DLQ=f"dlq-{uuid.uuid4().hex[:8]}",
        HEADGATE_KAFKA__PARTITIONS="4",
    )


def settings_of(headgate: Command) -> Settings:
    return load(None, headgate.variables)


def on(headgate: Command, kafka: KafkaServer) -> Command:
    return headgate.with_(HEADGATE_KAFKA__BROKERS=kafka.bootstrap)


async def spooled(headgate: Command, slot: int, *records: Record, spool: bool = True) -> LocalLog:
    """Put records into a slot's file, as a publisher that is gone now; one row each."""
    settings = settings_of(headgate)
    log = LocalLog(settings, slot, spool=spool)
    await log.start()
    for one in records:
        await log.append(settings.kafka.topic_raw, [PartitionBatch(slot % 4, [one])])
    await log.stop()
    return log


def spoiled(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes in the body of the row that has them."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        rows = db.execute("SELECT id, body FROM batch").fetchall()
        [(number, body)] = [row for row in rows if old in row[1]]
        db.execute("UPDATE batch SET body = ? WHERE id = ?", (body.replace(old, new), number))


async def test_status_shows_what_lies_there(headgate: Command) -> None:
    assert headgate.json("spool", "status") == {
        "records": 0, "bytes": 0, "oldest_s": 0.0, "refused_rows": 0, "damaged_rows": 0, "slots": [],
    }  # fmt: skip
    old = record("old", timestamp_ms=int(time.time() * 1000) - 7200_000)
    log = await spooled(headgate, 0, old, record("new"))
    await spooled(headgate, 3, record("other"))
    await spooled(headgate, 3, record("kept"), spool=False)
    found = headgate.json("spool", "status")
    assert found["records"] == 3
    assert 7200 <= found["oldest_s"] < 7300
    assert [(one["slot"], one["records"], one["kept_records"]) for one in found["slots"]] == [
        (0, 2, 0),
        (3, 1, 1),
    ]
    assert not any(one["in_hand"] for one in found["slots"])
    assert found["bytes"] == sum(one["bytes"] for one in found["slots"]) > 0
    assert log.lock_drain()
    lines = headgate("spool", "status").stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["SLOT", "WAITING", "OLDEST"]
    assert lines[1].split("\t")[:3] == ["0", "2", "2 h"]
    assert [line.split("\t")[-1] for line in lines[1:]] == ["a living process", "nobody"]
    log.unlock_drain()
    assert [one["slot"] for one in headgate.json("spool", "status", "--slot", "3")["slots"]] == [3]
    assert "those that have one: 0, 3" in headgate.error("spool", "status", "--slot", "7", code=66)


async def test_status_and_verify_name_a_corrupt_file(headgate: Command) -> None:
    log = await spooled(headgate, 0, record("a"))
    await spooled(headgate, 1, record("b"))
    log.path.write_bytes(b"nonsense" * 1000)
    found = headgate.json("spool", "status")
    assert "not a database" in found["slots"][0]["error"]
    assert found["slots"][1]["records"] == 1
    verified = headgate.json("spool", "verify", code=69)
    assert not verified["ok"]
    assert "not a database" in verified["slots"][0]["faults"][0]
    assert (verified["slots"][1]["faults"], verified["slots"][1]["records"]) == ([], 1)
    assert "can't be read" in headgate.error("spool", "export", "--slot", "0", code=69)
    assert headgate("spool", "export", "--slot", "1").stdout.count("\n") == 1


async def test_verify_names_each_bad_row(headgate: Command) -> None:
    log = await spooled(headgate, 0, *(record(name, size=400) for name in "abcd"))
    assert headgate.json("spool", "verify")["ok"]
    spoiled(log.path, b"b....", b"x....")
    with contextlib.closing(sqlite3.connect(log.path)) as db, db:
        db.execute("UPDATE batch SET records = 7 WHERE id = (SELECT max(id) FROM batch)")
        db.execute("UPDATE batch SET sum = NULL WHERE id = (SELECT min(id) FROM batch)")
    [found] = headgate.json("spool", "verify", code=69)["slots"]
    assert (found["rows"], found["bad_rows"], found["without_checksum"]) == (4, 2, 1)
    assert [one["fault"] for one in found["bad"]] == [
        "its checksum is wrong",
        "it holds 1 records, and should hold 7",
    ]
    text = headgate("spool", "verify", code=69).stdout
    assert text.startswith("BAD ")
    assert f"row {found['bad'][0]['row']} (waiting, 1 records): its checksum is wrong" in text


async def test_verify_finds_a_tree_that_is_not_whole(headgate: Command) -> None:
    log = await spooled(headgate, 0, *(record(f"{n}", size=3000) for n in range(40)))
    with log.path.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(os.urandom(4096))
    [found] = headgate.json("spool", "verify", code=69)["slots"]
    assert found["faults"]


async def test_export_writes_what_kafka_would_have_got(headgate: Command, tmp_path: Path) -> None:
    value = msgspec.json.encode({"id": "e1", "text": "schön"})
    whole = Record(b"acme/v", value, "e1", "datafly", "track", "acme", 1_790_000_000_123)
    binary = Record(b"\xff\x00", b"\xfe no json", "e2", "datafly", "page", "acme", 1_790_000_000_124)
    log = await spooled(headgate, 2, whole, binary)
    target = tmp_path / "out.jsonl"
    assert headgate.json("spool", "export", "--output", str(target)) == {"file": str(target), "records": 2}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    first, second = map(json.loads, target.read_text().splitlines())
    assert first == {
        "slot": 2, "row": first["row"], "state": "waiting", "topic": settings_of(headgate).kafka.topic_raw,
        "partition": 2, "timestamp_ms": 1_790_000_000_123, "id": "e1", "contract": "datafly", "type": "track",
        "tenant": "acme", "key": "acme/v", "value": {"id": "e1", "text": "schön"},
    }  # fmt: skip
    assert (second["key_base64"], second["value_base64"]) == ("/wA=", "/iBubyBqc29u")
    assert "is there already" in headgate.error("spool", "export", "--output", str(target), code=64)
    assert "can't be written" in headgate.error("spool", "export", "-o", "/nowhere/x", code=64)
    # Nothing was taken away, and what is damaged is marked.
    assert headgate.json("spool", "status")["records"] == 2
    spoiled(log.path, b"no json", b"so json")
    async with contextlib.AsyncExitStack() as stack:
        reader = LocalLog(settings_of(headgate), 2, spool=True)
        stack.push_async_callback(reader.stop)
        await reader.start()
        assert len(await reader.oldest(1 << 20)) == 1
    assert [json.loads(line)["id"] for line in headgate("spool", "export").stdout.splitlines()] == ["e1"]
    [bad] = [json.loads(line) for line in headgate("spool", "export", "--damaged").stdout.splitlines()]
    assert (bad["state"], bad["fault"]) == ("damaged", "its checksum is wrong")
    assert headgate("spool", "export", "--refused").stdout == ""
    assert headgate("spool", "export", "--kept").stdout == ""


async def test_drain_sends_everything_also_of_slots_that_are_no_more(
    headgate: Command, kafka: KafkaServer
) -> None:
    for slot in (0, 5):
        await spooled(headgate, slot, *(record(f"{slot}-{n}") for n in range(50)))
    away = headgate.error("spool", "drain", code=69)
    assert "can't be reached" in away
    there = on(headgate, kafka)
    assert "kafka.brokers is empty" in there.with_(HEADGATE_KAFKA__BROKERS="").error(
        "spool", "drain", code=78
    )
    only = there.json("spool", "drain", "--slot", "5")
    assert (only["drained"], only["left"]) == (50, 0)
    assert headgate.json("spool", "status")["records"] == 50
    done = there("spool", "drain", "--rate", "100000")
    assert done.stdout == "50 records are on Kafka, 0 wait\n"
    settings = settings_of(there)
    found = ids(await stored(KafkaReader(settings.kafka), settings.kafka.topic_raw))
    assert sorted(found) == sorted(f"{slot}-{n}" for slot in (0, 5) for n in range(50))
    assert [name for name in found if name.startswith("5")] == [f"5-{n}" for n in range(50)]
    assert there.json("spool", "drain")["drained"] == 0


async def test_drain_killed_in_the_middle_goes_on_where_it_was(headgate: Command, kafka: KafkaServer) -> None:
    await spooled(headgate, 0, *(record(f"{n}", size=200_000) for n in range(30)))
    there = on(headgate, kafka)
    process = there.start("spool", "drain", "--rate", "20")
    try:
        wait_for(lambda: 0 < there.json("spool", "status")["records"] < 30, "some records to be drained")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert there.json("spool", "drain")["left"] == 0
    settings = settings_of(there)
    found = ids(await stored(KafkaReader(settings.kafka), settings.kafka.topic_raw))
    assert set(found) == {f"{n}" for n in range(30)}
    assert len(found) <= 33, "no more than one step twice"


async def test_drain_leaves_a_living_publisher_its_file_and_watches(
    headgate: Command, kafka: KafkaServer
) -> None:
    there = on(headgate, kafka)
    settings = settings_of(there)
    log = await spooled(there, 0, record("a"))
    publisher = LocalLog(settings, 0, spool=True)
    await publisher.start()
    assert publisher.lock_drain()
    process = there.start("spool", "drain", "--json")
    try:
        client = KafkaLog(settings.kafka, [settings.kafka.topic_raw])
        await client.start()
        # Not before the command has looked at it.
        wait_for(lambda: log.path.with_suffix(".open").exists(), "its look")
        [(number, topic, batches)] = await publisher.oldest(1 << 20)
        await client.append(topic, batches)
        assert process.poll() is None
        await publisher.remove([number], 1)
        await client.stop()
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        await publisher.stop()
    assert process.returncode == 0
    assert (json.loads(out)["drained"], json.loads(out)["left"]) == (0, 0)


async def test_what_kafka_refused_goes_once_it_takes_more(headgate: Command, kafka: KafkaServer) -> None:
    there = on(headgate, kafka)
    settings = settings_of(there)
    await spooled(there, 0, record("small"), record("huge", size=1_200_000), record("last"))
    done = there("spool", "drain")
    assert "1 rows are refused by Kafka" in done.stdout
    status = headgate.json("spool", "status")
    assert (status["records"], status["refused_rows"]) == (0, 1)
    [line] = headgate("spool", "export", "--refused").stdout.splitlines()
    assert json.loads(line)["id"] == "huge"
    found = ids(await stored(KafkaReader(settings.kafka), settings.kafka.topic_raw))
    assert sorted(found) == ["last", "small"]
    # Without a higher limit it is refused again; with one it goes.
    assert there.json("spool", "drain", "--refused")["refused_rows"] == 1
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        for topic in (settings.kafka.topic_raw, settings.kafka.topic_dlq):
            change = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "3000000"})
            await admin.alter_configs([change])
    finally:
        await admin.close()
    wait_for(lambda: there.json("spool", "drain", "--refused")["refused_rows"] == 0, "the higher limit")
    found = ids(await stored(KafkaReader(settings.kafka), settings.kafka.topic_raw))
    assert sorted(found) == ["huge", "last", "small"]


async def test_drain_saves_a_corrupt_file_first(headgate: Command, kafka: KafkaServer) -> None:
    log = await spooled(headgate, 0, *(record(f"{n}") for n in range(20)))
    with log.path.open("r+b") as file:
        file.write(b"\0" * 4096)
    there = on(headgate, kafka)
    assert there.json("spool", "drain")["left"] == 0
    settings = settings_of(there)
    assert set(ids(await stored(KafkaReader(settings.kafka), settings.kafka.topic_raw))) == {
        f"{n}" for n in range(20)
    }
    [slot] = headgate.json("spool", "status")["slots"]
    assert len(slot["corrupt"]) == 1
    assert slot["to_salvage"] == []
