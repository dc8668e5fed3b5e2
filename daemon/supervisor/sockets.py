"""
The sockets that the supervisor owns and its children inherit.

* `Listeners`: the ingest port, one SO_REUSEPORT listener per frontend slot. The kernel spreads new
  connections over the listeners that are in the group, so each frontend has its own queue. The old and
  the new process of a slot share the slot's listener, which is why a roll loses nothing.
* `Queues`: one Unix socket per publisher slot, to which the frontends connect by path.

A listener whose process died leaves the group by `shutdown()`: new connections then go to the other
frontends instead of waiting for a process that may not come back. `listen()` brings it back. The last
one never leaves: without any listener the kernel would refuse connections, with one they wait.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from daemon.actors.control import CHILD_NAME
from daemon.errors import AlreadyRunning, SettingsError, Unavailable

log = logging.getLogger(__name__)

#: Seconds that the kernel keeps a connection without data to itself. A process that begins to drain then
#: holds no connection whose request is still on its way. Rounded up by the kernel to its SYN-ACK timer (3 s).
DEFER_ACCEPT_S = 2

#: sockaddr_un.sun_path holds 108 bytes, the last one a zero (unix(7)).
PATH_BYTES_MAX = 107

#: Frontends that may wait to be accepted by a publisher; each has one connection, two during a roll.
QUEUE_BACKLOG = 1024


#: What `ps` shows for the supervisor.
SUPERVISOR_NAME = "headgate"


class Listeners:
    """The listeners of the ingest port, by slot."""

    def __init__(self, host: str, port: int, backlog: int) -> None:
        self._host = host
        self._port = port
        self._backlog = backlog
        self._sockets: dict[int, socket.socket] = {}
        #: Slots that listen although their process is gone, so that connections can wait.
        self._held: set[int] = set()

    def open(self, slot: int) -> None:
        """
        Bind the listener of `slot`; the first one of all listens at once.

        Raises Unavailable when the port is taken, SettingsError when the address can't be used.
        """
        first = not self._sockets
        sock = _bind(self._host, self._port, exclusive=first, key="server.ingest_port")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[slot] = sock
        if first:
            # Nobody else gets the port from here on, and early connections wait for the first frontend.
            try:
                sock.listen(self._backlog)
            except OSError as error:
                raise _in_use(self._host, self._port, "server.ingest_port") from error
            self._held.add(slot)

    def fd(self, slot: int) -> int:
        """The file descriptor that the processes of `slot` inherit."""
        return self._sockets[slot].fileno()

    def listening(self, slot: int) -> bool:
        """Whether connections may be given to `slot`."""
        return slot in self._sockets and bool(
            self._sockets[slot].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )

    def serves(self, slot: int, starting: Container[int]) -> None:
        """The process of `slot` is ready. Held listeners of slots that are not `starting` can leave now."""
        self._held.discard(slot)
        self._sockets[slot].listen(self._backlog)
        for other in [held for held in self._held if held not in starting]:
            self._leave(other)

    def died(self, slot: int, *, others_serve: bool) -> None:
        """The process of `slot` is gone and may or may not come back."""
        if others_serve:
            self._leave(slot)
        else:
            self._held.add(slot)

    def retire(self, slot: int) -> None:
        """Take no more connections for `slot`, for good. Those that wait unaccepted are reset."""
        sock = self._sockets.get(slot)
        if sock is not None:
            self._leave(slot)

    def close(self, slot: int | None = None) -> None:
        """Close the listener of `slot`, or all of them."""
        for one in [slot] if slot is not None else list(self._sockets):
            self._held.discard(one)
            sock = self._sockets.pop(one, None)
            if sock is not None:
                sock.close()

    def _leave(self, slot: int) -> None:
        self._held.discard(slot)
        # Never twice: of a socket that does not listen any more, shutdown() is not only refused, it also leaves
        # a mark which every connection accepted after the next listen() inherits: they end as they begin.
        if self.listening(slot):
            self._sockets[slot].shutdown(socket.SHUT_RDWR)


class Queues:
    """The publishers' Unix sockets, by slot, in the run folder."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._sockets: dict[int, socket.socket] = {}

    def open(self, slot: int) -> None:
        """Make the socket of `slot` and listen. Raises SettingsError when its path can't be used."""
        self._sockets[slot] = unix_listener(self._path(slot), QUEUE_BACKLOG)

    def fd(self, slot: int) -> int:
        """The file descriptor that the processes of `slot` inherit."""
        return self._sockets[slot].fileno()

    def paths(self, count: int) -> list[str]:
        """The paths of the first `count` slots."""
        return [str(self._path(slot)) for slot in range(count)]

    def close(self, slot: int | None = None) -> None:
        """Close and remove the socket of `slot`, or all of them."""
        for one in [slot] if slot is not None else list(self._sockets):
            sock = self._sockets.pop(one, None)
            if sock is not None:
                sock.close()
                self._path(one).unlink(missing_ok=True)

    def _path(self, slot: int) -> Path:
        return self._run_dir / f"publisher-{slot}.sock"


