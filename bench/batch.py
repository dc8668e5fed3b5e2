"""
`python -m bench.batch`: what an event costs in a batch, and by itself, on the same Headgate in the same run.

    python -m bench.batch                               500 events a batch, against as many single requests
    python -m bench.batch --items 100 --connections 16
    python -m bench.batch --frontends 1                 the dearest for batches: all single requests share ticks
    python -m bench.batch --mock-kafka                  the log is librdkafka's mock broker

Both ways send the same events, in turns, over several rounds, so that what else the machine does meets both. Each has
as many connections as lets it gather well: single requests many, so that a tick holds many of them; batches a few.
The figure is CPU of Headgate's own processes per event; the least of the rounds counts, as a disturbance only adds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.children import ROOT, BenchError, Child
from bench.generators import MARK, Wrk
from bench.instance import OWN_ROLES, Counts, Headgate, Source
from bench.payloads import CLICKS, TYPES, Json, Visitor, item
from bench.report import machine
from bench.watch import Watch

#: Limits of a batch in the default settings.
ITEMS_MAX = 500

#: Events that are prepared; both ways go through the same ones, over and over.
EVENTS = 10_000

RATE = 1_000_000

#: Type of an event → last part of the browser endpoint's path.
LETTERS = {kind: letter for letter, kind in TYPES.items()}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to send: `name`, and how many connections it gets."""

    name: str
    connections: int


BROWSERS = "one by one, as browsers do"
SERVERS = "one by one, as servers do"
BATCHES = "in batches"


@dataclass(frozen=True, slots=True)
class Turn:
    """One way in one round: events that arrived, requests, seconds of load, and CPU seconds by role."""

    way: str
    events: int
    requests: int
    seconds: float
    cpu_s: dict[str, float]

    def cpu_us_per_event(self, roles: Sequence[str] | None = None) -> float:
        """CPU microseconds of these roles (default: all) per event; 0.0 without any."""
        if not self.events:
            return 0.0
        used = sum(seconds for role, seconds in self.cpu_s.items() if roles is None or role in roles)
        return 1e6 * used / self.events

    @property
    def events_per_s(self) -> float:
        """Events per second of load."""
        return self.events / self.seconds if self.seconds > 0 else 0.0


def times_less(turns: Sequence[Turn], way: str, than: str, roles: Sequence[str] | None = None) -> float:
    """How many times less CPU an event costs by `way` than by `than`: of the least of each; 0.0 without both."""
    mine = [one.cpu_us_per_event(roles) for one in turns if one.way == way and one.events]
    theirs = [one.cpu_us_per_event(roles) for one in turns if one.way == than and one.events]
    if not mine or not theirs or min(mine) <= 0:
        return 0.0
    return min(theirs) / min(mine)


def judge(way: str, answered: int, maybe: int, failed: int, events: Counts, items: int) -> list[str]:
    """What is wrong with a turn; `answered` and `maybe` are requests of `items` events each."""
    wrong = []
    if failed:
        wrong.append(f"{way}: {failed} requests failed")
    if events.in_work != 0:
        wrong.append(f"{way}: received {events.received}, {events.in_work} left at rest")
    if not answered * items <= events.received <= (answered + maybe) * items:
        wrong.append(f"{way}: {answered} requests of {items} events were answered, {events.received} counted")
    if events.outcomes.get("accepted", 0) != events.received:
        others = {name: count for name, count in events.outcomes.items() if count and name != "accepted"}
        wrong.append(f"{way}: not all were accepted: {others}")
    return wrong


def of_browsers(rng: random.Random) -> Iterator[Json]:
    """Events of returning visitors who name themselves, as pages send them: 0.2 to 8 KB."""
    while True:
        visitor = Visitor(rng, "https://shop-0.example")
        anonymous_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        for _ in range(rng.randint(2, 12)):
            members: Json = msgspec.json.decode(visitor.next().body)
            yield {**members, "anonymousId": anonymous_id}


