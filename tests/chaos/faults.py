"""
How each fault is done, undone, and when it is over.

A fault is played in a thread of its own: done, held for its length, undone, then waited for until everything it
concerned works again. What it found out on its way goes into `Played.notes`; what must not be, into `Played.failed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import psutil

from tests.chaos.schedule import Fault
from tests.chaos.stage import PATIENCE_S, Stage
from tests.fixtures.loops import run
from tests.support.product import until

#: Issue: with the disk full, 503 within the deadline (frontend.answer_timeout_s, and a second for the way there and back).
FULL_ANSWER_S = 5.0
#: What is overwritten of a file of the local log: its first page, without which SQLite knows nothing of the others.
HEAD_BYTES = 4096
#: Issue: space back, normal within so long.
BACK_S = 5.0


@dataclass
class Played:
    """A fault as it came about. Times are monotonic seconds; 0.0: not there yet."""

    fault: Fault
    began_at: float = 0.0
    ended_at: float = 0.0
    recovered_at: float = 0.0
    what: str = ""
    notes: list[str] = field(default_factory=list)
    failed: str = ""


Play = Callable[[Stage, Fault, Played], None]


def play(stage: Stage, fault: Fault) -> Played:
    """Play `fault`; an exception is a failure of the product's (or of the stage's), told in `failed`."""
    played = Played(fault, began_at=time.monotonic())
    try:
        PLAYS[fault.kind](stage, fault, played)
    except Exception as error:  # noqa: BLE001  the run goes on, and the verdict tells
        played.failed = f"{type(error).__name__}: {str(error)[:500]}"
    played.recovered_at = time.monotonic()
    played.ended_at = played.ended_at or played.recovered_at
    return played


def _hold(fault: Fault, played: Played) -> None:
    """Wait until the fault's length is over, and note that it ends."""
    time.sleep(max(0.0, played.began_at + fault.seconds - time.monotonic()))
    played.ended_at = time.monotonic()


# --- processes


def _slot(stage: Stage, role: str, pick: int) -> tuple[int, int]:
    """One of the role's slots that has a process, and its pid."""

    def there() -> list[tuple[int, int]]:
        with contextlib.suppress(OSError):
            return [(slot.slot, slot.pid) for slot in stage.product.slots() if slot.role == role and slot.pid]
        return []

    found = until(there, f"a {role} that has a process", PATIENCE_S)
    return found[pick % len(found)]


def _kill(role: str) -> Play:
    def kill(stage: Stage, fault: Fault, played: Played) -> None:
        number, pid = _slot(stage, role, fault.pick)
        played.what = f"{role}/{number}, pid {pid}"
        os.kill(pid, signal.SIGKILL)
        played.ended_at = time.monotonic()
        _back(stage, role, number, pid)

    return kill


def _freeze(role: str) -> Play:
    def freeze(stage: Stage, fault: Fault, played: Played) -> None:
        number, pid = _slot(stage, role, fault.pick)
        played.what = f"{role}/{number}, pid {pid}"
        with _stopped(pid):
            _hold(fault, played)
        stage.ready()

    return freeze


def _hang(stage: Stage, fault: Fault, played: Played) -> None:
    number, pid = _slot(stage, "frontend", fault.pick)
    played.what = f"frontend/{number}, pid {pid}"
    os.kill(pid, signal.SIGSTOP)
    _back(stage, "frontend", number, pid)
    played.ended_at = time.monotonic()


def _back(stage: Stage, role: str, number: int, pid: int) -> None:
    """Until another process than `pid` works in the slot."""

    def back() -> bool:
        with contextlib.suppress(OSError):
            for slot in stage.product.slots():
                if (slot.role, slot.slot) == (role, number):
                    return slot.state == "READY" and slot.pid != pid
        return False

    until(back, f"{role}/{number} is back", PATIENCE_S)


def _freeze_supervisor(stage: Stage, fault: Fault, played: Played) -> None:
    pid = stage.product.process.pid
    played.what = f"pid {pid}"
    with _stopped(pid):
        _hold(fault, played)
    stage.ready()


def _kill_supervisor(stage: Stage, fault: Fault, played: Played) -> None:
    played.what = f"pid {stage.product.process.pid}"
    stage.product.send(signal.SIGKILL)
    _start_again(stage, fault, played)


