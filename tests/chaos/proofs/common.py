"""What the proofs share: an instance of their own, latencies out of a load's answers, memory, and how a verdict is told."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import psutil

from tests.chaos.figures import quantile
from tests.chaos.report import Check
from tests.support.load import Load
from tests.support.product import ROOT, Product


@contextmanager
def instance(**environ: str) -> Iterator[Product]:
    """A started instance in a folder of its own; it has to end well."""
    folder = Path(tempfile.mkdtemp(prefix="hgf-", dir="/tmp"))
    product = Product(folder, environ)
    try:
        yield product.start()
        product.conserved()
    finally:
        product.end()
        shutil.rmtree(folder, ignore_errors=True)


def p99_ms(load: Load, since: float, until: float) -> float:
    """The p99 of the answers to requests sent between two moments (monotonic seconds), in milliseconds."""
    times = sorted(one.came_at - one.sent_at for one in load.answers if since <= one.sent_at < until)
    return quantile(times, 0.99) * 1000


class Memory:
    """Resident bytes of frontends and publishers together, looked at twice a second. Use it in a `with`."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_for_ever, name="memory", daemon=True)
        #: (monotonic seconds, bytes)
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def most_mib(self, since: float, until: float) -> float:
        """The most between two moments, MiB."""
        return max((size for at, size in self.samples if since <= at <= until), default=0) / (1 << 20)

    def _look_for_ever(self) -> None:
        while not self._over.wait(0.5):
            with contextlib.suppress(OSError, psutil.Error, ValueError):
                pids = [one.pid for one in self._product.slots() if one.role in ("frontend", "publisher")]
                size = sum(psutil.Process(pid).memory_info().rss for pid in pids if pid)
                self.samples.append((time.monotonic(), size))


def say(text: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def told(name: str, command: str, checks: Sequence[Check], more: dict[str, Any]) -> int:
    """Print the verdict and keep it as JSON; gives the exit code."""
    for check in checks:
        sys.stdout.write(
            f"{'ok ' if check.ok else 'NO '} {check.what}: {check.found} (has to be {check.limit})\n"
        )
    good = all(check.ok for check in checks)
    folder = ROOT / ".cache" / "chaos"
    folder.mkdir(parents=True, exist_ok=True)
    document = {"ok": good, "command": command, "checks": [asdict(one) for one in checks], **more}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    sys.stdout.write(f"{'as it has to be' if good else 'NOT AS IT HAS TO BE'}; {folder}/{name}.json\n")
    return 0 if good else 1
