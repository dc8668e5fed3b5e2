"""
`python -m bench.cost` (`make bench-cost`): what an event costs, in units of a bare server's request.

    make bench-cost                                           all scenarios, mock broker; then real Kafka
    make bench-cost BENCH_ARGS='--scenario single batch-100'  these alone
    make bench-cost BENCH_ARGS='--rounds 5 --seconds 6'       more of it
    make bench-cost BENCH_ARGS='--no-kafka --json figures.json'
    make bench-cost BENCH_ARGS='--scaling'                    also against keys, connections, size and frontends

The unit is CPU per request of bench/noop.py: granian with one event loop, which reads the body and answers. Every
turn of Headgate has a turn of the bare server right before it, in several rounds, under the same generator (wrk), so
that whatever else the machine does meets both. What is printed is the least (a disturbance only ever adds), and in
brackets the median and the most. The mock broker (librdkafka's) makes the rows comparable; one part of the run is
against a real Kafka (Java 17 and Maven, see scripts/system-packages.sh), with the latency at half of its saturation.

The exit code is 1 when something is wrong (an event was not accepted, a process ended), not when it is slow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.children import BenchError, Child
from bench.cost import figures, idle, limits, scaling
from bench.cost.keys import make_keys
from bench.cost.requests import CONTRACTS, SCENARIOS, SINGLE, Access, Scenario
from bench.cost.turns import Bench, Turn, as_json
from bench.instance import Headgate
from bench.report import machine

#: Requests per second of each source: limits are on, and never reached.
RATE = 1_000_000
SOURCES = 8

#: Against a real Kafka, a broker of its own beside everything else.
KAFKA_SCENARIOS = ("single", "batch-100")

#: Of load at a time, until every key of a scenario with many has been met, seconds.
WARM_S = 10.0

#: Connections of the run at half of the saturation, which pause between requests.
HALF_CONNECTIONS = 64


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. Ends the process (2) on what it can't be."""
    parser = argparse.ArgumentParser(
        prog="bench.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [one.name for one in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", metavar="NAME", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=3, help="that count; one more warms up (default 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load per turn (default 4)")
    parser.add_argument(
        "--noop-seconds", type=float, default=2.0, help="of the bare server's turns (default 2)"
    )
    parser.add_argument("--frontends", type=int, default=1, help="frontend processes (default 1)")
    parser.add_argument("--connections", type=int, help="in place of the scenarios' own numbers")
    parser.add_argument("--no-mock", action="store_true", help="leave the mock broker's part out")
    parser.add_argument("--no-kafka", action="store_true", help="leave the real Kafka's part out")
    parser.add_argument(
        "--no-limits", action="store_true", help="leave out: limits at 4 frontends and 1,000 keys"
    )
    parser.add_argument(
        "--no-idle", action="store_true", help="leave out: 10,000 connections that do nothing"
    )
    parser.add_argument(
        "--scaling", action="store_true", help="also: against keys, connections, size, frontends"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="all figures as JSON; - for stdout (tables go to stderr then)"
    )
    given = parser.parse_args(argv)
    for name, value, least, most in (
        ("--rounds", given.rounds, 1, 100),
        ("--seconds", given.seconds, 1, 600),
        ("--noop-seconds", given.noop_seconds, 1, 600),
        ("--frontends", given.frontends, 1, 64),
        ("--connections", given.connections or 1, 1, 10_000),
    ):
        if not least <= value <= most:
            parser.error(f"{name} must be between {least:g} and {most:g}")
    return given


