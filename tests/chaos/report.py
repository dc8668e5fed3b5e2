"""The verdict on a run and its report: Markdown for people, JSON for programs, a picture."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon import __version__
from tests.chaos.faults import Played
from tests.chaos.figures import Figures, Share
from tests.chaos.ledger import Ledger
from tests.chaos.reconcile import Books
from tests.chaos.stage import Sample
from tests.chaos.timeline import svg

#: Issue: during an outage of Kafka at least this share of well-formed requests gets a 2xx.
AVAILABILITY_MIN = 0.999


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is judged."""

    what: str
    limit: str
    found: str
    ok: bool


@dataclass
class Run:
    """A run, over."""

    seed: int
    seconds: float
    per_s: float
    began_at: float
    command: str
    settings: dict[str, Any]
    has: Sequence[str]
    ledger: Ledger
    played: list[Played]
    samples: list[Sample]
    books: Books
    figures: Figures
    #: received − Σ outcomes once everything was over, and the most that it was ever below 0
    in_work: int
    overdrawn: int
    left_processes: int
    exit_code: int
    asked_faults: int


def checks_of(run: Run) -> list[Check]:
    """The verdict, point by point."""
    ledger, books = run.ledger, run.books
    away = run.figures.kafka_away
    failed = [one for one in run.played if one.failed]
    checks = [
        Check("acknowledged ids that are lost", "0", f"{len(books.missing(ledger))}", not books.missing(ledger)),
        Check(
            "acknowledged ids missing from the log", "0", f"{len(ledger.acked.keys() - books.on_log)}",
            ledger.acked.keys() <= books.on_log,
        ),
        Check("ids on the log that nobody sent", "0", f"{len(books.invented(ledger))}", not books.invented(ledger)),
        Check(
            "ids whose copies readers could not drop", "0", f"{len(books.torn)} of {books.copies} copies",
            not books.torn,
        ),
        Check("ids given up by their callers", "0", f"{len(ledger.given_up)}", not ledger.given_up),
        Check("answers but 2xx and 503", "0", f"{len(ledger.unexpected())}", not ledger.unexpected()),
        Check(
            "2xx while Kafka alone was away", f"≥ {AVAILABILITY_MIN:.1%}",
            f"{away.availability:.3%} of {away.requests}", away.availability >= AVAILABILITY_MIN,
        ),
        Check("events without an end, at rest", "0", f"{run.in_work}", run.in_work == 0),
        Check("events that ended and never came", "0", f"{run.overdrawn}", run.overdrawn == 0),
        Check(
            "faults played", f"{run.asked_faults}", f"{len(run.played)}", len(run.played) >= run.asked_faults
        ),
        Check("faults after which not all was well", "0", f"{len(failed)}", not failed),
        Check(
            "end: exit code, processes left", "0, 0", f"{run.exit_code}, {run.left_processes}",
            run.exit_code == 0 and run.left_processes == 0,
        ),
    ]  # fmt: skip
    if books.stored is not None:
        extra = books.stored - books.distinct
        checks.append(
            Check(
                "duplicates in the processor's table", "0", f"{max(0, extra)} ({books.stored} rows of {books.distinct} events)",
                extra == 0,
            )
        )  # fmt: skip
    return checks


def write(run: Run, folder: Path) -> bool:
    """Write report.md, report.json and timeline.svg into `folder`; whether all is as it has to be."""
    folder.mkdir(parents=True, exist_ok=True)
    checks = checks_of(run)
    good = all(check.ok for check in checks)
    (folder / "report.md").write_text(_markdown(run, checks, good=good), encoding="utf-8")
    (folder / "report.json").write_text(
        json.dumps(_document(run, checks, good=good), indent=1), encoding="utf-8"
    )
    title = f"Headgate {__version__}: seed {run.seed}, {len(run.played)} faults in {run.seconds:g} s"
    (folder / "timeline.svg").write_text(
        svg(title, run.began_at, run.seconds, run.ledger.attempts, run.samples, run.played), encoding="utf-8"
    )
    return good


