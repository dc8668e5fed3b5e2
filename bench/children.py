"""Child processes of a bench: started in groups of their own, and gone when the bench is, however it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent

#: kill -9 of the bench must leave nothing behind either.
_TIED = [sys.executable, "-I", "-S", str(ROOT / "bench/exec_tied.py")]

#: Lines of a child's log that are shown when it fails, and characters of each.
LOG_LINES = 12
LOG_CHARS = 400


class BenchError(Exception):
    """The bench can't go on; the message says why and what to do."""


class Child:
    """
    A process in its own group. Use it in a `with`: at the end it gets TERM, and after `stop_limit_s` KILL.

    What it says on stderr (and stdout, unless `answers`) goes to `<name>.log` in `folder`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        answers: bool = False,
        stop_limit_s: float = 10.0,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._stop_limit_s = stop_limit_s
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_TIED, str(os.getpid()), *argv],
                cwd=ROOT,
                env=dict(os.environ if env is None else env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if answers else log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, limit_s: float = 15.0) -> dict[str, Any]:
        """The first line that it prints, as JSON. Raises BenchError when there is none in time."""
        stdout = self._process.stdout
        assert stdout is not None, "started without answers=True"
        ready, _, _ = select.select([stdout], [], [], limit_s)
        line = stdout.readline() if ready else b""
        if not line:
            raise BenchError(f"{self.name} did not start:\n{self.last_lines()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def wait(self, limit_s: float) -> int:
        """Its exit code. Raises BenchError when it is not done in time."""
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} was not done after {limit_s:g} s:\n{self.last_lines()}") from None

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """TERM to it, KILL to its whole group when it takes too long."""
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(self._stop_limit_s)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop within {self._stop_limit_s:g} s and is killed")
        # The group may have members left whose leader is gone.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def last_lines(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
            return "\n".join(line[:LOG_CHARS] for line in lines)
        except OSError as error:
            return f"(no log: {error})"