def of_servers(rng: random.Random) -> Iterator[Json]:
    """Events of known users, as a shop's servers send them with an SDK: 0.3 to 0.6 KB."""
    library = {"library": {"name": "analytics-python", "version": "2.4.0"}}
    while True:
        made: Json = {"type": "track", "event": rng.choice(CLICKS), "userId": f"user_{rng.randrange(10**6)}"}
        yield {**made, "properties": item(rng), "context": library, "integrations": {}}


EVENTS_OF = {"servers": of_servers, "browsers": of_browsers}


def bodies(whose: str, seed: int, count: int) -> list[tuple[str, str]]:
    """
    The events that every way sends: (type, body with MARK as messageId).

    The same by every way, so that what differs is the way alone.
    """
    events = itertools.islice(EVENTS_OF[whose](random.Random(seed)), count)
    return [(one["type"], msgspec.json.encode({**one, "messageId": MARK}).decode()) for one in events]


def prepare(folder: Path, key: str, events: Sequence[tuple[str, str]], items: int) -> dict[str, Path]:
    """The requests of every way, one a line, as batch.lua reads them."""
    lines: dict[str, list[str]] = {
        BROWSERS: [f"/v1/{LETTERS[kind]}\t{key}\t{body}" for kind, body in events],
        SERVERS: [f"/v1/{kind}\t{key}\t{body}" for kind, body in events],
        BATCHES: [
            "/v1/batch\t"
            + key
            + '\t{"batch":['
            + ",".join(body for _, body in events[at : at + items])
            + "]}"
            for at in range(0, len(events) - items + 1, items)
        ],
    }
    made = {}
    for number, (way, requests) in enumerate(lines.items()):
        made[way] = folder / f"way-{number}.tsv"
        made[way].write_text("\n".join(requests) + "\n", "utf-8")
    return made


def measure(given: argparse.Namespace, folder: Path, console: Console) -> tuple[list[Turn], list[str]]:
    """All rounds; gives the turns, and what was wrong."""
    overrides = {"HEADGATE_FRONTEND__COUNT": str(given.frontends)} if given.frontends else {}
    ways = [
        Way(BROWSERS, given.connections),
        Way(SERVERS, given.connections),
        Way(BATCHES, given.batch_connections),
    ]
    turns: list[Turn] = []
    wrong: list[str] = []
    with contextlib.ExitStack() as running:
        if given.mock_kafka:
            mock = running.enter_context(
                Child("mock-kafka", [sys.executable, "-m", "bench.mock_kafka"], folder, answers=True)
            )
            overrides["HEADGATE_KAFKA__BROKERS"] = mock.answer()["mock_kafka"]
        headgate = running.enter_context(Headgate(folder, overrides))
        source: Source = headgate.create_source(0, rate=RATE, burst=RATE)
        prepared = prepare(folder, source.key, bodies(given.events, given.seed, EVENTS), given.items)
        console.print(f"{given.rounds} rounds of {given.seconds:g} s each way, and one to warm up")
        for number in range(given.rounds + 1):
            for place, way in enumerate(ways):
                turn, faults = _turn(headgate, way, prepared[way.name], folder, given, 3 * number + place + 1)
                wrong += faults
                if number:
                    turns.append(turn)
        wrong += headgate.errors()
    return turns, wrong


def _turn(
    headgate: Headgate, way: Way, prepared: Path, folder: Path, given: argparse.Namespace, number: int
) -> tuple[Turn, list[str]]:
    before = headgate.counts_at_rest()
    with Watch(headgate) as watch:
        load = Wrk(way.connections, 1, given.seed).send(
            headgate.url, ROOT / "bench/batch.lua", prepared, folder, given.seconds, number
        )
        # What wrk dropped at the end of its time is still in work, and counted: so is its CPU.
        events = headgate.counts_at_rest().since(before)
    wrong = judge(
        way.name, load.answered, load.maybe, load.failed, events, given.items if way.name == BATCHES else 1
    )
    return Turn(way.name, events.received, load.requests, load.seconds, dict(watch.used.cpu_s)), wrong


