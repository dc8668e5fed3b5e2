"""Runs a plan: one process for each job, progress while it goes, and everything that was found in one place."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.fuzz import blackbox, corpus
from tests.fuzz.plan import Job
from tests.fuzz.result import Found, Memory, Result, decode

#: A process without a further input for so long hangs in native code, where no limit of ours reaches; in seconds.
STILL_S_MAX = 300.0
_LOOK_EVERY_S = 0.5

#: Told the run's inputs so far, and what is being done.
Note = Callable[[int, str], None]


class Run:
    """One run. Results come in the order of the jobs; `told` is what else there is to say of them."""

    def __init__(
        self,
        folder: Path,
        note: Note,
        process: tuple[str, ...] = (sys.executable, "-m", "tests.fuzz.process"),
    ) -> None:
        """`folder` is for what was found, and for files of the run; `process` runs one job."""
        self._process = process
        self.results: list[Result] = []
        self.told: list[str] = []
        self._folder = folder
        self._note = note
        self._done = 0

    def do(self, job: Job) -> None:
        """One job, to its end, however that comes."""
        result = self._front(job) if job.engine == "http" else self._target(job)
        self.results.append(result)
        self._done += result.inputs
        for found in result.found:
            self._keep(result.target if job.engine != "http" else "http", found)

    def _front(self, job: Job) -> Result:
        from tests.fuzz.http.job import run

        # Unix sockets have short paths
        with tempfile.TemporaryDirectory(prefix="hgf") as folder:
            result, told = run(
                job.inputs, job.seed, Path(folder) / "p", lambda done: self._note(self._done + done, job.name)
            )
        self.told.append(told)
        return result

    def _target(self, job: Job) -> Result:
        path = self._folder / f"{job.name}.json"
        path.unlink(missing_ok=True)
        argv = [*self._process, "--target", job.target, "--engine", job.engine,
                "--inputs", str(job.inputs), "--seed", str(job.seed), "--result", str(path)]  # fmt: skip
        with path.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            why = self._watched(process, job, path.with_suffix(".box"))
        seen = blackbox.read(path.with_suffix(".box"))
        path.with_suffix(".box").unlink(missing_ok=True)
        if not why and path.exists():
            return decode(path.read_bytes())
        tail = path.with_suffix(".log").read_text(errors="replace")[-4000:]
        found = Found.of(why or f"the process ended with {process.returncode}", tail, seen.last)
        return Result(
            job.engine, job.target, job.seed, seen.inputs, {"DIED": 1}, [found], 0.0, Memory(0, 0, 0, 0)
        )

    def _watched(self, process: subprocess.Popen[bytes], job: Job, box: Path) -> str:
        """Wait for the end; why it was brought about, empty where it came by itself."""
        inputs, since = 0, time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(_LOOK_EVERY_S)
                now = blackbox.read(box).inputs
                if now != inputs:
                    inputs, since = now, time.monotonic()
                elif time.monotonic() - since > STILL_S_MAX:
                    return "hangs in native code"
                self._note(self._done + now, job.name)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        return ""

    def _keep(self, target: str, found: Found) -> None:
        folder = self._folder / "found" / target
        folder.mkdir(parents=True, exist_ok=True)
        name = corpus.digest(found.key.encode() + found.input)
        (folder / name).write_bytes(found.input)
        (folder / f"{name}.txt").write_text(f"{found.key} ({found.times} times)\n\n{found.about}\n")


def again(target: str, data: bytes) -> str:
    """One input, once more: its outcome. Raises what the target raises."""
    from tests.fuzz.targets.all import TARGETS

    return TARGETS[target].run(data)


def save(path: Path, results: list[Result]) -> None:
    """All results as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