def _markdown(run: Run, checks: Sequence[Check], *, good: bool) -> str:
    ledger, books, figures = run.ledger, run.books, run.figures
    memory = [one.resident_bytes for one in run.samples if one.resident_bytes]
    lines = [
        f"# Chaos: {'nothing lost' if good else 'NOT AS IT HAS TO BE'}",
        "",
        (
            f"`{run.command}`: {len(run.played)} faults in {run.seconds:g} s, seed {run.seed}, {run.per_s:g} requests/s, "
            f"Headgate {__version__}, {platform.platform()}, {_cores()} cores with the callers and all servers on them."
        ),
        "",
        "| | has to be | was | |",
        "|---|---|---|---|",
        *(f"| {one.what} | {one.limit} | {one.found} | {'ok' if one.ok else '**NO**'} |" for one in checks),
        "",
        (
            f"{len(ledger.sent)} ids were sent, {len(ledger.acked)} acknowledged ({_durabilities(ledger)}), "
            f"{books.ours} records of them are on the log, {books.copies} of these are copies under the same id."
        ),
        "",
        "## Availability and latency",
        "",
        (
            "A request counts for a fault when it was on its way at any time between its begin and the recovery from it; "
            "the last two columns are of those that met no other fault. Callers try again; every try is a request here."
        ),
        "",
        "| while | requests | 2xx | p99 | with nothing else | p99 |",
        "|---|---|---|---|---|---|",
        _row("everything", figures.overall),
        _row("nothing was broken", figures.quiet),
        _row("Kafka alone was away", figures.kafka_away),
        *(
            _row(f"{kind} ({figures.counts[kind]}×)", found, figures.by_kind_alone[kind])
            for kind, found in figures.by_kind.items()
        ),
        "",
        "## Refused, and why",
        "",
        *_counted("answer", figures.refusals, "Nothing was refused."),
        "",
        *_counted("no answer", figures.no_answer, "Every request had an answer."),
        "",
        "## Ways in",
        "",
        "| input | ids sent | acknowledged |",
        "|---|---|---|",
        *(f"| {name} | {sent} | {acked} |" for name, (sent, acked) in figures.by_input.items()),
        "",
        (
            f"Memory of frontends and publishers together: {_mib(min(memory, default=0))} to "
            f"{_mib(max(memory, default=0))}, {_mib(memory[-1] if memory else 0)} at the end."
        ),
        "",
        "![timeline](timeline.svg)",
        "",
        "## Faults",
        "",
        "| # | at s | fault | what | held s | well after s | |",
        "|---|---|---|---|---|---|---|",
        *(_fault(one, run.began_at) for one in run.played),
        "",
        "Settings that differ from the defaults: "
        + ", ".join(f"`{k}={v}`" for k, v in run.settings.items())
        + ".",
        f"This machine has: {', '.join(run.has) or 'nothing special'}"
        + ("" if "root" in run.has else " (no root: the disk was not filled)")
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _document(run: Run, checks: Sequence[Check], *, good: bool) -> dict[str, Any]:
    ledger, books, figures = run.ledger, run.books, run.figures
    return {
        "ok": good,
        "command": run.command,
        "seed": run.seed,
        "seconds": run.seconds,
        "version": __version__,
        "checks": [asdict(one) for one in checks],
        "ids": {
            "sent": len(ledger.sent), "acknowledged": len(ledger.acked), "given_up": sorted(ledger.given_up),
            "lost": books.missing(ledger), "invented": books.invented(ledger), "torn": books.torn,
            "on_log": len(books.on_log), "on_spool": len(books.on_spool), "records": books.records,
            "copies": books.copies, "stored": books.stored, "distinct": books.distinct,
        },
        "availability": {
            "overall": _share(figures.overall), "quiet": _share(figures.quiet),
            "kafka_away": _share(figures.kafka_away),
            "by_kind": {kind: _share(found) for kind, found in figures.by_kind.items()},
            "by_kind_alone": {kind: _share(found) for kind, found in figures.by_kind_alone.items()},
        },
        "refusals": dict(figures.refusals),
        "no_answer": dict(figures.no_answer),
        "unexpected": [asdict(one) for one in ledger.unexpected()[:100]],
        "inputs": {name: {"sent": sent, "acknowledged": acked} for name, (sent, acked) in figures.by_input.items()},
        "settings": run.settings,
        "has": list(run.has),
        "faults": [
            {**asdict(one.fault), "began_s": round(one.began_at - run.began_at, 3),
             "ended_s": round(one.ended_at - run.began_at, 3),
             "recovered_s": round(one.recovered_at - run.began_at, 3), "what": one.what, "notes": one.notes,
             "failed": one.failed}
            for one in run.played
        ],
    }  # fmt: skip


def _share(found: Share) -> dict[str, float]:
    return {
        "requests": found.requests,
        "good": found.good,
        "availability": found.availability,
        "p99_s": found.p99_s,
    }


def _row(name: str, found: Share, alone: Share | None = None) -> str:
    cells = [name, str(found.requests), *_cells(found), *(_cells(alone) if alone is not None else ("", ""))]
    return f"| {' | '.join(cells)} |"


def _cells(found: Share) -> tuple[str, str]:
    if not found.requests:
        return "–", "–"
    return f"{found.availability:.3%}", f"{found.p99_s * 1000:.0f} ms"


def _counted(head: str, counts: Counter[str], nothing: str) -> list[str]:
    if not counts:
        return [nothing]
    return [
        f"| {head} | requests |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in counts.most_common(20)),
    ]


def _fault(one: Played, began_at: float) -> str:
    fault = one.fault
    told = (
        "; ".join([*one.notes, *([f"**{one.failed}**"] if one.failed else [])])
        .replace("|", "/")
        .replace("\n", " ")
    )
    held_s, well_s = one.ended_at - one.began_at, one.recovered_at - one.ended_at
    alone = " (alone)" if fault.area == "kafka" and fault.alone else ""
    return (
        f"| {fault.number} | {one.began_at - began_at:.1f} | {fault.kind}{alone} | {one.what} | {held_s:.1f} | "
        f"{well_s:.1f} | {told} |"
    )


def _durabilities(ledger: Ledger) -> str:
    counts = Counter(one.durability for one in ledger.acked.values())
    names = {"kafka": "on Kafka", "local": "on the spool first", "known": "as known before"}
    return ", ".join(f"{count} {names.get(name, name)}" for name, count in counts.most_common())


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _cores() -> int:
    import os

    return os.cpu_count() or 1
