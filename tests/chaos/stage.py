"""The instance that is broken, with what it stands on: a real Kafka, a small disk under its local log, its settings."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from daemon.roles import ROLES
from tests.fixtures.loops import run
from tests.servers.kafka import KafkaServer, free_port
from tests.support.product import ROOT, Product, until

#: Size of the file system under the local log, and how much of it is kept free (log.headroom_bytes).
DISK_BYTES = 96 * 1024 * 1024
HEADROOM_BYTES = 8 * 1024 * 1024
#: A state that does not come about in this time, does not come.
PATIENCE_S = 90.0
#: Faults at once; there are not so many areas.
PLAYERS = 12
#: Between looks at the metrics, seconds.
SAMPLE_S = 0.5

#: What differs from the defaults, and is told in the report.
SETTINGS = {
    "HEADGATE_FRONTEND__COUNT": "2",
    "HEADGATE_PUBLISHER__COUNT": "2",
    # Many more crashes than a sound system has: they must not park a slot.
    "HEADGATE_SUPERVISOR__CRASHES_MAX": "1000",
    "HEADGATE_SUPERVISOR__BACKOFF_MAX_S": "1",
    "HEADGATE_SUPERVISOR__BEAT_TIMEOUT_S": "4",
    "HEADGATE_SUPERVISOR__ABORT_GRACE_S": "0.5",
    "HEADGATE_LOG__HEADROOM_BYTES": str(HEADROOM_BYTES),
    "HEADGATE_LIMITS__RATE_PER_S": "1000000",
    "HEADGATE_LIMITS__BURST": "1000000",
    # All callers have one address here.
    "HEADGATE_TRACKLAYER__BROWSER_EVENTS_MAX": "100000",
    "HEADGATE_KAFKA__TOPIC_RAW": "raw-events",
}


class Sample(NamedTuple):
    """One look from outside. `at` is monotonic; None where nobody answered."""

    at: float
    spool_records: float | None
    in_work: int | None
    resident_bytes: int


def available() -> list[str]:
    """What this machine and this version have of what kinds of faults need."""
    found = ["root"] if os.geteuid() == 0 and shutil.which("mount") else []
    return found + [role.name for role in ROLES if role.name == "processor"]


class Stage:
    """Use it in a `with`; everything it started ends with it."""

    def __init__(self, has: Sequence[str] = (), logs: Path | None = None, **environ: str) -> None:
        """`has` as `available` gives it; `logs` is where the servers' logs go at the end; `environ` more settings."""
        self.has = list(has)
        self._logs = logs
        self.folder = Path(tempfile.mkdtemp(prefix="hgc-", dir="/tmp"))
        self.kafka = KafkaServer(self.folder / "kafka")
        self.ports = (self.kafka.port, free_port())
        self.config = self.folder / "settings.toml"
        self.configure(0)
        (self.folder / "i").mkdir()
        brokers = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        settings = {**SETTINGS, "HEADGATE_KAFKA__BROKERS": brokers, **environ}
        self.product = Product(self.folder / "i", settings, config=self.config)
        self.log_folder = self.product.data / "log"
        self.samples: list[Sample] = []
        #: most that was ever counted as ended and never came; 0 unless the books are wrong
        self.overdrawn = 0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample_for_ever, name="samples", daemon=True)
        self._mounted = False
        #: Faults are played here. A server ends with the thread that started it, so these live as long as the stage.
        self.players = ThreadPoolExecutor(PLAYERS, thread_name_prefix="fault")

    def __enter__(self) -> Self:
        try:
            self.log_folder.mkdir(parents=True)
            if "root" in self.has:
                size = f"size={DISK_BYTES}"
                subprocess.run(
                    ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.log_folder)], check=True
                )
                self._mounted = True
            # Side by side: Kafka's start is the longer one, and Headgate does not need it for its own.
            self.product.start(wait=False)
            run(self.kafka.start())
            self.product.wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._sampler.ident is not None:
            self._sampler.join()
        with contextlib.suppress(AssertionError):
            self.product.end()
        with contextlib.suppress(AssertionError):
            self.kafka.resume()
        run(self.kafka.kill())
        self.players.shutdown()
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            for log in (self.product.log_path, self.folder / "kafka" / "kafka.log"):
                if log.exists():
                    shutil.copy(log, self._logs / log.name)
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.log_folder)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what faults change

    def configure(self, number: int) -> None:
        """Write the settings file; another `number` is another setting that a reload brings in."""
        text = (ROOT / "config/dev.toml").read_text()
        tick_s = (0.001, 0.002)[number % 2]
        assert "count = 2" in text
        self.config.write_text(text.replace("count = 2", f"tick_s = {tick_s}", 1))

    def fill_disk(self) -> None:
        """Leave no room under the local log; again, when it has given some of its own back."""
        with contextlib.suppress(OSError), (self.log_folder / "filler").open("ab") as file:
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()

    def free_disk(self) -> None:
        """Give the room back."""
        (self.log_folder / "filler").unlink(missing_ok=True)

    def kafka_kill(self) -> None:
        """Kafka is gone, without a word."""
        run(self.kafka.kill())

    def kafka_restart(self) -> None:
        """Kafka is started again."""
        run(self.kafka.restart())

    # --- what is waited for

    def ready(self, deadline_s: float = PATIENCE_S) -> None:
        """Until events can get a 2xx."""
        deadline = time.monotonic() + deadline_s
        while (found := self.product.readyz())[0] != 200:
            assert time.monotonic() < deadline, f"/readyz is not 200 after {deadline_s:g} s: {found}"
            time.sleep(0.02)

    def stores_up(self) -> None:
        """Until every frontend has both of its stores."""
        until(
            lambda: set(self._values("headgate_store_up", role="frontend")) == {1.0},
            "the stores are back",
            PATIENCE_S,
        )

    def kafka_up(self) -> None:
        """Until every publisher writes to Kafka."""
        until(
            lambda: set(self._values("headgate_store_up", role="publisher", store="kafka")) == {1.0},
            "Kafka is back",
            PATIENCE_S,
        )

    def drained(self, deadline_s: float) -> None:
        """Until nothing waits on the disk, looked at from outside: also what is in the files of the dead."""

        def empty() -> bool:
            # The metric first: a command each half second would take the drain's CPU from it, and live traffic's.
            counted = self._values("headgate_spool_records")
            return sum(counted) == 0 and bool(self.product.json("spool", "status")["records"] == 0)

        until(empty, "the spool is empty", deadline_s, every_s=0.5)

    def _values(self, name: str, **labels: str) -> list[float]:
        try:
            return self.product.metrics().values(name, **labels)
        except (OSError, AssertionError):
            return []

    # --- looking on

    def _sample_for_ever(self) -> None:
        while not self._over.wait(SAMPLE_S):
            spool: float | None = None
            in_work: int | None = None
            with contextlib.suppress(OSError, AssertionError, ValueError):
                metrics = self.product.metrics()
                spool, in_work = metrics.sum("headgate_spool_records"), metrics.in_work
                self.overdrawn = max(self.overdrawn, -in_work)
            self.samples.append(Sample(time.monotonic(), spool, in_work, self._resident_bytes()))

    def _resident_bytes(self) -> int:
        """Of frontends and publishers together."""
        total = 0
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            for slot in self.product.slots():
                if slot.role in ("frontend", "publisher") and slot.pid:
                    total += psutil.Process(slot.pid).memory_info().rss
        return total


def settings_told(stage: Stage) -> dict[str, Any]:
    """The settings that the report names."""
    return {name: value for name, value in stage.product.environ.items() if name in SETTINGS}
