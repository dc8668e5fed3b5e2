from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.supervisor.systemd import STATUS_CHARS_MAX, Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and its name as systemd writes it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@headgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name[0] == "@" else name)
        sock.settimeout(5)
        yield name, sock


def test_each_message_is_one_datagram_of_lines(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.active
    notifier.ready("3 of 3 slots ready")
    assert sock.recv(4096) == b"READY=1\nSTATUS=3 of 3 slots ready\nERRNO=0"
    notifier.reloading()
    lines = dict(line.split("=", 1) for line in sock.recv(4096).decode().split("\n"))
    assert lines["RELOADING"] == "1"
    assert int(lines["MONOTONIC_USEC"]) > 0
    notifier.ready("reload refused:\nkafka.brokers\nREADY=0", 22)
    assert sock.recv(4096) == b"READY=1\nSTATUS=reload refused: kafka.brokers READY=0\nERRNO=22"
    notifier.alive()
    assert sock.recv(4096) == b"WATCHDOG=1"
    notifier.stopping("ending: SIGTERM")
    assert sock.recv(4096) == b"STOPPING=1\nSTATUS=ending: SIGTERM"
    notifier.close()


def test_a_status_that_did_not_change_is_not_sent_again(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for text in ("a", "a", "b" * 1000):
        notifier.status(text)
    assert sock.recv(4096) == b"STATUS=a"
    assert sock.recv(4096) == b"STATUS=" + b"b" * STATUS_CHARS_MAX
    notifier.close()


def test_the_variables_are_taken_so_that_no_child_speaks_for_us(manager: tuple[str, socket.socket]) -> None:
    name, _ = manager
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    notifier = Notifier(environ, pid=7)
    assert environ == {"PATH": "/bin"}
    assert notifier.watchdog_s == 15.0
    notifier.close()


@pytest.mark.parametrize(
    "variables",
    [{"WATCHDOG_PID": "8", "WATCHDOG_USEC": "30000000"}, {"WATCHDOG_USEC": "soon"}, {}],
)
def test_no_watchdog_unless_it_is_meant_for_us(
    manager: tuple[str, socket.socket], variables: dict[str, str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[0], **variables}, pid=7)
    assert notifier.watchdog_s == 0.0
    notifier.close()


@pytest.mark.parametrize("address", ["", "tcp:1", "/nowhere/at/all"])
def test_without_a_manager_nothing_fails(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready("fine")
    notifier.alive()
    assert notifier.active == address.startswith("/")
    notifier.close()


def test_what_the_manager_waits_for_is_said_again_when_its_queue_was_full(tmp_path: Path) -> None:
    """A queue of ten datagrams is soon full of signs of life; a lost READY would hang the start."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
        sock.settimeout(0)
        notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
        for _ in range(5000):
            notifier.alive()
        notifier.ready("1 of 1")
        notifier.stopping("ending")
        heard: list[bytes] = []

        def empty() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(sock.recv(4096).partition(b"\n")[0])

        empty()
        assert set(heard) == {b"WATCHDOG=1"}
        assert len(heard) < 5000, "the queue was full"
        heard.clear()
        notifier.alive()
        empty()
        assert heard == [b"READY=1", b"STOPPING=1", b"WATCHDOG=1"]
        notifier.close()
