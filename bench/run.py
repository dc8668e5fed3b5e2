"""
`python -m bench.run` (`make bench`): starts a Headgate of its own, loads it, says what that cost.

    make bench                                           browser-like users for 20 s on the local log
    make bench BENCH_ARGS='--users 400 --think 0.05'     more of them
    make bench BENCH_ARGS='--mock-kafka'                 the log is librdkafka's mock broker
    make bench BENCH_ARGS='--kafka 127.0.0.1:9092'       the log is a real Kafka
    make bench BENCH_ARGS='--compare --frontends 1'      rounds against a bare granian server, in turns

docs/performance.md says what the columns mean. HEADGATE_… variables of the environment reach the Headgate
that is measured. The exit code is 1 when something is wrong (not when it is slow).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape

from bench.children import BenchError, Child
from bench.generators import Generator, Locust, Wrk
from bench.instance import OWN_ROLES, Headgate, Source
from bench.report import Result, Round, as_json, judge, machine, ratios, round_json, show, show_rounds
from bench.watch import Watch

#: Bounds of what can be asked for, so that a slip of the finger ends.
SECONDS_MAX = 3600.0
USERS_MAX = 10_000
SOURCES_MAX = 200

#: Requests per second of each source, far beyond what a bench reaches: limits have tests of their own.
RATE = 1_000_000

UNIT = "bare server"

#: Error lines of Headgate's log that are printed; all are in the JSON.
ERRORS_SHOWN = 5

#: Width of the tables in files and pipes.
FILE_COLUMNS = 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    seconds: float
    sources: int
    rounds: int
    compare: bool
    generator: Generator
    overrides: dict[str, str]
    mock_kafka: bool
    rate: int


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line. Ends the process (2) on what it can't be."""
    parser = argparse.ArgumentParser(
        prog="bench.run", description="Loads a Headgate of its own and prints what that cost."
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of load per round (default 20)")
    parser.add_argument(
        "--users", type=int, default=100, help="locust's users, or wrk's connections (default 100)"
    )
    parser.add_argument(
        "--think",
        type=float,
        default=0.3,
        metavar="S",
        help="mean seconds between a user's events (default 0.3)",
    )
    parser.add_argument("--generator", choices=("locust", "wrk"), help="default: locust; with --compare: wrk")
    parser.add_argument("--processes", type=int, default=1, help="of locust, or wrk's threads (default 1)")
    parser.add_argument(
        "--sources", type=int, default=8, help="sources, each with a key and an origin (default 8)"
    )
    parser.add_argument(
        "--rate", type=int, default=RATE, help="requests per second of each source (default: no limit)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the visitors and their events (default 1)")
    parser.add_argument("--frontends", type=int, help="frontend processes (default: one per core)")
    parser.add_argument("--publishers", type=int, help="publisher processes (default 1)")
    parser.add_argument("--mode", choices=("development", "production"), default="development")
    log = parser.add_mutually_exclusive_group()
    log.add_argument("--mock-kafka", action="store_true", help="log to librdkafka's mock broker")
    log.add_argument("--kafka", metavar="HOST:PORT", help="log to this Kafka (topics are made there)")
    parser.add_argument("--compare", action="store_true", help="rounds in turns with a bare granian server")
    parser.add_argument("--rounds", type=int, default=3, help="of a comparison (default 3)")
    parser.add_argument(
        "--json", metavar="FILE", help="figures as JSON; - for stdout (tables go to stderr then)"
    )
    given = parser.parse_args(argv)
    bounds = (
        ("--seconds", given.seconds, 1, SECONDS_MAX),
        ("--users", given.users, 1, USERS_MAX),
        ("--sources", given.sources, 1, SOURCES_MAX),
        ("--rounds", given.rounds, 1, 100),
        ("--processes", given.processes, 1, 64),
        ("--think", given.think, 0, 3600),
        ("--rate", given.rate, 1, 10**9),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            parser.error(f"{name} must be between {least:g} and {most:g}")
    return given


def plan(given: argparse.Namespace) -> Plan:
    """What the command line comes to."""
    overrides = {"HEADGATE_MODE": given.mode}
    if given.frontends:
        overrides["HEADGATE_FRONTEND__COUNT"] = str(given.frontends)
    if given.publishers:
        overrides["HEADGATE_PUBLISHER__COUNT"] = str(given.publishers)
    if given.kafka:
        overrides["HEADGATE_KAFKA__BROKERS"] = given.kafka
    generator: Generator
    if (given.generator or ("wrk" if given.compare else "locust")) == "wrk":
        generator = Wrk(given.users, given.processes, given.seed)
    else:
        generator = Locust(given.users, given.processes, given.think, given.seed)
    return Plan(
        given.seconds,
        given.sources,
        given.rounds,
        given.compare,
        generator,
        overrides,
        given.mock_kafka,
        given.rate,
    )


def measure(todo: Plan, folder: Path, console: Console) -> tuple[dict[str, Any], list[str]]:
    """Do it; gives the figures, and what was wrong."""
    with contextlib.ExitStack() as running:
        overrides = dict(todo.overrides)
        where = (
            f"Kafka at {overrides['HEADGATE_KAFKA__BROKERS']}"
            if "HEADGATE_KAFKA__BROKERS" in overrides
            else "local log"
        )
        if todo.mock_kafka:
            mock = running.enter_context(
                Child("mock-kafka", [sys.executable, "-m", "bench.mock_kafka"], folder, answers=True)
            )
            overrides["HEADGATE_KAFKA__BROKERS"] = mock.answer()["mock_kafka"]
            where = "mock Kafka (librdkafka's mock broker, nothing is synced)"
        console.print(f"starting Headgate; log: {where}")
        headgate = running.enter_context(Headgate(folder, overrides))
        sources = [headgate.create_source(n, rate=todo.rate, burst=todo.rate) for n in range(todo.sources)]
        about = {"log": where, "machine": machine(), "plan": _about(todo)}
        if todo.compare:
            figures, wrong = _compare(todo, folder, console, headgate, sources)
        else:
            console.print(f"{todo.generator} for {todo.seconds:g} s")
            result = _load(todo, folder, headgate, sources, 0)
            show(console, result)
            figures, wrong = as_json(result), result.wrong
        errors = headgate.errors()
        for line in errors[:ERRORS_SHOWN]:
            console.print(f"[red]in its log:[/] {escape(line)}")
        return {**about, **figures, "log_errors": errors}, wrong + errors


def _load(todo: Plan, folder: Path, headgate: Headgate, sources: list[Source], number: int) -> Result:
    before = headgate.counts_at_rest()
    with Watch(headgate) as watch:
        load = todo.generator.run(headgate.url, sources, folder, todo.seconds, number)
    events = headgate.counts_at_rest().since(before)
    wrong = judge(load, events)
    wrong += [
        f"{role}: {count} process(es) ended during the run" for role, count in watch.used.replaced.items()
    ]
    return Result(load, watch.used, events, wrong)


def _compare(
    todo: Plan, folder: Path, console: Console, headgate: Headgate, sources: list[Source]
) -> tuple[dict[str, Any], list[str]]:
    """Rounds in turns, so that what else the machine does meets both."""
    rounds: list[Round] = []
    wrong: list[str] = []
    with Child("noop", [sys.executable, "-m", "bench.noop"], folder, answers=True) as noop:
        url = noop.answer()["noop"]
        process = psutil.Process(noop.pid)
        console.print(
            f"{todo.rounds} rounds of {todo.generator}, {todo.seconds:g} s each, with one to warm up"
        )
        for number in range(todo.rounds + 1):
            before = _cpu_s(process)
            load = todo.generator.run(url, sources, folder, todo.seconds if number else 1.0, 2 * number)
            bare = Round(UNIT, load, _cpu_s(process) - before)
            result = _load(todo, folder, headgate, sources, 2 * number + 1)
            wrong += result.wrong
            if result.load.failed:
                wrong.append(
                    f"round {number}: {result.load.failed} requests failed, so this is no comparison"
                )
            if number == 0:
                continue
            own = sum(result.used.cpu_s.get(role, 0.0) for role in OWN_ROLES)
            rounds += [
                bare,
                Round("Headgate", result.load, own),
                Round(
                    "Headgate with its stores",
                    result.load,
                    sum(result.used.cpu_s.values()),
                    dict(result.used.cpu_s),
                ),
            ]
    show_rounds(console, rounds, UNIT)
    for line in wrong:
        console.print(f"[red]wrong:[/] {escape(line)}")
    figures = {
        "rounds": [round_json(one) for one in rounds],
        "ratio": {
            who: dict(zip(("least", "lowest_pair", "highest_pair"), ratios(rounds, who, UNIT), strict=True))
            for who in ("Headgate", "Headgate with its stores")
        },
        "wrong": wrong,
    }
    return figures, wrong


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _about(todo: Plan) -> dict[str, Any]:
    return {
        "generator": str(todo.generator),
        "seconds": todo.seconds,
        "sources": todo.sources,
        "settings": todo.overrides,
        # Their names alone: addresses of stores hold passwords.
        "environment": sorted(name for name in os.environ if name.startswith("HEADGATE_")),
    }


def _interrupted(number: int, _: object) -> None:
    # As an exception, so that every `with` ends what it started.
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv: list[str] | None = None) -> int:
    """The command. 0: measured, and nothing is wrong; 1: something is; 2: bad arguments; 130: interrupted."""
    given = arguments(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=given.json == "-", soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    signal.signal(signal.SIGTERM, _interrupted)
    started = time.monotonic()
    try:
        # Not resolved to a long path: Unix sockets live in there, and their names hold 107 bytes.
        with tempfile.TemporaryDirectory(prefix="hg-bench-", ignore_cleanup_errors=True) as folder:
            figures, wrong = measure(plan(given), Path(folder), console)
    except BenchError as error:
        console.print(f"[red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything it started has ended")
        return 130
    console.print(f"done in {time.monotonic() - started:.0f} s")
    if given.json == "-":
        print(json.dumps(figures, indent=2))
    elif given.json:
        Path(given.json).write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