def show(console: Console, turns: Sequence[Turn], items: int) -> None:
    """The figures, for people."""
    table = Table(title=f"CPU per event; batches hold {items}", title_justify="left", box=box.SIMPLE)
    table.add_column("way")
    for name in ("events", "events per s", "frontend µs", "publisher µs", "Headgate µs", "with stores µs"):
        table.add_column(name, justify="right")
    for one in turns:
        costs = [one.cpu_us_per_event(roles) for roles in (("frontend",), ("publisher",), OWN_ROLES, None)]
        table.add_row(one.way, str(one.events), f"{one.events_per_s:.0f}", *(f"{cost:.2f}" for cost in costs))
    console.print(table)
    for than in (SERVERS, BROWSERS):
        own, whole = times_less(turns, BATCHES, than, OWN_ROLES), times_less(turns, BATCHES, than)
        console.print(f"{BATCHES}, against {than}: {own:.1f} times less CPU (with stores: {whole:.1f})")


def figures(turns: Sequence[Turn]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "machine": machine(),
        "turns": [
            {
                "way": one.way,
                "events": one.events,
                "requests": one.requests,
                "events_per_s": one.events_per_s,
                "cpu_us_per_event": one.cpu_us_per_event(OWN_ROLES),
                "cpu_us_per_event_with_stores": one.cpu_us_per_event(),
                "cpu_s": one.cpu_s,
            }
            for one in turns
        ],
        "times_less": {than: times_less(turns, BATCHES, than, OWN_ROLES) for than in (SERVERS, BROWSERS)},
    }


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line. Ends the process (2) on what it can't be."""
    parser = argparse.ArgumentParser(
        prog="bench.batch", description="CPU per event in batches and in single requests, in the same run."
    )
    parser.add_argument(
        "--items", type=int, default=ITEMS_MAX, help=f"events of a batch (default {ITEMS_MAX})"
    )
    parser.add_argument(
        "--events", choices=sorted(EVENTS_OF), default="servers", help="whose events (default servers)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of load per turn (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="of single requests (default 64)")
    parser.add_argument("--batch-connections", type=int, default=2, help="of batches (default 2)")
    parser.add_argument("--frontends", type=int, default=0, help="frontend processes (default: one per core)")
    parser.add_argument("--seed", type=int, default=1, help="of the visitors and their events (default 1)")
    parser.add_argument("--mock-kafka", action="store_true", help="log to librdkafka's mock broker")
    parser.add_argument("--json", metavar="FILE", help="figures as JSON too; - for stdout")
    given = parser.parse_args(argv)
    bounds = (
        ("--items", given.items, 1, ITEMS_MAX),
        ("--seconds", given.seconds, 1, 600),
        ("--rounds", given.rounds, 1, 100),
        ("--connections", given.connections, 1, 1000),
        ("--batch-connections", given.batch_connections, 1, 1000),
        ("--frontends", given.frontends, 0, 64),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            parser.error(f"{name} must be between {least:g} and {most:g}")
    return given


def main(argv: list[str] | None = None) -> int:
    """The command. 0: measured, and nothing is wrong; 1: something is; 2: bad arguments; 130: interrupted."""
    given = arguments(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=given.json == "-", soft_wrap=True)
    if not console.is_terminal:
        console.width = 130
    try:
        with tempfile.TemporaryDirectory(prefix="hg-bench-", ignore_cleanup_errors=True) as folder:
            turns, wrong = measure(given, Path(folder), console)
    except BenchError as error:
        console.print(f"[red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything it started has ended")
        return 130
    show(console, turns, given.items)
    for line in wrong:
        console.print(f"[red]wrong:[/] {escape(line)}")
    if given.json == "-":
        print(json.dumps(figures(turns), indent=2))
    elif given.json:
        Path(given.json).write_text(json.dumps(figures(turns), indent=2) + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
