"""
`python -m bench.micro`: what the single steps of an event's way cost, so that a regression has an address.

    .venv/bin/python -m bench.micro                    all of them, half a minute
    .venv/bin/python -m bench.micro --only Kafka       those whose name has this in it
    .venv/bin/python -m bench.micro --no-stores        without Valkey
    .venv/bin/python -m bench.micro --json before.json the figures for a script

Steps without a server: the least wall time of 15 rounds. Steps with Valkey (one of the bench's own): the least CPU of
7 rounds, ours and the server's. Every step is a call of what Headgate itself calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench.micro import steps, stores
from bench.report import machine


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line. Ends the process (2) on what it can't be."""
    parser = argparse.ArgumentParser(
        prog="bench.micro", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="steps whose group or name has this in it")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each step (default 0.5)")
    parser.add_argument("--seed", type=int, default=1, help="of the events (default 1)")
    parser.add_argument("--no-stores", action="store_true", help="without the steps that need Valkey")
    parser.add_argument("--json", metavar="FILE", help="figures as JSON too; - for stdout")
    given = parser.parse_args(argv)
    if not 0.01 <= given.seconds <= 60:
        parser.error("--seconds must be between 0.01 and 60")
    return given


def show(console: Console, costs: list[steps.Cost], store_costs: list[stores.StoreCost]) -> None:
    """The figures, for people."""
    for group in dict.fromkeys(cost.group for cost in costs):
        table = Table(title=group, title_justify="left", box=box.SIMPLE)
        table.add_column("step")
        table.add_column("µs per event", justify="right")
        table.add_column("µs per call", justify="right")
        for cost in costs:
            if cost.group == group:
                table.add_row(cost.step, f"{cost.event_us:.3f}", f"{cost.call_us:.2f}")
        console.print(table)
    if store_costs:
        table = Table(title="Redis, CPU", title_justify="left", box=box.SIMPLE)
        table.add_column("step")
        table.add_column("ours, µs per event", justify="right")
        table.add_column("Valkey's, µs per event", justify="right")
        for one in store_costs:
            table.add_row(one.step, f"{one.ours_us:.2f}", f"{one.server_us:.2f}")
        console.print(table)


def figures(costs: list[steps.Cost], store_costs: list[stores.StoreCost]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "machine": machine(),
        "steps": [cost._asdict() | {"event_us": cost.event_us} for cost in costs],
        "stores": [one._asdict() for one in store_costs],
    }


def main(argv: list[str] | None = None) -> int:
    """The command. 0: measured; 2: bad arguments, or no step has that name; 130: interrupted."""
    given = arguments(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=given.json == "-", soft_wrap=True)
    wanted = [step for step in steps.steps(given.seed) if given.only in f"{step.group} {step.name}"]
    store_costs: list[stores.StoreCost] = []
    try:
        costs = [steps.measure(step, given.seconds) for step in wanted]
        if not given.no_stores and given.only in "Redis":
            with (
                tempfile.TemporaryDirectory(prefix="hgb-", dir="/tmp") as folder,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                store_costs = runner.run(stores.measure(Path(folder), given.seconds))
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything it started has ended")
        return 130
    if not costs and not store_costs:
        console.print(f"no step has {given.only!r} in its name", markup=False)
        return 2
    show(console, costs, store_costs)
    text = json.dumps(figures(costs, store_costs), indent=2) + "\n"
    if given.json == "-":
        sys.stdout.write(text)
    elif given.json:
        Path(given.json).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
