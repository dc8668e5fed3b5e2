"""Reloads and rolling restarts: nothing is lost, nothing bad gets in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import HeadgateError, SettingsError
from tests.support.crew.instance import Instance, wait_for


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    yield made
    made.end()


def by_place(instance: Instance) -> dict[tuple[str, int], int]:
    return {(one["role"], one["slot"]): one["pid"] for one in instance.slots()}


def test_a_hup_replaces_every_publisher_and_frontend_but_not_the_embedded_servers(instance: Instance) -> None:
    instance.start()
    before = by_place(instance)
    instance.settings["limits"] = {"rate_per_s": 77.0}
    instance.write()
    instance.signal(signal.SIGHUP)
    wait_for(lambda: "reloaded: 3 slots rolled" in instance.log(), "rolled")
    after = by_place(instance)
    assert before.keys() == after.keys()
    assert after[("embedded", 0)] == before[("embedded", 0)]
    assert all(after[place] != before[place] for place in before if place[0] != "embedded")
    assert instance.pids() == set(after.values()), "the old ones are gone"
    assert {one["restarts"] for one in instance.slots()} == {0}, "a roll is no crash"
    assert instance.frontend()["rate_per_s"] == 77.0
    assert instance.metric("headgate_rolls_total", result="done") == 1


def test_the_old_process_goes_on_until_the_new_one_is_ready(instance: Instance) -> None:
    instance.start()
    instance.client.roll()
    diary = [line.split() for line in instance.diary() if "frontend/0" in line]
    (ready_old, ready_new, draining_old, drained_old) = diary
    assert [what for what, _, _ in diary] == ["ready", "ready", "draining", "drained"]
    assert ready_old[2] == draining_old[2] == drained_old[2] != ready_new[2]


async def test_no_request_fails_during_rolls(instance: Instance) -> None:
    """Fresh connections and kept ones, all the time, over three rolls."""
    instance.start()
    over = asyncio.Event()
    answered = 0

    async def read_reply(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200")
        return head

    async def visitor(*, keep: bool) -> None:
        nonlocal answered
        while not over.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", instance.ingest_port)
            for _ in range(50 if keep else 1):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await read_reply(reader)
                answered += 1
                if b"Connection: close" in head or over.is_set():
                    break
                await asyncio.sleep(0.005)
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(visitor(keep=number % 2 == 0))
        for _ in range(3):
            await asyncio.to_thread(instance.client.roll)
        over.set()
    assert answered > 100
    received = instance.metric("headgate_events_received_total")
    assert received == instance.metric("headgate_events_total") == answered, (
        "old and new processes are summed"
    )


def test_bad_settings_change_nothing_and_name_the_key(instance: Instance) -> None:
    instance.start()
    before = by_place(instance)
    instance.settings["limits"] = {"burst": 0}
    instance.write()
    instance.signal(signal.SIGHUP)
    wait_for(lambda: "reload refused, nothing changed" in instance.log(), "refused")
    with pytest.raises(SettingsError) as refused:
        instance.client.roll()
    assert refused.value.key == "limits.burst"
    assert by_place(instance) == before
    line = next(json.loads(line) for line in instance.log().splitlines() if "reload refused" in line)
    assert line["extra"]["key"] == "limits.burst"
    assert instance.metric("headgate_rolls_total", result="refused") == 2


@pytest.mark.parametrize(
    ("start", "reason"),
    [("crash", "RuntimeError: told to crash"), ("refuse", "exit code 78: told to refuse")],
)
def test_when_the_new_process_fails_the_old_one_stays(instance: Instance, start: str, reason: str) -> None:
    instance.settings["limits"] = {"rate_per_s": 1.0}
    instance.start()
    before = by_place(instance)
    instance.behave("frontend-0", start=start)
    instance.settings["limits"] = {"rate_per_s": 2.0}
    instance.write()
    told: list[str] = []
    with pytest.raises(HeadgateError, match=reason) as failed:
        instance.client.roll(told.append)
    assert not isinstance(failed.value, SettingsError), "it is the process that failed"
    assert f"the old one (pid {before[('frontend', 0)]}) stays" in str(failed.value)
    assert any(line.startswith("publisher/0: pid ") for line in told)
    assert {place: pid for place, pid in by_place(instance).items() if place[0] == "frontend"} == {
        place: pid for place, pid in before.items() if place[0] == "frontend"
    }
    assert instance.ask("/readyz")[0] == 200

    # A slot that has not rolled is restarted with what it had, not with what has just failed.
    instance.behave("frontend-0")
    os.kill(before[("frontend", 0)], signal.SIGKILL)
    os.kill(before[("frontend", 1)], signal.SIGKILL)
    wait_for(lambda: {one["state"] for one in instance.slots()} == {"READY"}, "back")
    assert {instance.frontend()["rate_per_s"] for _ in range(10)} == {1.0}


def test_a_crash_of_the_old_process_during_a_roll_hurts_nobody(instance: Instance) -> None:
    instance.settings["frontend"]["count"] = 1
    instance.start()
    old, publisher = instance.slot("frontend")["pid"], instance.slot("publisher")["pid"]
    instance.behave("frontend", start="never")
    instance.settings["supervisor"]["start_timeout_s"] = 2.0
    instance.write()
    instance.signal(signal.SIGHUP)
    wait_for(
        lambda: len(pids := instance.pids()) == 4 and publisher not in pids, "the new frontend is starting"
    )
    os.kill(old, signal.SIGKILL)
    instance.behave("frontend")
    wait_for(lambda: (one := instance.slot("frontend"))["pid"] != old and one["state"] == "READY", "ready")
    assert "the new process takes its place" in instance.log()


def test_counts_change_with_a_reload(instance: Instance) -> None:
    instance.start()
    instance.settings["frontend"]["count"] = 4
    instance.settings["publisher"] = {"count": 2}
    instance.write()
    assert instance.client.roll().startswith("6 slots rolled")
    assert len(instance.frontend()["queue_paths"]) == 2
    wait_for(lambda: instance.frontend()["slot"] == 3, "the new slots get connections")

    instance.settings["frontend"]["count"] = 1
    instance.settings["publisher"] = {"count": 1}
    instance.write()
    instance.client.roll()
    assert [(one["role"], one["slot"]) for one in instance.slots()] == [
        ("embedded", 0),
        ("publisher", 0),
        ("frontend", 0),
    ]
    assert {instance.frontend()["slot"] for _ in range(20)} == {0}
    assert instance.pids() == {one["pid"] for one in instance.slots()}
    assert not (instance.folder / "run" / "publisher-1.sock").exists()


def test_a_new_slot_that_fails_is_not_added(instance: Instance) -> None:
    instance.start()
    instance.behave("frontend-2", start="refuse")
    instance.settings["frontend"]["count"] = 3
    instance.write()
    with pytest.raises(HeadgateError, match="frontend/2: the new slot failed"):
        instance.client.roll()
    assert len(instance.slots()) == 4
    assert instance.ask("/readyz")[0] == 200


def test_what_needs_a_restart_is_named_and_the_rest_is_rolled(instance: Instance) -> None:
    instance.start()
    instance.settings["server"] |= {"admin_port": 1}
    instance.settings["limits"] = {"rate_per_s": 5.0}
    instance.write()
    told: list[str] = []
    assert instance.client.roll(told.append) == "3 slots rolled; restart to change server.admin_port"
    assert "settings: limits.rate_per_s changed" in told
    assert instance.frontend()["rate_per_s"] == 5.0


def test_hups_in_a_row_become_two_rolls_at_most(instance: Instance) -> None:
    instance.start()
    for _ in range(10):
        instance.signal(signal.SIGHUP)
        instance.ask("/livez")
    wait_for(lambda: instance.metric("headgate_rolls_total", result="done") == 2, "rolled")
    pids = instance.pids()
    assert instance.client.roll() == "3 slots rolled"
    assert not pids & instance.pids() - {instance.slot("embedded")["pid"]}
    assert instance.metric("headgate_rolls_total", result="done") == 3


def test_the_end_does_not_wait_for_a_roll(instance: Instance) -> None:
    instance.start()
    instance.behave("publisher", start="never")
    instance.signal(signal.SIGHUP)
    wait_for(lambda: len(instance.pids()) == 5, "the roll hangs on a process that does not start")
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