def unix_listener(path: Path, backlog: int) -> socket.socket:
    """
    A listening Unix socket that only this user can connect to, in place of one left by a dead process.

    The caller must hold the run folder's lock. Raises SettingsError when the path is too long or the
    folder can't be written.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise SettingsError(
            f"{path} is longer than the {PATH_BYTES_MAX} bytes that a Unix socket's path may have; "
            "choose a data_dir with a shorter path",
            "data_dir",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise SettingsError(f"the socket {path} can't be made: {error.strerror}", "data_dir") from error
    return sock


def admin_listener(host: str, port: int) -> socket.socket:
    """The listener of the admin port. Raises like `Listeners.open`."""
    sock = _bind(host, port, exclusive=True, reuse=False, key="server.admin_port")
    try:
        sock.listen(64)
    except OSError as error:
        raise _in_use(host, port, "server.admin_port") from error
    return sock


def _bind(host: str, port: int, *, exclusive: bool, key: str, reuse: bool = True) -> socket.socket:
    """
    A TCP socket bound to `host` and `port`.

    With `exclusive` the bind fails when anybody listens there, even with SO_REUSEPORT: that option is
    set after the bind only, for without it two instances would silently share a port.
    """
    host_key = key.replace("ingest_port", "host").replace("admin_port", "admin_host")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(
            f"{host_key} = {host!r} is no address of this machine: {error}", host_key
        ) from error
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Connections of the last run that wait for their end must not block the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse and not exclusive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        if reuse and exclusive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _in_use(host, port, key) from error
        if error.errno == errno.EACCES:
            raise SettingsError(
                f"{key} = {port}: this user may not listen on it; take a port from 1024 on, "
                "or give the service CAP_NET_BIND_SERVICE",
                key,
            ) from error
        raise SettingsError(
            f"{host_key} = {host!r} can't be listened on: {error.strerror}", host_key
        ) from error
    return sock


def _in_use(host: str, port: int, key: str) -> Unavailable:
    owner = port_owner(port)
    by = f" by {owner.name} (pid {owner.pid})" if owner else ""
    return Unavailable(
        f"port {port} on {host} is in use{by}; "
        f"stop that, or set {key} (HEADGATE_{key.split('.', 1)[1].upper()}) to a free port"
    )


class Owner(NamedTuple):
    """Who listens on a port; `orphan`: one of our children whose supervisor is gone, so it is about to end."""

    name: str
    pid: int
    orphan: bool


def port_owner(port: int) -> Owner | None:
    """Who listens on TCP `port`, or None when that is not to be seen."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            # Local address as hex host:port, state 0A is LISTEN, field 9 is the inode (proc(5)).
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        try:
            if any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
                return _owner(process)
        except OSError:
            continue
    return None


def _owner(process: Path) -> Owner:
    name = (process / "comm").read_text().strip()
    orphan = False
    if name.startswith(CHILD_NAME):
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        orphan = (Path("/proc") / parent / "comm").read_text().strip() != SUPERVISOR_NAME
    return Owner(name, int(process.name), orphan)


#: Holds a port, but can't be seen: a process in the middle of its end, or one of another user.
UNSEEN = Owner("a process that can't be seen", 0, orphan=False)


def held_by_orphan(host: str, port: int) -> Owner | None:
    """
    Whose hands the port is in, if it is one that may be about to let go.

    That is a child of a supervisor that was killed, or UNSEEN: a dying process has no descriptors to be seen
    by any more while the kernel still closes its sockets.
    """
    try:
        _bind(host, port, exclusive=True, key="server.ingest_port").close()
    except Unavailable:
        owner = port_owner(port) or UNSEEN
        return owner if owner.orphan or owner is UNSEEN else None
    return None


def lock_run_dir(run_dir: Path) -> int:
    """
    Hold `run_dir` for this process; gives the descriptor to keep open. Raises AlreadyRunning.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """
    import fcntl

    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run_dir / "supervisor.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(fd, 20).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(
            f"another instance{f' (pid {holder})' if holder else ''} runs on this data folder; "
            "stop it, or set data_dir (HEADGATE_DATA_DIR) to another folder"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
