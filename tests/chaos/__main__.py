"""`python -m tests.chaos`: one run, with progress, a report and a verdict. `make chaos` calls it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from daemon.errors import UsageError
from tests.chaos.callers import Callers
from tests.chaos.director import Director
from tests.chaos.faults import Played
from tests.chaos.figures import figures_of
from tests.chaos.inputs import inputs_of
from tests.chaos.ledger import Ledger
from tests.chaos.reconcile import Books, reconcile
from tests.chaos.report import Run, checks_of, write
from tests.chaos.schedule import Fault, schedule
from tests.chaos.stage import Stage, available, settings_told
from tests.support.product import ROOT

TOPIC = "raw-events"
#: After the last fault: what waits has to be on Kafka within so long.
DRAINED_S = 300.0
#: The processor has stored nothing for so long: it will store nothing more.
STORED_S = 45.0

ABOUT = """
Break a running instance in every way, under load through all inputs, and prove with a ledger that nothing
acknowledged is lost. The schedule follows from --seed (and --seconds, --faults, and what this machine can do).

Needs Java and Maven's jars of Kafka, as the tests do; as root it fills a small disk too. Ends with 0 when all is as
it has to be, with 1 when not, with 64 for arguments that don't fit.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the run (default 600)")
    parser.add_argument("--seed", type=int, default=7, help="what the schedule follows from (default 7)")
    parser.add_argument("--faults", type=int, default=None, help="how many (default: one per 3 seconds)")
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas (default: all)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second (default 200)")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder of the report (default .cache/chaos/…)"
    )
    parser.add_argument("--plan", action="store_true", help="only print the schedule")
    given = parser.parse_args(arguments)
    faults = given.faults if given.faults is not None else max(1, int(given.seconds / 3))
    try:
        only = [name.strip() for name in given.only.split(",") if name.strip()]
        planned = schedule(given.seed, given.seconds, faults, available(), only)
    except UsageError as error:
        sys.stderr.write(f"chaos: {error}\n")
        return UsageError.exit_code
    if given.plan:
        for fault in planned:
            sys.stdout.write(f"{fault.at_s:8.1f} s  {fault.kind:<18} {fault.seconds:5.1f} s\n")
        return 0
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = given.out or ROOT / ".cache" / "chaos" / f"{stamp}-seed-{given.seed}"
    run = perform(given.seed, given.seconds, given.rate, planned, Progress(), folder)
    good = write(run, folder)
    for check in checks_of(run):
        sys.stdout.write(
            f"{'ok ' if check.ok else 'NO '} {check.what}: {check.found} (has to be {check.limit})\n"
        )
    sys.stdout.write(f"report: {folder}/report.md\n")
    sys.stdout.write("nothing lost\n" if good else "NOT AS IT HAS TO BE\n")
    return 0 if good else 1


class Progress:
    """What the person who waits sees: a line per fault, and one below that changes."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._in_place = sys.stderr.isatty()
        self._told_at = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            sys.stderr.write(("\r\x1b[K" if self._in_place else "") + text + "\n")
            sys.stderr.flush()

    def now(self, text: str) -> None:
        """The state of things."""
        if self._quiet or time.monotonic() - self._told_at < (0.5 if self._in_place else 15.0):
            return
        self._told_at = time.monotonic()
        sys.stderr.write(f"\r\x1b[K{text}"[:160] if self._in_place else f"{text}\n")
        sys.stderr.flush()


def perform(
    seed: int,
    seconds: float,
    per_s: float,
    planned: Sequence[Fault],
    progress: Progress,
    logs: Path | None = None,
    **environ: str,
) -> Run:
    """The whole run: the stage, the callers, the faults, and the reckoning."""
    prefix = f"chaos-{uuid.uuid4().hex[:6]}-"
    ledger = Ledger()
    has = available()
    progress.say(f"starting Kafka and Headgate; seed {seed}, {len(planned)} faults in {seconds:g} s")
    with Stage(has, logs, **environ) as stage:
        product = stage.product
        inputs = inputs_of(product)
        stage.kafka_up()
        stage.stores_up()
        callers = Callers(product.ingest_port, inputs, ledger, per_s=per_s, seed=seed, prefix=prefix)
        began_at = time.monotonic()

        def tell(played: Played) -> None:
            well_s = played.recovered_at - played.began_at
            verdict = f"FAILED: {played.failed}" if played.failed else f"well after {well_s:.1f} s"
            progress.say(
                f"{played.began_at - began_at:7.1f} s  {played.fault.number:>3}/{len(planned)} {played.fault.kind:<17} "
                f"{played.what:<28} {verdict}"
            )

        director = Director(stage, planned, tell)
        over = threading.Event()

        def show() -> None:
            while not over.wait(0.25):
                last = stage.samples[-1] if stage.samples else None
                spool = f"{last.spool_records:.0f}" if last and last.spool_records is not None else "?"
                broken = ", ".join(fault.kind for fault in director.playing) or "nothing"
                progress.now(
                    f"{time.monotonic() - began_at:5.0f} s  {len(ledger.acked)} of {len(ledger.sent)} ids acknowledged, "
                    f"{callers.open} on their way, {spool} in the spool; broken: {broken}"
                )

        shower = threading.Thread(target=show, name="progress", daemon=True)
        shower.start()
        try:
            with callers:
                played = director.run(began_at)
                time.sleep(max(0.0, began_at + seconds - time.monotonic()))
        finally:
            over.set()
            shower.join()
        ended_s = time.monotonic() - began_at
        progress.say("all faults are over; waiting until nothing waits, then reconciling")
        in_work, books, code, left = _reckon(stage, prefix)
        return Run(
            seed=seed, seconds=round(ended_s, 1), per_s=per_s, began_at=began_at, command=_command(),
            settings=settings_told(stage), has=has, ledger=ledger, played=played, samples=stage.samples,
            books=books, figures=figures_of(ledger, played), in_work=in_work, overdrawn=stage.overdrawn,
            left_processes=left, exit_code=code, asked_faults=len(planned),
        )  # fmt: skip


def _reckon(stage: Stage, prefix: str) -> tuple[int, Books, int, int]:
    """Wait for rest, count, stop, read the log."""
    product = stage.product
    stage.ready()
    stage.kafka_up()
    stage.stores_up()
    stage.drained(DRAINED_S)
    in_work = product.metrics().in_work
    try:
        in_work = product.at_rest().in_work
    except AssertionError:
        in_work = product.metrics().in_work
    books = reconcile(product, stage.kafka, TOPIC, prefix)
    if "processor" in stage.has:
        books.stored = _stored(stage, books.distinct)
    product.send(signal.SIGTERM)
    return in_work, books, product.wait(), len(product.processes())


def _stored(stage: Stage, expected: int) -> int:
    """Rows in the processor's table once there are as many as events on the log, or there come no more."""
    count, changed = -1, time.monotonic()
    while count != expected and time.monotonic() - changed < STORED_S:
        now = int(stage.product.json("events", "count")["count"])
        if now != count:
            count, changed = now, time.monotonic()
        else:
            time.sleep(0.5)
    return count


def _command() -> str:
    given = " ".join(sys.argv[1:])
    return f"make chaos CHAOS_ARGS='{given}'" if given and "pytest" not in sys.argv[0] else "make chaos"


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