def _kill_everything(stage: Stage, fault: Fault, played: Played) -> None:
    killed = stage.product.processes()
    played.what = f"{len(killed)} processes"
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _start_again(stage, fault, played)


def _start_again(stage: Stage, fault: Fault, played: Played) -> None:
    """As systemd does it: at once."""
    stage.product.wait()
    stage.product.start(wait=False)
    stage.product.wait_ready(PATIENCE_S)
    _hold(fault, played)
    stage.stores_up()
    stage.kafka_up()


@contextmanager
def _stopped(*pids: int) -> Iterator[None]:
    """Frozen with all their children."""
    everybody = [child.pid for pid in pids for child in _children(pid)] + list(pids)
    for pid in everybody:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[psutil.Process]:
    """Of a server; Headgate's own processes are frozen one by one."""
    try:
        process = psutil.Process(pid)
        return process.children(recursive=True) if process.name().startswith(("postgres", "valkey")) else []
    except psutil.Error:
        return []


# --- stores


def _server(stage: Stage, name: str) -> int:
    """The pid of an embedded server, once it is there."""

    def there() -> int:
        with contextlib.suppress(OSError, AssertionError, KeyError):
            return stage.product.servers()[name]
        return 0

    return until(there, f"{name} runs", PATIENCE_S)


def _kill_server(name: str) -> Play:
    def kill(stage: Stage, fault: Fault, played: Played) -> None:
        pid = _server(stage, name)
        embedded = stage.product.pid("embedded")
        played.what = f"pid {pid}"
        os.kill(pid, signal.SIGKILL)
        played.ended_at = time.monotonic()
        _back(stage, "embedded", 0, embedded)
        stage.stores_up()
        del fault

    return kill


def _freeze_server(name: str) -> Play:
    def freeze(stage: Stage, fault: Fault, played: Played) -> None:
        with _stopped(_server(stage, name)):
            _hold(fault, played)
        stage.stores_up()

    return freeze


