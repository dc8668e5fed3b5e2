"""`headgate tail` as a process, over a local log and over a real Kafka."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from daemon.adapters.kafka import KafkaLog
from daemon.adapters.local import LocalLog
from daemon.config.load import load
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable, NotFound
from daemon.ports import EventLog, PartitionBatch, Record
from tests.servers.kafka import KafkaServer
from tests.support.command import Command, end, wait_for


def event(
    number: int, *, source: str = "src_shop", kind: str = "track", age_s: float = 0.0, value: bytes = b""
) -> Record:
    """An envelope as a frontend makes it, with the few fields that matter here."""
    envelope = {
        "id": f"e{number}",
        "tenant": "acme",
        "source": source,
        "type": kind,
        "event": "Bought",
        "n": number,
    }
    return Record(
        b"acme/visitor",
        value or msgspec.json.encode(envelope),
        f"e{number}",
        "datafly",
        kind,
        "acme",
        int((time.time() - age_s) * 1000),
    )


async def write(log: EventLog, topic: str, records: Iterable[Record]) -> None:
    """Put records on a log."""
    await log.start()
    try:
        for record in records:
            await log.append(topic, [PartitionBatch(int(record.id[1:]) % log.partitions(topic), [record])])
    finally:
        await log.stop()


def settings_of(headgate: Command) -> Settings:
    return load(None, headgate.variables)


async def write_local(headgate: Command, records: Iterable[Record], slot: int = 0) -> None:
    settings = settings_of(headgate)
    await write(LocalLog(settings, slot, spool=False), settings.kafka.topic_raw, records)


def numbers(text: str) -> list[int]:
    """`n` of each line of JSON."""
    return [json.loads(line)["n"] for line in text.splitlines()]


async def test_in_a_pipe_every_event_is_one_line_oldest_first(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    assert headgate("tail").stdout == ""
    await write_local(headgate, [event(n, age_s=100 - n) for n in range(50)])
    await write_local(headgate, [event(n, age_s=30 - n / 10) for n in range(50, 60)], slot=1)
    assert numbers(headgate("tail").stdout) == list(range(60))


async def test_the_filters_and_the_limit(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    old = [event(n, age_s=7200 - n, kind="page") for n in range(5)]
    new = [event(n, age_s=60 - n, source="src_blog" if n % 2 else "src_shop") for n in range(5, 15)]
    await write_local(headgate, [*old, *new])
    assert numbers(headgate("tail", "--since", "5m").stdout) == list(range(5, 15))
    assert numbers(headgate("tail", "--since", "3h", "--type", "page").stdout) == list(range(5))
    assert numbers(headgate("tail", "--source", "src_blog").stdout) == [5, 7, 9, 11, 13]
    assert numbers(headgate("tail", "--limit", "3").stdout) == [12, 13, 14]
    assert numbers(headgate("tail", "--limit", "2", "--type", "page").stdout) == [3, 4]
    assert numbers(headgate("tail", "--since", "5m", "--source", "src_shop", "-n", "1").stdout) == [14]


async def test_a_source_is_also_found_by_its_name(postgres_dsn: str, redis_url: str, tmp_path: Path) -> None:
    headgate = Command(
        HEADGATE_DATA_DIR=str(tmp_path), HEADGATE_POSTGRES__DSN=postgres_dsn, HEADGATE_REDIS__URL=redis_url
    )
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "The Shop")
    await write_local(headgate, [event(0, source=made["id"]), event(1, source="src_other")])
    assert numbers(headgate("tail", "--source", "The Shop").stdout) == [0]


async def test_what_callers_wrote_over_several_lines_is_one_line(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    value = b'{"tenant":"acme","source":"src_shop","type":"track","n":1,"properties":{\r\n  "price": 1.50,\n "t":"a\\nb"\n}}'
    await write_local(headgate, [event(1, value=value), event(2)])
    first, second = headgate("tail").stdout.splitlines()
    assert json.loads(first) == json.loads(value)
    assert "1.50" in first
    assert json.loads(second)["n"] == 2


async def test_following_shows_what_comes_until_it_is_told_to_end(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    await write_local(headgate, [event(n, age_s=100) for n in range(15)])
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = headgate.start("tail", "--follow")
        assert process.stdout is not None
        # The newest ten first, then what is new: each line is there as soon as the event is.
        assert [json.loads(process.stdout.readline())["n"] for _ in range(10)] == list(range(5, 15))
        await write_local(headgate, [event(99)])
        assert json.loads(process.stdout.readline())["n"] == 99
        assert end(process, number) == (code, "", "")
        # For the next round: as it was.
        for file in (tmp_path / "log").iterdir():
            file.unlink()
        await write_local(headgate, [event(n, age_s=100) for n in range(15)])


async def test_following_with_a_limit_waits_for_the_next_events_and_ends(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    await write_local(headgate, [event(n, age_s=60) for n in range(5)])
    process = headgate.start("tail", "--follow", "--limit", "2")
    # Written before the process can have looked: what comes after its start is not missed.
    await write_local(headgate, [event(n) for n in (7, 8, 9)])
    out, err = process.communicate(timeout=60)
    assert (process.returncode, numbers(out), err) == (0, [7, 8], "")


async def test_when_its_reader_is_gone_a_follower_ends_although_nothing_comes(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    await write_local(headgate, [event(1, age_s=60)])
    process = headgate.start("tail", "--follow")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["n"] == 1
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


async def test_a_reader_that_has_had_enough_is_no_fault(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path))
    await write_local(headgate, [event(n, age_s=60 - n / 100) for n in range(3000)])
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash", *headgate.argv("tail")],
        env=headgate.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, numbers(done.stdout), done.stderr) == (0, [0], "")


async def test_on_a_terminal_an_event_is_a_block_without_control_characters_of_the_caller(
    tmp_path: Path,
) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path), TERM="xterm-256color")
    value = (
        '{"tenant":"acme","source":"src_shop","type":"track","event":"\\u001b[2JBought\x9b","n":1}'.encode()
    )
    await write_local(headgate, [event(1, value=value)])

    def on_terminal(*arguments: str, **variables: str) -> str:
        leader, follower = pty.openpty()
        process = headgate.with_(**variables).start(*arguments, stdout=follower)
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 65536):
                shown += part
        except OSError:
            pass  # how Linux says that the other side is closed
        os.close(leader)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        return shown.decode()

    coloured = on_terminal("tail")
    assert "\x1b[" in coloured
    plain = on_terminal("tail", NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "\x1b[2J" not in plain + coloured
    assert "\x9b" not in plain + coloured
    assert '  "source": "src_shop",' in plain
    assert "publisher-0/" in plain
    assert numbers(on_terminal("tail", "--json")) == [1]


async def test_over_kafka(kafka: KafkaServer, tmp_path: Path) -> None:
    headgate = Command(
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_KAFKA__BROKERS=kafka.bootstrap,
        HEADGATE_KAFKA__TOPIC_RAW="cli-tail",
        HEADGATE_KAFKA__PARTITIONS="3",
    )
    text = headgate.error("tail", code=NotFound.exit_code)
    assert "cli-tail" in text
    settings = settings_of(headgate)

    async def write_kafka(records: Iterable[Record]) -> None:
        await write(KafkaLog(settings.kafka, [settings.kafka.topic_raw]), settings.kafka.topic_raw, records)

    await write_kafka([event(n, age_s=100 - n, kind="track" if n % 2 else "page") for n in range(20)])
    assert sorted(numbers(headgate("tail").stdout)) == list(range(20))
    assert numbers(headgate("tail", "--limit", "5").stdout) == [15, 16, 17, 18, 19]
    assert sorted(numbers(headgate("tail", "--type", "page").stdout)) == list(range(0, 20, 2))
    process = headgate.start("tail", "--follow")
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["n"] for _ in range(10)] == list(range(10, 20))
    await write_kafka([event(77)])
    assert json.loads(process.stdout.readline())["n"] == 77
    assert end(process) == (143, "", "")


def test_a_kafka_that_is_away_is_told(tmp_path: Path) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path), HEADGATE_KAFKA__BROKERS="127.0.0.1:1")
    assert "127.0.0.1:1" in headgate.error("tail", code=LogUnavailable.exit_code)
    wait_for(lambda: not (tmp_path / "run.json").exists(), "no servers were started for it")
