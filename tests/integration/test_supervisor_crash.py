"""Processes that crash, hang, or never come up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crew.instance import Instance, alive, wait_for


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    yield made
    made.end()


def hold(instance: Instance) -> socket.socket:
    """A request that is received and never ends."""
    sock = socket.create_connection(("127.0.0.1", instance.ingest_port), 5)
    sock.sendall(b"GET /hold HTTP/1.1\r\n\r\n")
    return sock


@pytest.mark.parametrize("role", ["embedded", "publisher", "frontend"])
def test_a_killed_process_is_back_within_two_seconds_and_the_reason_is_told(
    instance: Instance, role: str
) -> None:
    instance.start()
    before = instance.slots()
    victim = instance.slot(role)["pid"]
    os.kill(victim, signal.SIGKILL)
    now = wait_for(
        lambda: one if (one := instance.slot(role))["pid"] != victim and one["state"] == "READY" else None,
        "back",
        2.0,
    )
    assert (now["restarts"], now["last_exit"]) == (1, "signal SIGKILL")
    assert f"{role}/0 crashed (signal SIGKILL); restart at once" in instance.log()
    others = [one["pid"] for one in before if one["pid"] != victim]
    assert set(others) < instance.pids(), "nobody else was touched"
    assert instance.metric("headgate_slot_restarts_total", role=role) == 1


def test_the_only_publisher_gone_is_not_ready_until_it_is_back(instance: Instance) -> None:
    instance.start()
    instance.behave("publisher", start="never")
    os.kill(instance.slot("publisher")["pid"], signal.SIGKILL)
    status = wait_for(lambda: found if (found := instance.ask("/readyz"))[0] == 503 else None, "not ready")
    assert b"publisher/0 is STARTING" in status[1]


def test_requests_go_on_while_a_frontend_is_down_and_wait_when_all_are(instance: Instance) -> None:
    instance.start()
    instance.behave("frontend-1", start="never")
    os.kill(instance.slot("frontend", 1)["pid"], signal.SIGKILL)
    wait_for(lambda: instance.slot("frontend", 1)["state"] == "STARTING", "noticed")
    assert {instance.frontend()["slot"] for _ in range(30)} == {0}
    victim = instance.slot("frontend", 0)["pid"]
    os.kill(victim, signal.SIGKILL)
    assert instance.frontend()["pid"] != victim, "the connection waited for the next process of slot 0"


def test_what_a_dead_frontend_had_in_flight_is_counted_as_interrupted(instance: Instance) -> None:
    instance.settings["frontend"]["count"] = 1
    instance.start()
    for _ in range(3):
        instance.frontend()
    with hold(instance), hold(instance):
        wait_for(lambda: instance.metric("headgate_events_received_total") == 5, "received")
        assert instance.metric("headgate_events_total") == 3
        victim = instance.slot("frontend")["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: instance.slot("frontend")["pid"] not in {victim, None}, "back")
    assert instance.metric("headgate_events_received_total", role="frontend", slot="0") == 5
    assert instance.metric("headgate_events_total", outcome="accepted") == 3
    assert instance.metric("headgate_events_total", outcome="interrupted") == 2


def test_a_slot_that_keeps_crashing_is_parked_and_comes_back_when_unparked(instance: Instance) -> None:
    instance.start()
    instance.behave("frontend-1", start="crash")
    os.kill(instance.slot("frontend", 1)["pid"], signal.SIGKILL)
    parked = wait_for(
        lambda: one if (one := instance.slot("frontend", 1))["state"] == "PARKED" else None, "parked"
    )
    # Killed once, then five starts that crashed: the sixth crash is the one too many.
    assert (parked["pid"], parked["restarts"]) == (None, 5)
    assert parked["last_exit"] == "exit code 70: RuntimeError: told to crash"
    assert "headgate slots unpark frontend 1" in instance.log()
    assert instance.ask("/readyz")[0] == 200, "the other frontend serves"
    assert instance.metric("headgate_slots", state="PARKED") == 1

    instance.behave("frontend-1")
    assert instance.client.unpark("frontend", 1) == "frontend/1 is starting"
    wait_for(lambda: instance.slot("frontend", 1)["state"] == "READY", "ready again")
    wait_for(lambda: instance.frontend()["slot"] == 1, "and it gets connections")


def test_all_slots_of_a_role_parked_end_the_daemon_with_70(instance: Instance) -> None:
    instance.start()
    instance.behave("publisher", start="crash")
    pids = instance.pids()
    os.kill(instance.slot("publisher")["pid"], signal.SIGKILL)
    assert instance.wait() == 70
    assert "every slot of publisher is parked: exit code 70: RuntimeError: told to crash" in instance.log()
    assert not any(alive(pid) for pid in pids)


def test_settings_refused_later_are_not_tried_again(instance: Instance) -> None:
    instance.start()
    instance.behave("frontend-1", start="refuse")
    os.kill(instance.slot("frontend", 1)["pid"], signal.SIGKILL)
    parked = wait_for(
        lambda: one if (one := instance.slot("frontend", 1))["state"] == "PARKED" else None, "parked"
    )
    assert parked["restarts"] == 1
    assert parked["last_exit"] == "exit code 78: told to refuse"


def test_a_hung_process_leaves_its_stacks_and_is_replaced(instance: Instance) -> None:
    instance.settings["frontend"]["count"] = 1
    instance.start()
    victim = instance.slot("frontend")["pid"]
    with socket.create_connection(("127.0.0.1", instance.ingest_port), 5) as sock:
        sock.sendall(b"GET /freeze HTTP/1.1\r\n\r\n")
        wait_for(lambda: instance.slot("frontend")["pid"] not in {victim, None}, "replaced")
    wait_for(lambda: instance.slot("frontend")["state"] == "READY", "ready")
    assert instance.slot("frontend")["last_exit"] == "signal SIGABRT: has been silent for 2 s"
    assert "time.sleep" in instance.log() or "in serve" in instance.log(), "the stack says where it hung"
    assert instance.metric("headgate_slot_aborts_total", role="frontend") == 1


def test_a_stopped_process_cannot_even_abort_and_is_killed(instance: Instance) -> None:
    instance.start()
    victim = instance.slot("publisher")["pid"]
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: instance.slot("publisher")["pid"] not in {victim, None}, "replaced")
    assert instance.slot("publisher")["last_exit"] == "signal SIGKILL: has been silent for 2 s"


def test_a_process_that_never_gets_ready_is_ended_and_tried_again(instance: Instance) -> None:
    instance.settings["supervisor"]["start_timeout_s"] = 0.8
    instance.behave("publisher", start="never")
    instance.start(wait=False)
    wait_for(
        lambda: "publisher/0 crashed (signal SIGABRT: was not ready within 0.8 s)" in instance.log(),
        "given up",
    )
    instance.behave("publisher")
    wait_for(instance.is_ready, "ready at the next try")


def test_a_scrape_does_not_wait_for_a_hung_process(instance: Instance) -> None:
    instance.settings["supervisor"]["beat_timeout_s"] = 60.0
    instance.start()
    victim = instance.slot("publisher")["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:
        assert instance.metric("headgate_ready") == 1
        assert instance.metric("headgate_process_cpu_seconds_total", role="frontend") > 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)