def _empty_redis(stage: Stage, fault: Fault, played: Played) -> None:
    """All claims, limits, visitors and scripts, as after a restart without its file."""
    _server(stage, "valkey")
    running = json.loads((stage.product.data / "run.json").read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(unquote(urlsplit(running["redis_url"]).path))
        connection.sendall(b"FLUSHALL SYNC\r\nSCRIPT FLUSH SYNC\r\n")
        answer = b""
        while answer.count(b"\r\n") < 2:
            answer += connection.recv(256)
    played.notes.append(answer.decode().replace("\r\n", " ").strip())
    _hold(fault, played)


# --- replacing


def _roll(stage: Stage, fault: Fault, played: Played) -> None:
    steps = stage.product.command("restart", "--rolling").stdout.strip().splitlines()
    played.what = steps[-1] if steps else ""
    del fault


def _reload(stage: Stage, fault: Fault, played: Played) -> None:
    """Changed settings, by a signal."""
    before = _rolled(stage)
    stage.configure(fault.pick)
    stage.product.send(signal.SIGHUP)
    until(lambda: _rolled(stage) > before, "the reload is over", PATIENCE_S)
    del played


def _rolled(stage: Stage) -> float:
    metrics = stage.product.metrics()
    return metrics.sum("headgate_rolls_total", result="done") + metrics.sum(
        "headgate_rolls_total", result="failed"
    )


# --- Kafka and the disk


def _kafka_killed(stage: Stage, fault: Fault, played: Played) -> None:
    run(stage.kafka.kill())
    _hold(fault, played)
    run(stage.kafka.restart())
    stage.kafka_up()


def _kafka_stopped(stage: Stage, fault: Fault, played: Played) -> None:
    run(stage.kafka.stop())
    _hold(fault, played)
    run(stage.kafka.restart())
    stage.kafka_up()


def _kafka_frozen(stage: Stage, fault: Fault, played: Played) -> None:
    stage.kafka.pause()
    try:
        _hold(fault, played)
    finally:
        stage.kafka.resume()
    stage.kafka_up()


def _kafka_moved(stage: Stage, fault: Fault, played: Played) -> None:
    """It comes back under another address of those in the settings."""
    run(stage.kafka.kill())
    _hold(fault, played)
    port = stage.ports[1] if stage.kafka.port == stage.ports[0] else stage.ports[0]
    played.what = f"port {stage.kafka.port} → {port}"
    run(stage.kafka.restart(port=port))
    stage.kafka_up()


def _disk_full(stage: Stage, fault: Fault, played: Played) -> None:
    """Kafka frozen and no room beside it: 503 in time and /readyz red; with room again all is well soon."""
    product = stage.product
    event = {"type": "track", "event": "Probe"}
    stage.kafka.pause()
    try:
        stage.fill_disk()
        try:
            refused_s, retry_after = _until_refused(stage, event)
            until(lambda: _red_when_full(stage), "/readyz tells of it", PATIENCE_S)
            if refused_s > FULL_ANSWER_S:
                played.failed = f"a refusal took {refused_s:.1f} s"
            if retry_after < 1:
                played.failed = "a refusal had no Retry-After"
            _hold(fault, played)
        finally:
            stage.free_disk()
        freed_at = time.monotonic()
        until(lambda: product.post("t", product.demo, event).status == 200, "events are taken", PATIENCE_S)
        stage.ready()
        back_s = time.monotonic() - freed_at
        played.notes.append(f"503 after {refused_s:.2f} s; with room again all was well after {back_s:.2f} s")
        if back_s > BACK_S:
            played.failed = f"normal only {back_s:.1f} s after there was room again"
    finally:
        stage.kafka.resume()
    stage.kafka_up()


def _red_when_full(stage: Stage) -> bool:
    """Whether /readyz is 503. What the log gives back of its own (its WAL, emptied) is filled too, or it is not full."""
    stage.fill_disk()
    return stage.product.readyz()[0] == 503


def _until_refused(stage: Stage, event: dict[str, str]) -> tuple[float, int]:
    """Seconds that the first 503 took, and its Retry-After."""
    product = stage.product
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        stage.fill_disk()
        asked_at = time.monotonic()
        reply = product.post("t", product.demo, event)
        if reply.status == 503:
            return time.monotonic() - asked_at, int(reply.get("retry-after") or 0)
    raise AssertionError("with a full disk and without Kafka nothing was refused")


def _spool_spoiled(stage: Stage, fault: Fault, played: Played) -> None:
    """A bad block in the worst place of a publisher's file, while events lie there that are nowhere else."""
    stage.kafka.pause()
    try:
        number, pid = _slot(stage, "publisher", fault.pick)
        path = stage.log_folder / f"publisher-{number}.db"

        def waiting() -> int:
            status = stage.product.json("spool", "status")
            return sum(one["records"] for one in status["slots"] if one["slot"] == number)

        spooled = until(waiting, "events in the spool", PATIENCE_S, every_s=0.2)
        # Else the write-ahead log has all of a small file, and SQLite would mend it by that.
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.kill(pid, signal.SIGKILL)
        with path.open("r+b") as file:
            file.write(os.urandom(HEAD_BYTES))
        played.what = f"{path.name}, {spooled} records"
        _back(stage, "publisher", number, pid)
        _hold(fault, played)
    finally:
        stage.kafka.resume()
    stage.kafka_up()
    found = next(one for one in stage.product.json("spool", "status")["slots"] if one["slot"] == number)
    played.notes.append(f"{len(found['corrupt'])} corrupt files of this slot so far")


PLAYS: dict[str, Play] = {
    "kill frontend": _kill("frontend"),
    "kill publisher": _kill("publisher"),
    "kill processor": _kill("processor"),
    "kill postgres": _kill_server("postgres"),
    "kill redis": _kill_server("valkey"),
    "kill supervisor": _kill_supervisor,
    "kill everything": _kill_everything,
    "freeze frontend": _freeze("frontend"),
    "freeze publisher": _freeze("publisher"),
    "freeze processor": _freeze("processor"),
    "freeze supervisor": _freeze_supervisor,
    "freeze redis": _freeze_server("valkey"),
    "freeze postgres": _freeze_server("postgres"),
    "empty redis": _empty_redis,
    "hang frontend": _hang,
    "roll": _roll,
    "reload": _reload,
    "kafka killed": _kafka_killed,
    "kafka stopped": _kafka_stopped,
    "kafka frozen": _kafka_frozen,
    "kafka moved": _kafka_moved,
    "disk full": _disk_full,
    "spool spoiled": _spool_spoiled,
}
