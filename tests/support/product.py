"""
Headgate as it is run: `headgate run` with a data folder, ports and settings of its own, looked at from outside.

    product = Product(folder, {"HEADGATE_FRONTEND__COUNT": "4"}).start()
    source = product.create_source(rate=100, burst=10)
    product.kill("frontend", 0)
    product.stop()                      # TERM, exit code 0, and nobody left over

Everything here goes over what is fixed for those who drive Headgate from outside: ports, signals, commands,
/slots, /metrics and credentials.json.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.support.wire import PATIENCE_S, Reply, Wire, request

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
HEADGATE = Path(sys.executable).with_name("headgate")

#: TERM when the test process ends, however it ends.
TIED = (sys.executable, "-I", "-S", str(ROOT / "bench/exec_tied.py"))

#: The first start makes a database; under load it takes its time.
START_S = 90.0
STOP_S = 40.0
COMMAND_S = 60.0

#: In the environment of every process of an instance, except those that clear theirs.
MARK = "E2E_INSTANCE"

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def until(what: Callable[[], T | None], why: str, deadline_s: float = PATIENCE_S, every_s: float = 0.02) -> T:
    """Poll until `what()` is true; give its value."""
    end = time.monotonic() + deadline_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not in {deadline_s:g} s: {why}"
        time.sleep(every_s)


def free_ports(count: int) -> list[int]:
    """Free ports of loopback; all are held until all are known, so that none comes twice."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@dataclass(frozen=True)