class Run:
    """The whole of it."""

    def __init__(self, given: argparse.Namespace, folder: Path, console: Console) -> None:
        self._given = given
        self._folder = folder
        self._console = console
        self._bench = Bench(folder, given.seconds)
        self._scenarios = [one for one in SCENARIOS if given.scenario is None or one.name in given.scenario]
        self.wrong: list[str] = []

    def all(self) -> dict[str, Any]:
        """Every part; gives the figures."""
        found: dict[str, Any] = {"machine": machine(), "arguments": vars(self._given), "parts": {}}
        with Child("noop", [sys.executable, "-m", "bench.noop"], self._folder, answers=True) as noop:
            where = noop.answer()["noop"], noop.pid
            if not self._given.no_mock:
                with Child(
                    "mock-kafka", [sys.executable, "-m", "bench.mock_kafka"], self._folder, answers=True
                ) as mock:
                    broker = mock.answer()["mock_kafka"]
                    found["parts"]["mock"] = self._part("mock broker", "mock", broker, self._scenarios, where)
                    if self._given.scaling:
                        found["scaling"] = {
                            axis.name: self._axis(axis, broker, where) for axis in scaling.AXES
                        }
            if not self._given.no_kafka:
                found["parts"]["kafka"] = self._kafka(where)
        if not self._given.no_limits:
            found["limits"] = self._alone("limits", limits.measure)
        if not self._given.no_idle:
            found["idle"] = self._alone("idle", idle.measure)
        return found

    def _alone(self, name: str, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """A measurement with a Headgate of its own settings."""
        folder = self._folder / name
        folder.mkdir()
        found = measure(folder)
        self.wrong += found["wrong"]
        said = (f"{key} {_short(value)}" for key, value in found.items() if key != "wrong")
        self._console.print(f"{name}: {', '.join(said)}")
        return found

    def _axis(self, axis: scaling.Axis, broker: str, noop: tuple[str, int]) -> dict[str, Any]:
        """The cost at each point of an axis."""
        rows = []
        for number, group in enumerate(axis.groups):
            scenarios = [point.scenario for point in group.points]
            name = f"scaling-{axis.name}-{number}"
            part = self._part(axis.title, name, broker, scenarios, noop, frontends=group.frontends)
            rows += [{"at": point.at, **row} for point, row in zip(group.points, part["rows"], strict=True)]
        return {"title": axis.title, "axis": axis.unit, "rows": rows}

    def _kafka(self, noop: tuple[str, int]) -> dict[str, Any] | None:
        # A test's server: it knows how to get Kafka, and where it is not to be had.
        import pytest

        from tests.servers.kafka import KafkaServer

        server = KafkaServer(self._folder / "broker")
        try:
            asyncio.run(server.start())
        except pytest.skip.Exception as why:
            self._console.print(f"no part against a real Kafka: {escape(str(why))}")
            return None
        try:
            chosen = [one for one in self._scenarios if one.name in KAFKA_SCENARIOS]
            return self._part("real Kafka", "kafka", server.bootstrap, chosen, noop, half=True)
        finally:
            asyncio.run(server.stop())

    def _part(
        self,
        title: str,
        name: str,
        broker: str,
        scenarios: Sequence[Scenario],
        noop: tuple[str, int],
        *,
        half: bool = False,
        frontends: int | None = None,
    ) -> dict[str, Any]:
        given, console = self._given, self._console
        folder = self._folder / name
        folder.mkdir()
        overrides = {
            "HEADGATE_MODE": "development",
            "HEADGATE_FRONTEND__COUNT": str(frontends or given.frontends),
            "HEADGATE_KAFKA__BROKERS": broker,
        }
        turns: dict[str, list[Turn]] = {one.name: [] for one in scenarios}
        noops: dict[str, list[Turn]] = {one.name: [] for one in scenarios}
        console.print(
            f"{title}: {given.rounds} rounds of {len(scenarios)} scenarios, {given.seconds:g} s each"
        )
        with Headgate(folder, overrides) as headgate:
            access = _access(headgate, folder)
            most_keys = max((one.keys for one in scenarios), default=0)
            if most_keys:
                make_keys(folder / "data", most_keys)
            for scenario in scenarios:
                self._meet_all_keys(headgate, scenario, access, name)
            for number in range(given.rounds + 1):
                for scenario in scenarios:
                    seconds = given.noop_seconds if number else 1.0
                    unit = self._bench.noop(*noop, SINGLE, access, number, seconds)
                    turn = self._bench.headgate(headgate, self._sized(scenario), access, number, of=name)
                    self.wrong += [f"{scenario.name}: {text}" for text in (*unit.wrong, *turn.wrong)]
                    if number:
                        noops[scenario.name].append(unit)
                        turns[scenario.name].append(turn)
            found: dict[str, Any] = {"title": title}
            if half and turns.get("single"):
                found["half_of_saturation"] = self._half(headgate, access, turns["single"])
            errors = headgate.errors()
        self.wrong += errors
        rows = [figures.row(one.name, one.what, turns[one.name], noops[one.name]) for one in scenarios]
        unit_found = figures.unit([one for of in noops.values() for one in of])
        figures.show(console, f"{title}; CPU without the stores; least (median, most)", unit_found, rows)
        every = [as_json(one) for of in (*noops.values(), *turns.values()) for one in of]
        return {**found, "noop": unit_found, "rows": rows, "turns": every, "log_errors": errors}

    def _meet_all_keys(self, headgate: Headgate, scenario: Scenario, access: Access, name: str) -> None:
        """Every key once, so that what is measured is many keys, and not their first look-up."""
        met = 0
        while met < scenario.keys > 1:
            turn = self._bench.headgate(headgate, scenario, access, 0, of=name, seconds=WARM_S)
            met += turn.requests
            self.wrong += [f"{scenario.name}, first round: {text}" for text in turn.wrong]
            if not turn.requests:
                raise BenchError(f"{scenario.name}: nothing is answered")

    def _half(self, headgate: Headgate, access: Access, turns: Sequence[Turn]) -> dict[str, Any]:
        """Latency at half of the rate that `turns` reached: connections pause between their requests."""
        saturation = max(one.requests / one.seconds for one in turns)
        scenario = _with_connections(SINGLE, HALF_CONNECTIONS)
        seconds = max(6.0, self._given.seconds)
        latency_s, best = 0.003, None
        for _ in range(3):
            pause_ms = 1000 * max(0.0, HALF_CONNECTIONS / (saturation / 2) - latency_s)
            turn = self._bench.headgate(
                headgate, scenario, access, 0, pause_ms=pause_ms, of="kafka", seconds=seconds
            )
            latency_s = turn.p50_s
            share = turn.requests / turn.seconds / saturation
            if best is None or abs(share - 0.5) < abs(best[0] - 0.5):
                best = (share, turn)
            self.wrong += [f"half: {text}" for text in turn.wrong]
        assert best is not None
        share, turn = best
        self._console.print(
            f"at {share:.0%} of the saturation of {saturation:.0f}/s: p50 {1000 * turn.p50_s:.1f} ms, "
            f"p99 {1000 * turn.p99_s:.1f} ms"
        )
        return {"saturation_per_s": saturation, "share": share, "turn": as_json(turn)}

    def _sized(self, scenario: Scenario) -> Scenario:
        return _with_connections(scenario, self._given.connections or scenario.connections)


def _access(headgate: Headgate, folder: Path) -> Access:
    """Sources, keys and a contract of the bench's own."""
    contracts = folder / "contracts.json"
    contracts.write_text(json.dumps(CONTRACTS), "utf-8")
    headgate.command("contracts", "apply", str(contracts), "--tenant", "bench")
    limits = ("--rate", str(RATE), "--burst", str(RATE))
    merchant = headgate.command("merchants", "create", "--name", "bench")["merchant_id"]
    return Access(
        [headgate.create_source(n, rate=RATE, burst=RATE) for n in range(SOURCES)],
        headgate.command("keys", "create", "--kind", "cdp", "--tenant", "bench", *limits)["api_key"],
        merchant,
        headgate.command("keys", "create", "--kind", "merchant", "--merchant-id", merchant, *limits)[
            "api_key"
        ],
    )


def _with_connections(scenario: Scenario, connections: int) -> Scenario:
    return Scenario(
        scenario.name,
        scenario.what,
        scenario.events,
        connections,
        scenario.make,
        scenario.keys,
        scenario.fresh,
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interrupted(number: int, _: object) -> None:
    # As an exception, so that every `with` ends what it started.
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0: measured, and nothing is wrong; 1: something is; 2: bad arguments; 130: interrupted."""
    given = arguments(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupted)
    console = Console(stderr=given.json == "-", soft_wrap=True)
    if not console.is_terminal:
        console.width = 150
    try:
        with tempfile.TemporaryDirectory(prefix="hg-cost-", ignore_cleanup_errors=True) as folder:
            run = Run(given, Path(folder), console)
            found = run.all()
    except BenchError as error:
        console.print(f"[red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything it started has ended")
        return 130
    found["wrong"] = run.wrong
    text = json.dumps(found, indent=1)
    if given.json == "-":
        with contextlib.suppress(BrokenPipeError):
            print(text)
    elif given.json:
        Path(given.json).write_text(text + "\n", "utf-8")
        console.print(f"figures: {os.path.relpath(given.json)}")
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
