"""An instance from start to end: order, signals, exit codes, what is left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import NotFound, Unavailable, UsageError
from tests.support.crew.instance import Instance, alive, wait_for, wait_gone


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    yield made
    made.end()


def roles(diary: list[str], what: str) -> list[str]:
    return [line.split()[1].split("/")[0] for line in diary if line.startswith(what + " ")]


def test_roles_start_upwards_and_end_downwards(instance: Instance) -> None:
    instance.start()
    assert roles(instance.diary(), "ready") == ["embedded", "publisher", "frontend", "frontend"]
    assert instance.diary()[4:] == ["announced"]
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert roles(instance.diary(), "drained") == ["frontend", "frontend", "publisher", "embedded"]


def test_slots_and_setup_are_as_documented(instance: Instance) -> None:
    instance.start()
    document = json.loads(instance.ask("/slots")[1])
    assert document["supervisor"] == instance.pid
    assert [(one["role"], one["slot"], one["state"]) for one in document["slots"]] == [
        ("embedded", 0, "READY"),
        ("publisher", 0, "READY"),
        ("frontend", 0, "READY"),
        ("frontend", 1, "READY"),
    ]
    assert {one["pid"] for one in document["slots"]} == instance.pids()
    for one in document["slots"]:
        assert set(one) == {"role", "slot", "pid", "state", "restarts", "queue", "beat_age_s", "last_exit"}
        assert (one["restarts"], one["queue"], one["last_exit"]) == (0, 5, None)
        assert 0 <= one["beat_age_s"] < 2
    assert document == instance.client.slots() | {"slots": document["slots"]}
    about = instance.frontend()
    assert about["counts"] == {"embedded": 1, "publisher": 1, "frontend": 2}
    assert about["queue_paths"] == [str(instance.folder / "run" / "publisher-0.sock")]
    assert about["dsn"] == "postgresql://embedded", "the embedded servers' addresses are filled in"


def test_readyz_is_false_as_soon_as_the_end_begins_and_tells_why(instance: Instance) -> None:
    instance.behave("frontend", drain_s=1.0)
    instance.start()
    instance.signal(signal.SIGTERM)
    _, body = wait_for(
        lambda: found if (found := instance.ask("/readyz"))[0] == 503 else None, "not ready", 0.5
    )
    assert json.loads(body) == {"ready": False, "reasons": ["shutting down"]}
    assert instance.ask("/livez")[0] == 200
    assert instance.wait() == 0


def test_readyz_tells_what_the_frontends_say(instance: Instance) -> None:
    instance.behave("frontend", serving=False)
    instance.start(wait=False)
    wait_for(lambda: "announced" in instance.diary(), "started")
    status, body = instance.ask("/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["frontend/0: told not to serve", "frontend/1: told not to serve"]


def test_readyz_tells_what_the_publishers_say(instance: Instance) -> None:
    """Frontends don't know of a full disk: the publisher does, and no event gets a 2xx then."""
    instance.behave("publisher", serving=False)
    instance.start(wait=False)
    wait_for(lambda: "announced" in instance.diary(), "started")
    status, body = instance.ask("/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["publisher/0: told not to serve"]


def test_a_second_term_within_a_second_is_the_same_one(instance: Instance) -> None:
    instance.behave("frontend", drain_s=0.5)
    instance.start()
    instance.signal(signal.SIGTERM)
    instance.signal(signal.SIGINT)
    assert instance.wait() == 0
    assert roles(instance.diary(), "drained").count("frontend") == 2


def test_a_later_second_term_stops_now(instance: Instance) -> None:
    instance.settings["server"]["drain_limit_s"] = 60.0
    instance.behave("frontend", drain_s=60.0)
    instance.start()
    pids = instance.pids()
    instance.signal(signal.SIGTERM)
    wait_for(lambda: roles(instance.diary(), "draining") == ["frontend"] * 2, "drain begins")

    def again() -> bool:
        """The signal counts from one second after the first on."""
        with contextlib.suppress(ProcessLookupError):
            instance.signal(signal.SIGTERM)
        assert instance.process is not None
        return instance.process.poll() is not None

    wait_for(again, "stopped")
    assert instance.wait() == 0
    assert "frontend" not in roles(instance.diary(), "drained")
    assert not any(alive(pid) for pid in pids)


def test_who_does_not_drain_in_time_is_ended(instance: Instance) -> None:
    instance.settings["server"]["drain_limit_s"] = 0.3
    instance.behave("frontend-0", deaf=True)
    instance.behave("frontend-1", drain_s=60)
    instance.start()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert "has not drained in time" in instance.log()
    assert "Fatal Python error: Aborted" in instance.log(), "a hung process leaves its stacks"
    assert roles(instance.diary(), "drained") == ["publisher", "embedded"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_everybody_drains_like_one_to_the_supervisor(
    instance: Instance, number: signal.Signals
) -> None:
    """Ctrl-C and `kill -TERM -PGID`; also when somebody signals each child by hand."""
    instance.behave("frontend", drain_s=0.3)
    instance.start()
    for pid in instance.pids():
        os.kill(pid, number)
    os.killpg(instance.pid, number)
    assert instance.wait() == 0
    assert roles(instance.diary(), "drained") == ["frontend", "frontend", "publisher", "embedded"]


def test_no_child_outlives_a_killed_supervisor(instance: Instance) -> None:
    """
    They drain when the control channel ends. Of those that hang, one is ended by its own thread, the other,
    whose interpreter is seized, by the kernel's timer.
    """
    instance.settings["server"]["drain_limit_s"] = 1.0
    instance.settings["frontend"]["count"] = 1
    instance.behave("publisher", deaf=True)
    instance.start()
    wait_for(lambda: instance.slot("frontend")["beat_age_s"] < 0.5, "beats wind the timer up")
    with socket.create_connection(("127.0.0.1", instance.ingest_port), 5) as hung:
        pids = instance.pids()
        hung.sendall(b"GET /seize HTTP/1.1\r\n\r\n")
        instance.signal(signal.SIGKILL)
        instance.wait()
        for pid in pids:
            wait_gone(pid)
    assert roles(instance.diary(), "drained") == ["embedded"]
    assert "the supervisor is gone and this process hangs" in instance.log()
    instance.start()


def test_a_new_instance_waits_for_what_a_killed_one_left(instance: Instance) -> None:
    instance.behave("frontend", drain_s=0.7)
    instance.settings["server"]["drain_window_s"] = 0.7
    instance.start()
    instance.signal(signal.SIGKILL)
    instance.wait()
    instance.start()
    assert "of an instance that was killed" in instance.log()
    assert instance.frontend()["pid"] in {one["pid"] for one in instance.slots()}


def test_systemd_hears_everything_and_children_cannot_speak_to_it(instance: Instance) -> None:
    name = str(instance.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(10)

        def heard(start: str) -> str:
            while True:
                message = manager.recv(4096).decode()
                if message.startswith(start):
                    return message

        instance.start(
            {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000", "HEADGATE_REDIS__URL": "redis://secret"}
        )
        assert "STATUS=4 of 4 slots ready" in heard("READY=1")
        heard("WATCHDOG=1")
        for pid in instance.pids():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ
            assert b"redis://secret" not in environ
        instance.write("{}x")
        instance.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in heard("RELOADING=1")
        assert "STATUS=reload" in heard("READY=1")
        instance.signal(signal.SIGTERM)
        assert "STATUS=ending: SIGTERM" in heard("STOPPING=1")
        assert instance.wait() == 0


def test_the_watchdog_is_not_fed_while_the_supervisor_is_frozen(instance: Instance) -> None:
    """And when it goes on, the children are not taken for silent: it was the supervisor that did not listen."""
    name = str(instance.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(10)
        instance.start({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
        pids = instance.pids()
        instance.signal(signal.SIGSTOP)
        manager.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while manager.recv(4096):
                pass
        # Frozen for longer than the children's beats may be missing.
        frozen_until = time.monotonic() + 5.5
        wait_for(lambda: time.monotonic() > frozen_until, "time")
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        instance.signal(signal.SIGCONT)
        wait_for(lambda: "nobody's silence counts" in instance.log(), "it noticed")
        wait_for(lambda: instance.slot("frontend")["beat_age_s"] < 1.5, "beats are heard again")
        assert instance.pids() == pids


def test_a_port_in_use_ends_the_start_with_69(instance: Instance, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", instance.ingest_port)):
        instance.start(wait=False)
        assert instance.wait() == 69
    assert f"is in use by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})" in instance.log()


def test_a_second_instance_on_the_same_folder_ends_with_73(instance: Instance) -> None:
    instance.start()
    second = Instance(instance.folder)
    second.start(wait=False)
    assert second.wait() == 73
    assert instance.frontend(), "the first one is not disturbed"


def test_bad_settings_at_the_start_end_with_78(instance: Instance) -> None:
    instance.behave("publisher", start="refuse")
    instance.start(wait=False)
    assert instance.wait() == 78
    assert "publisher/0 refused the settings: exit code 78: told to refuse" in instance.log()
    assert roles(instance.diary(), "drained") == ["embedded"], "and what runs already is ended in order"


def test_commands_without_an_instance_say_so(instance: Instance) -> None:
    with pytest.raises(Unavailable, match="headgate run"):
        instance.client.slots()


def test_commands_that_do_not_fit_say_what_would(instance: Instance) -> None:
    instance.start()
    with pytest.raises(UsageError, match="frontend/1 is READY, not PARKED"):
        instance.client.unpark("frontend", 1)
    with pytest.raises(NotFound, match="it has 2, counted from 0"):
        instance.client.unpark("frontend", 2)
    with pytest.raises(NotFound, match="there are embedded, publisher, frontend"):
        instance.client.unpark("processor", 0)
    with pytest.raises(UsageError, match="debug, info, warning, error"):
        instance.client.set_log("loud")
    assert instance.client.set_log("debug") == "logging from debug on"
    mode = (instance.folder / "run" / "control.sock").stat().st_mode & 0o777
    assert mode == 0o600
