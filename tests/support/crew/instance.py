"""A supervisor with dummy workers, run as a process and looked at from outside, as an operator would."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from daemon.supervisor.client import Client

T = TypeVar("T")

DEADLINE_S = 20.0

#: Short, so that tests of what takes time don't.
QUICK: dict[str, dict[str, Any]] = {
    "server": {"drain_window_s": 0.1, "drain_limit_s": 1.5},
    "supervisor": {"beat_timeout_s": 2.0, "abort_grace_s": 0.5, "start_timeout_s": 10.0},
    "frontend": {"count": 2},
    "observe": {"log_format": "json"},
}


def free_ports(count: int) -> list[int]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def wait_for(what: Callable[[], T | None], why: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll until `what()` is true; gives its value."""
    end = time.monotonic() + deadline_s
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not in {deadline_s:g} s: {why}")
        time.sleep(0.02)


class Instance:
    """One instance on free ports, with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ingest_port, self.admin_port = free_ports(2)
        self.settings: dict[str, Any] = {
            "data_dir": str(folder),
            **{name: dict(section) for name, section in QUICK.items()},
        }
        self.settings["server"] |= {"ingest_port": self.ingest_port, "admin_port": self.admin_port}
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client(folder / "run")

    # --- life

    def start(self, environ: Mapping[str, str] = {}, *, wait: bool = True) -> Instance:
        self.write()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.crew.run", str(self.folder / "settings.json")],
                stdout=log,
                stderr=log,
                env={**os.environ, **environ},
                start_new_session=True,
            )
        if wait:
            wait_for(self.is_ready, "ready")
        return self

    def write(self, text: str | None = None) -> None:
        """Put the settings (or `text`) where the next start or reload reads them."""
        (self.folder / "settings.json").write_text(json.dumps(self.settings) if text is None else text)

    def behave(self, who: str, **orders: Any) -> None:
        """Tell the processes of a role or slot (`frontend`, `frontend-1`) that start from now on how to behave."""
        (self.folder / f"{who}.json").write_text(json.dumps(orders))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        assert self.process is not None
        return self.process.wait(deadline_s)

    def end(self) -> None:
        """However it stands: nothing is left over."""
        children = self.pids() if self.process is not None and self.process.poll() is None else set()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in children:
            wait_gone(pid)

    # --- looks

    def ask(self, path: str, port: int | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def slots(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask("/slots")[1])["slots"]
        return found

    def slot(self, role: str, slot: int = 0) -> dict[str, Any]:
        return next(one for one in self.slots() if (one["role"], one["slot"]) == (role, slot))

    def pids(self) -> set[int]:
        """All processes whose parent is the supervisor."""
        found = set()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        return found

    def frontend(self) -> dict[str, Any]:
        """What some frontend says of itself."""
        status, body = self.ask("/", self.ingest_port)
        assert status == 200
        about: dict[str, Any] = json.loads(body)
        return about

    def diary(self) -> list[str]:
        """What the dummies did, in order."""
        file = self.folder / "diary"
        return file.read_text().splitlines() if file.exists() else []

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with those labels."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        total = 0.0
        for line in self.ask("/metrics")[1].decode().splitlines():
            head, _, value = line.rpartition(" ")
            found, _, rest = head.partition("{")
            if found == name and wanted <= set(rest.rstrip("}").split(",")):
                total += float(value)
        return total


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_gone(pid: int, deadline_s: float = DEADLINE_S) -> None:
    wait_for(lambda: not alive(pid), f"process {pid} is gone", deadline_s)
