"""The command `headgate` as a process, with no variables but those that the test gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A step that takes longer than this has gone wrong.
PATIENCE_S = 60.0


class Command:
    """Runs `headgate` with the same variables each time."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code has to be `code`."""
        done = subprocess.run(
            self.argv(*arguments),
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run with --json; gives what it printed."""
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def error(self, *arguments: str, code: int) -> str:
        """Run a command that fails: one line on standard error, nothing on standard output; gives the line."""
        done = self(*arguments, code=code)
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert line.startswith("headgate: ")
        return line.removeprefix("headgate: ")

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start, with standard output and error as pipes; the test has to end it."""
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(
            self.argv(*arguments), env=self.environ(), stdin=subprocess.DEVNULL, text=True, **options
        )

    def with_(self, **variables: str) -> Command:
        """The same with other variables on top."""
        return Command(**{**self.variables, **variables})

    @staticmethod
    def argv(*arguments: str) -> list[str]:
        """The process's arguments."""
        return [sys.executable, "-m", "daemon.cli", *arguments]

    def environ(self) -> dict[str, str]:
        """This process's environment without its own HEADGATE_ variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        return {**kept, **self.variables}


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal and wait; gives exit code, the rest of standard output, and standard error."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def wait_for(true: Callable[[], bool], what: str) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.02)


def says(path: Path, text: str) -> bool:
    """Whether a file, if it is there, holds `text`."""
    return path.exists() and text in path.read_text(errors="replace")
