"""The listeners' promises are the kernel's to keep, so they are tried on real sockets."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import AlreadyRunning, SettingsError, Unavailable
from daemon.supervisor.sockets import (
    PATH_BYTES_MAX,
    UNSEEN,
    Listeners,
    Queues,
    admin_listener,
    held_by_orphan,
    lock_run_dir,
    port_owner,
    unix_listener,
)


@pytest.fixture
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def listeners(port: int) -> Iterator[Listeners]:
    made = Listeners("127.0.0.1", port, 128)
    yield made
    made.close()


class Group:
    """Connects and says which listeners got the connections."""

    def __init__(self, listeners: Listeners, port: int) -> None:
        self.listeners = listeners
        self.port = port

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 5)
        sock.sendall(b"x")  # the kernel defers the accept until there is data
        return sock

    def accept(self, slots: list[int]) -> int:
        """Accept one connection on whichever of `slots` has it; gives the slot."""
        waiting = {self.listeners.fd(slot): slot for slot in slots}
        ready, _, _ = select.select(list(waiting), [], [], 5)
        sock = socket.socket(fileno=os.dup(ready[0]))
        with sock, sock.accept()[0] as connection:
            assert connection.recv(1) == b"x"
        return waiting[ready[0]]

    def spread(self, slots: list[int], tries: int = 40) -> set[int]:
        found = set()
        for _ in range(tries):
            with self.connect():
                found.add(self.accept(slots))
        return found


def test_connections_spread_over_the_slots_that_serve(listeners: Listeners, port: int) -> None:
    for slot in range(3):
        listeners.open(slot)
    assert [listeners.listening(slot) for slot in range(3)] == [True, False, False]
    for slot in range(3):
        listeners.serves(slot, starting=())
    assert Group(listeners, port).spread([0, 1, 2]) == {0, 1, 2}


def test_a_dead_slot_leaves_the_group_and_comes_back(listeners: Listeners, port: int) -> None:
    group = Group(listeners, port)
    for slot in range(2):
        listeners.open(slot)
        listeners.serves(slot, starting=())
    listeners.died(1, others_serve=True)
    listeners.died(1, others_serve=True)
    assert not listeners.listening(1)
    assert group.spread([0]) == {0}
    listeners.serves(1, starting=())
    assert group.spread([0, 1]) == {0, 1}


def test_the_last_listener_holds_connections_until_somebody_serves(listeners: Listeners, port: int) -> None:
    group = Group(listeners, port)
    listeners.open(0)
    listeners.serves(0, starting=())
    listeners.died(0, others_serve=False)
    waiting = group.connect()
    listeners.serves(0, starting=())
    assert group.accept([0]) == 0
    waiting.close()


def test_a_held_listener_leaves_once_others_serve_unless_its_own_process_comes(
    listeners: Listeners, port: int
) -> None:
    for slot in range(2):
        listeners.open(slot)
    for slot in range(2):
        listeners.died(slot, others_serve=False)
    listeners.serves(1, starting={0})
    assert listeners.listening(0), "its process is on the way"
    listeners.died(0, others_serve=True)
    assert not listeners.listening(0)
    assert Group(listeners, port).spread([1]) == {1}


def test_a_retired_listener_refuses_at_once(listeners: Listeners, port: int) -> None:
    listeners.open(0)
    listeners.serves(0, starting=())
    listeners.retire(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_names_who_has_it_and_what_to_do(listeners: Listeners, port: int, shared: bool) -> None:
    """Also when the other one would share it: two instances must not split the traffic between them."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Unavailable) as refused:
            listeners.open(0)
        text = str(refused.value)
        assert f"port {port} on 127.0.0.1 is in use by " in text
        assert f"(pid {os.getpid()})" in text
        assert "HEADGATE_INGEST_PORT" in text
        with pytest.raises(Unavailable, match="HEADGATE_ADMIN_PORT"):
            admin_listener("127.0.0.1", port)
    assert port_owner(port) is None


def test_a_port_whose_holder_is_not_to_be_seen_is_waited_for(port: int) -> None:
    """A dying process has no descriptors left to be seen by while the kernel still closes its sockets."""
    with socket.socket() as dying:
        dying.bind(("127.0.0.1", port))
        assert held_by_orphan("127.0.0.1", port) is UNSEEN
        dying.listen()
        assert held_by_orphan("127.0.0.1", port) is None, "somebody's who stays"
    assert held_by_orphan("127.0.0.1", port) is None, "free"


def test_an_address_of_another_machine_is_a_bad_setting(port: int) -> None:
    with pytest.raises(SettingsError) as refused:
        Listeners("192.0.2.1", port, 128).open(0)
    assert refused.value.key == "server.host"
    with pytest.raises(SettingsError) as refused:
        admin_listener("no.such.host.invalid", port)
    assert refused.value.key == "server.admin_host"


def test_queues_are_this_users_alone_and_replace_what_the_dead_left(tmp_path: Path) -> None:
    queues = Queues(tmp_path)
    (path,) = queues.paths(1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    queues.open(0)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    queues.close()
    assert not Path(path).exists()


def test_a_path_that_is_too_long_is_a_bad_setting(tmp_path: Path) -> None:
    long = tmp_path / ("x" * PATH_BYTES_MAX)
    with pytest.raises(SettingsError, match="107 bytes") as refused:
        unix_listener(long, 1)
    assert refused.value.key == "data_dir"


def test_one_run_folder_has_one_supervisor(tmp_path: Path) -> None:
    held = lock_run_dir(tmp_path)
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}\)"):
        lock_run_dir(tmp_path)
    os.close(held)
    os.close(lock_run_dir(tmp_path))
