"""What the settings ask of this machine: the data folder and its disk, ports, the limit of open files."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import socket
from pathlib import Path

from daemon.adapters.embedded.session import holder
from daemon.adapters.probes.finding import Finding
from daemon.config.schema import Settings

#: Free space below which a day of events may not fit.
FREE_BYTES_LOW = 1024**3

#: Descriptors of a frontend beside its connections: log, stores, queues, libraries.
FILES_SPARE = 256

#: An admin port on this machine that does not answer within this is not a running instance's.
ADMIN_TIMEOUT_S = 2.0


def instance_pid(data_dir: Path) -> int:
    """The pid of the instance that runs on `data_dir`; 0 when none does. Takes no lock, not even for a moment."""
    try:
        inode = (data_dir / "lock").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    pid, is_command = holder(data_dir)
    # `1: FLOCK  ADVISORY  WRITE 4711 fe:01:123456 0 EOF` (proc(5))
    held = any(
        fields[1] == "FLOCK" and fields[4] == str(pid) and fields[5].rpartition(":")[2] == str(inode)
        for fields in (line.split() for line in locks)
        if len(fields) > 5
    )
    return pid if held and not is_command else 0


def data_folder(settings: Settings) -> list[Finding]:
    """Can it be written, and is there room?"""
    folder = Path(settings.data_dir)
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        who = f"user {os.geteuid()}"
        return [
            Finding(
                "data folder",
                "failed",
                f"{there} can't be written by {who}",
                f"chown it to {who}, or set data_dir (HEADGATE_DATA_DIR) to another folder",
            )
        ]
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / 1024**3:.1f} GiB free" + ("" if there == folder else ", will be made")
    if free <= settings.log.headroom_bytes:
        return [
            Finding(
                "data folder",
                "failed",
                f"{text}: below log.headroom_bytes ({settings.log.headroom_bytes / 1024**2:.0f} MiB)",
                "make room: events are answered 503 until then",
            )
        ]
    if free < FREE_BYTES_LOW:
        return [Finding("data folder", "warning", text, "make room: the log grows with every event")]
    return [Finding("data folder", "ok", text)]


def ports(settings: Settings, instance: int) -> list[Finding]:
    """Are the ports free, or ours already? `instance` is the pid of our running instance, or 0."""
    server = settings.server
    answers = instance != 0 and _answers(server.admin_host, server.admin_port, instance)
    return [
        _port("ingest port", server.host, server.ingest_port, "HEADGATE_INGEST_PORT", instance, answers),
        _port("admin port", server.admin_host, server.admin_port, "HEADGATE_ADMIN_PORT", instance, answers),
    ]


def _answers(host: str, port: int, instance: int) -> bool:
    """Whether it is the running instance that speaks on the admin port."""
    # An address for all interfaces is reached over loopback by connecting to it; http.client wants no brackets.
    connection = http.client.HTTPConnection(host or "localhost", port, timeout=ADMIN_TIMEOUT_S)
    try:
        connection.request("GET", "/slots")
        return bool(json.loads(connection.getresponse().read()).get("supervisor") == instance)
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _port(subject: str, host: str, port: int, variable: str, instance: int, answers: bool) -> Finding:
    from daemon.supervisor.sockets import port_owner

    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        return Finding(
            subject, "failed", f"{host} is no address: {error}", "correct server.host or server.admin_host"
        )
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the supervisor binds it: what only waits for its end does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except PermissionError:
            return Finding(
                subject,
                "failed",
                f"this user may not listen on {where}",
                f"take a port from 1024 on ({variable}), or give the service CAP_NET_BIND_SERVICE",
            )
        except OSError as error:
            owner = port_owner(port)
            # Who holds a port can't be seen through a service's sandbox; then the instance's word has to do.
            if instance and (owner.pid == instance if owner is not None else answers):
                return Finding(subject, "ok", f"{where}, held by the running instance")
            taken = (
                f"{where} is taken by {owner.name} (pid {owner.pid})"
                if owner is not None
                else f"{where} can't be listened on: {error.strerror}"
            )
            return Finding(subject, "failed", taken, f"stop that, or set {variable} to a free port")
    return Finding(subject, "ok", f"{where} is free")


def limits(settings: Settings) -> list[Finding]:
    """May a process open as many files as it is to hold connections?"""
    count = settings.frontend.count or len(os.sched_getaffinity(0))
    needed = -(-settings.server.connections_max // count) + FILES_SPARE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        return [
            Finding(
                "open files",
                "warning",
                f"a process may open {hard} files, and a frontend's share of the connections needs {needed}",
                "raise it (ulimit -Hn, LimitNOFILE=), or lower server.connections_max",
            )
        ]
    return []