class Source:
    """A source and its keys."""

    id: str
    tenant: str
    pipeline_key: str
    secret_key: str

    @property
    def headers(self) -> dict[str, str]:
        """What its callers send."""
        return {"Authorization": f"Bearer {self.pipeline_key}", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Slot:
    """A line of /slots."""

    role: str
    slot: int
    pid: int | None
    state: str
    restarts: int
    queue: int | None
    beat_age_s: float | None
    last_exit: str | None


class Metrics:
    """An exposition, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [
            (name, dict(_LABEL.findall(labels)), float(value))
            for name, labels, value in _SAMPLE.findall(text)
        ]

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of all samples with this name and these labels."""
        return [
            value for found, has, value in self.samples if found == name and labels.items() <= has.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Their sum; there has to be one."""
        found = self.values(name, **labels)
        assert found, f"/metrics has no {name} {labels or ''}"
        return sum(found)

    @property
    def received(self) -> int:
        """Events that came in."""
        return int(self.sum("headgate_events_received_total"))

    @property
    def outcomes(self) -> dict[str, int]:
        """Events that ended, by outcome."""
        found: dict[str, int] = {}
        for name, labels, value in self.samples:
            if name == "headgate_events_total":
                found[labels["outcome"]] = found.get(labels["outcome"], 0) + int(value)
        return found

    @property
    def in_work(self) -> int:
        """Received and not ended: never below 0, and 0 at rest."""
        return self.received - sum(self.outcomes.values())


class Product:
    """One instance; `folder` has to have a short path. `environ` are its settings."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str] | None = None,
        *,
        config: Path | str = "config/dev.toml",
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log_path = folder / "run.log"
        self.ingest_port, self.admin_port, dashboard_port = free_ports(3)
        self.url = f"http://127.0.0.1:{self.ingest_port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self._mark = uuid.uuid4().hex
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        self.environ |= {
            MARK: self._mark,
            "HEADGATE_CONFIG": str(config),
            "HEADGATE_DATA_DIR": str(self.data),
            "HEADGATE_INGEST_PORT": str(self.ingest_port),
            "HEADGATE_ADMIN_PORT": str(self.admin_port),
            "HEADGATE_DASHBOARD_PORT": str(dashboard_port),
            "HEADGATE_OBSERVE__LOG_FORMAT": "json",
            **(environ or {}),
        }
        #: What `start` runs, and where; commands are run there as well.
        self.argv = [str(HEADGATE), "run"]
        self.headgate = HEADGATE
        self.cwd = ROOT
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    # --- life

    def start(self, *, wait: bool = True) -> Product:
        """Start it, and wait until /readyz is 200."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*TIED, str(os.getpid()), *self.argv],
                cwd=self.cwd,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, deadline_s: float = START_S) -> None:
        """Wait until a well-formed event can get a 2xx."""

        def ready() -> bool:
            assert self.running, f"headgate run ended with {self.process.returncode}:\n{self.log[-4000:]}"
            return self.readyz()[0] == 200

        until(ready, "ready", deadline_s)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def wait(self, deadline_s: float = STOP_S) -> int:
        """Wait for the supervisor's end; gives its exit code (negative: the signal)."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {deadline_s:g} s:\n{self.log[-4000:]}") from None

    def stop(self) -> None:
        """TERM; it has to end with 0 and leave nobody behind."""
        self.send(signal.SIGTERM)
        code = self.wait()
        left = self.processes()
        assert (code, left) == (0, {}), f"ended with {code}, left over {left}:\n{self.log[-4000:]}"

    def end(self) -> None:
        """Whatever state it is in: see that nothing of it runs. Fails where a running one does not end by itself."""
        try:
            if self.running:
                # A test may have left somebody frozen.
                for pid in self.processes():
                    _kill(pid, signal.SIGCONT)
                try:
                    self.conserved()
                finally:
                    self.stop()
        finally:
            for pid in self.processes():
                _kill(pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait()
        until(lambda: not self.processes(), "all of its processes gone")

    def processes(self) -> dict[int, str]:
        """Every process of this instance that lives, by pid, with its command line."""
        return dict(_processes(self._mark, str(self.folder)))

    # --- what it says

    @property
    def log(self) -> str:
        """What it has printed since its last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode("utf-8", "replace")

    def logged(self, level: str = "") -> list[dict[str, Any]]:
        """Its log lines (of one level), decoded."""
        found: list[dict[str, Any]] = []
        for line in self.log.splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if not level or entry["level"] == level:
                    found.append(entry)
        return found

    def readyz(self) -> tuple[int, list[str]]:
        """Status and reasons of /readyz; (0, …) when the admin port does not answer."""
        try:
            status, body = get(f"{self.admin}/readyz")
        except OSError as error:
            return 0, [str(error)]
        return status, json.loads(body)["reasons"]

    def slots(self) -> list[Slot]:
        """The lines of /slots."""
        return [Slot(**slot) for slot in json.loads(get(f"{self.admin}/slots")[1])["slots"]]

    def slot(self, role: str, number: int = 0) -> Slot:
        """One of them."""
        [found] = [slot for slot in self.slots() if (slot.role, slot.slot) == (role, number)]
        return found

    def pid(self, role: str, number: int = 0) -> int:
        """The process of a slot."""
        found = self.slot(role, number).pid
        assert found is not None, f"{role}/{number} has no process"
        return found

    def metrics(self) -> Metrics:
        """/metrics, now."""
        status, body = get(f"{self.admin}/metrics")
        assert status == 200, body
        return Metrics(body.decode())

    def conserved(self) -> None:
        """
        The law of conservation: at rest, received = accepted + duplicate + Σ refused by reason, whatever was done to it.

        Asked of every instance at the end of every test; there is nothing to ask where the admin port is gone.
        """
        try:
            alive = get(f"{self.admin}/livez")[0] == 200
        except OSError:
            return
        if alive:
            self.at_rest()

    def at_rest(self) -> Metrics:
        """/metrics once nothing is in work; the accounts have to balance then."""

        def balanced() -> Metrics | None:
            now = self.metrics()
            assert now.in_work >= 0, (
                f"{-now.in_work} events ended that never came: {now.received} {now.outcomes}"
            )
            return now if now.in_work == 0 else None

        return until(balanced, "the accounts balance", 15.0)

    def credentials(self) -> dict[str, Any]:
        """credentials.json."""
        found: dict[str, Any] = json.loads((self.data / "credentials.json").read_text())
        return found

    @property
    def demo(self) -> Source:
        """The demo source."""
        first = self.credentials()["sources"][0]
        return Source(first["id"], first["tenant"], first["pipeline_key"], first["secret_key"])

    # --- what is done to it

    def command(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `headgate <args>` with the settings of this instance; it has to end with `code`."""
        done = subprocess.run(
            [str(self.headgate), *args],
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        assert done.returncode == code, f"headgate {args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *args: str) -> Any:
        """What `headgate <args> --json` prints, decoded."""
        return json.loads(self.command(*args, "--json").stdout)

    def create_source(
        self,
        *,
        name: str = "",
        tenant: str = "e2e",
        origins: Iterable[str] = (),
        rate: float = 1_000_000,
        burst: int = 1_000_000,
        cookie_domain: str = "",
    ) -> Source:
        """A new source, by default without a limit that matters."""
        args = ["--tenant", tenant, "--name", name or uuid.uuid4().hex[:8], "--rate", str(rate)]
        args += ["--burst", str(burst)]
        for origin in origins:
            args += ["--origin", origin]
        if cookie_domain:
            args += ["--cookie-domain", cookie_domain]
        made = self.json("sources", "create", *args)
        return Source(made["id"], made["tenant"], made["pipeline_key"], made["secret_key"])

    def tail(self, *args: str) -> list[dict[str, Any]]:
        """The envelopes on the log, in the order that `headgate tail` gives them."""
        return [json.loads(line) for line in self.command("tail", *args).stdout.split("\n") if line]

    def message_ids(self) -> list[str]:
        """The messageIds on the log."""
        return [one["messageId"] for one in self.tail() if "messageId" in one]

    def kill(self, role: str, number: int = 0, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of a slot; gives its pid."""
        pid = self.pid(role, number)
        os.kill(pid, how)
        return pid

    def wait_slot(self, role: str, number: int, *, not_pid: int = 0, deadline_s: float = PATIENCE_S) -> Slot:
        """Wait until a slot is READY with another process than `not_pid`."""

        def back() -> Slot | None:
            slot = self.slot(role, number)
            return slot if slot.state == "READY" and slot.pid != not_pid else None

        return until(back, f"{role}/{number} READY", deadline_s)

    def servers(self) -> dict[str, int]:
        """The pids of the embedded servers: postgres (the one that started the others) and valkey."""
        found: dict[str, int] = {}
        for line in Path(f"/proc/{self.pid('embedded')}/task").iterdir():
            for child in (line / "children").read_text().split():
                name = Path(f"/proc/{child}/comm").read_text().strip()
                found["valkey" if name.startswith("valkey") else name] = int(child)
        return found

    # --- requests

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """One request on a connection of its own."""
        with Wire(self.ingest_port) as wire:
            wire.send(request(method, path, {"Connection": "close", **(headers or {})}, body))
            reply = wire.reply(method)
        assert reply is not None, f"{method} {path}: the connection was closed without an answer"
        return reply

    def post(self, letter: str, source: Source, event: Mapping[str, Any], **headers: str) -> Reply:
        """POST an event to /v1/<letter>; header names are given with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", f"/v1/{letter}", {**source.headers, **named}, json.dumps(event).encode())

    def track(self, source: Source, message_id: str = "") -> str:
        """Send one event that has to be accepted; gives its messageId."""
        message_id = message_id or str(uuid.uuid4())
        reply = self.post("t", source, {"type": "track", "event": "Seen", "messageId": message_id})
        assert (reply.status, reply.json()) == (200, {"success": True}), reply
        return message_id


class NewProduct(Protocol):
    """Makes an instance that is not started yet; keywords are its settings in the environment."""

    def __call__(self, *, config: Path | str = ..., **environ: str) -> Product: ...


def get(url: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """Status and body of a GET, whatever the status. Raises OSError when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _processes(mark: str, folder: str) -> Iterable[tuple[int, str]]:
    """Processes that carry the mark, or (Postgres overwrites its environment) work in or name the folder."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            where = str((entry / "cwd").readlink())
            ours = (
                wanted in (entry / "environ").read_bytes().split(b"\0")
                or folder.encode() in command
                or Path(where).is_relative_to(folder)
            )
        except (OSError, ValueError):
            continue
        # A process that has ended and was not waited for yet has no command line.
        if ours and command and int(entry.name) != os.getpid():
            yield int(entry.name), command.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
