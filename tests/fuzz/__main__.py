"""
The fuzz run: `make fuzz`, or python -m tests.fuzz.

Everything that reads what strangers wrote is given so many inputs: made by a mutator that knows the formats, steered by
coverage where atheris is installed, drawn by Hypothesis, filled up to find what takes for ever, and sent as HTTP to the
whole product. Nothing but an answer or a documented error may come of one, in bounded time and memory.

  make fuzz FUZZ_ARGS='--inputs 1000000 --seed 1'
  make fuzz FUZZ_ARGS='--inputs 20000 --engines mutated,drawn --targets tracklayer-event,contact'
  python -m tests.fuzz --again contact .cache/fuzz/found/contact/0123456789abcdef

Exit code 0: all promises were kept. 1: something was found; the smallest input of each is in <out>/found/<target>/, and
belongs into tests/fuzz/corpus/<target>/ under a name that says what it shows. 64: a wrong option.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from tests.fuzz import plan, report
from tests.fuzz.engines import guided
from tests.fuzz.run import Run, again, save
from tests.fuzz.targets.all import TARGETS

OUT = Path(".cache/fuzz")

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY_S = 30.0


class Progress:
    """How far the run is: one line that changes on a terminal, else a line now and then."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._began_s = time.monotonic()
        self._told_s = 0.0
        self._terminal = sys.stderr.isatty()

    @property
    def took_s(self) -> float:
        """Since the beginning, in seconds."""
        return time.monotonic() - self._began_s

    def __call__(self, done: int, what: str) -> None:
        now_s = self.took_s
        if now_s - self._told_s < (0.5 if self._terminal else _LINE_EVERY_S):
            return
        self._told_s = now_s
        line = f"{done:>12,} of {self._inputs:,} inputs, {now_s:5.0f} s, {what}"
        sys.stderr.write(f"\r{line:<100}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Make room for the report."""
        if self._terminal:
            sys.stderr.write(f"\r{'':<100}\r")


def main() -> int:
    """The command."""
    options = _options()
    if options.again:
        target, file = options.again
        sys.stdout.write(f"{again(target, Path(file).read_bytes())}\n")
        return 0
    atheris = guided.available() and not options.no_atheris
    jobs = plan.jobs(options.inputs, options.seed, options.engines, options.targets, guided=atheris)
    options.out.mkdir(parents=True, exist_ok=True)
    progress = Progress(sum(job.inputs for job in jobs))
    run = Run(options.out, progress)
    for job in jobs:
        run.do(job)
    progress.end()
    save(options.out / "results.json", run.results)
    command = f"make fuzz FUZZ_ARGS='{' '.join(sys.argv[1:])}'"
    text = report.page(run.results, command=command, took_s=progress.took_s, told=run.told, guided=atheris)
    (options.out / "report.md").write_text(text)
    sys.stdout.write(text)
    return 1 if report.problems(run.results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines, targets = get_args(plan.Engine), tuple(TARGETS)
    parser.add_argument(
        "--inputs", type=_positive, default=1_000_000, metavar="N", help="in all (default: 1000000)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="the same one makes the same inputs (default: 1)"
    )
    parser.add_argument(
        "--engines",
        type=_among(engines),
        default=engines,
        metavar="E,…",
        help=f"some of {', '.join(engines)}",
    )
    parser.add_argument(
        "--targets",
        type=_among(targets),
        default=targets,
        metavar="T,…",
        help=f"some of {', '.join(targets)}",
    )
    parser.add_argument(
        "--no-atheris", action="store_true", help="as if it were not installed: the mutator does its part"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help=f"for the report and what is found (default: {OUT})",
    )
    parser.add_argument(
        "--again",
        nargs=2,
        metavar=("T", "FILE"),
        help="try one input on a target once more, and show what it does",
    )
    try:
        return parser.parse_args()
    except SystemExit as end:
        raise SystemExit(64 if end.code else 0) from None


def _positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _among(known: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def chosen(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return chosen


if __name__ == "__main__":
    sys.exit(main())
