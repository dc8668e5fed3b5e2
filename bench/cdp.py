"""
`python -m bench.cdp`: what an event of ResultFly costs, with and without a contract, against one of Datafly's.

    python -m bench.cdp                       single events, three ways in turns
    python -m bench.cdp --frontends 1
    python -m bench.cdp --seconds 2 --rounds 1

All ways send the same products of a shop's servers, from a known user, over as many connections, in turns, over several
rounds; the least of the rounds counts, as a disturbance only adds. Then the frontend's own part of it, step by step, in
one process without HTTP, stores or log.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import timeit
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.batch import EVENTS, RATE, Turn, judge, of_servers, times_less
from bench.children import ROOT, BenchError
from bench.generators import MARK, Wrk
from bench.instance import OWN_ROLES, Headgate
from bench.payloads import Json
from bench.report import machine
from bench.watch import Watch
from daemon.events import datafly, resultfly
from daemon.events.contract.definition import contract_of
from daemon.events.contract.validator import Validator
from daemon.events.envelope import encode

DATAFLY = "Datafly, by a server"
OPEN = "ResultFly, any properties"
GOVERNED = "ResultFly, under a contract"

#: What `bench.payloads.item` makes.
PRODUCT: Json = {
    "properties": {
        "product_id": {"type": "string", "required": True},
        "name": {"type": "string", "required": True},
        "brand": {"type": "string"},
        "price": {"type": "number", "required": True},
        "quantity": {"type": "integer"},
        "category": {"type": "string"},
        "position": {"type": "integer"},
    }
}
CONTRACTS: dict[str, Json] = {
    "product_seen": PRODUCT,
    "anything": {"properties": {}, "additionalProperties": "allow"},
}
#: How often a step is timed, and each time how many times it is done.
REPEATS, TIMES = 7, 20_000


def bodies(seed: int, count: int) -> dict[str, list[tuple[str, str]]]:
    """Way → (path, body with MARK as the event's own id): the same users and properties by every way."""
    made: dict[str, list[tuple[str, str]]] = {DATAFLY: [], OPEN: [], GOVERNED: []}
    for event in itertools.islice(of_servers(random.Random(seed)), count):
        made[DATAFLY].append(("/v1/track", _text({**event, "messageId": MARK})))
        for way, event_type in ((OPEN, "anything"), (GOVERNED, "product_seen")):
            cdp = {
                "source": "shop.backend",
                "externalEventId": MARK,
                "eventType": event_type,
                "identity": {"externalUserId": event["userId"]},
                "properties": event["properties"],
            }
            made[way].append(("/v1/cdp/events", _text(cdp)))
    return made


def _text(body: Json) -> str:
    return msgspec.json.encode(body).decode()


def steps(seed: int) -> dict[str, float]:
    """Microseconds of each step on one event in this process, the least of several tries."""
    event_of: dict[str, bytes] = {way: found[0][1].encode() for way, found in bodies(seed, 1).items()}
    body = event_of[GOVERNED]
    event = resultfly.decode(body)
    server_event = datafly.decode_server(event_of[DATAFLY])
    properties = Raw(bytes(event.properties))
    validator = Validator("product_seen", contract_of(PRODUCT))
    contracts = {"product_seen": validator}
    identity = resultfly.identifiers(event, "")
    cdp = resultfly.Received("evt_x", "bench", "server", "2026-02-25T14:30:00.000Z", identity)
    server = datafly.Received(
        "x", "bench", "src", "server", "2026-02-25T14:30:00.000Z", None, None, None, None, {}, {}
    )
    anything: Callable[[Raw], Any] = msgspec.json.Decoder(dict).decode

    def check() -> None:
        resultfly.check_contract(event, contracts)

    timed: dict[str, Callable[[], object]] = {
        "Datafly: decode and check": lambda: datafly.decode_server(event_of[DATAFLY]),
        "Datafly: envelope": lambda: encode(datafly.to_envelope(server_event, server)),
        "ResultFly: decode and check": lambda: resultfly.decode(body),
        "ResultFly: identity": lambda: resultfly.identifiers(event, ""),
        "ResultFly: contract": check,
        "ResultFly: event_id": lambda: resultfly.event_id("bench", event.source, event.externalEventId),
        "ResultFly: envelope": lambda: encode(resultfly.to_envelope(event, cdp)),
        "(its properties as a dict, for comparison)": lambda: anything(properties),
    }
    return {
        name: 1e6 * min(timeit.repeat(step, number=TIMES, repeat=REPEATS)) / TIMES
        for name, step in timed.items()
    }


def measure(given: argparse.Namespace, folder: Path, console: Console) -> tuple[list[Turn], list[str]]:
    """All rounds; gives the turns, and what was wrong."""
    # What stores events would only take CPU from the rest.
    overrides = {"HEADGATE_PROCESSOR__COUNT": "0"}
    if given.frontends:
        overrides["HEADGATE_FRONTEND__COUNT"] = str(given.frontends)
    turns: list[Turn] = []
    wrong: list[str] = []
    with contextlib.ExitStack() as running:
        headgate = running.enter_context(Headgate(folder, overrides))
        source = headgate.create_source(0, rate=RATE, burst=RATE)
        cdp_key = _cdp_key(headgate)
        prepared: dict[str, Path] = {}
        for number, (way, found) in enumerate(bodies(given.seed, EVENTS).items()):
            key = source.key if way == DATAFLY else cdp_key
            prepared[way] = folder / f"way-{number}.tsv"
            prepared[way].write_text("".join(f"{path}\t{key}\t{body}\n" for path, body in found), "utf-8")
        console.print(f"{given.rounds} rounds of {given.seconds:g} s each way, and one to warm up")
        for number in range(given.rounds + 1):
            for place, way in enumerate(prepared):
                serial = len(prepared) * number + place + 1
                turn, faults = _turn(headgate, way, prepared[way], folder, given, serial)
                wrong += faults
                if number:
                    turns.append(turn)
        wrong += headgate.errors()
    return turns, wrong


def _cdp_key(headgate: Headgate) -> str:
    """A key of a tenant whose contracts are in force."""
    args = ["--kind", "cdp", "--tenant", "bench", "--rate", str(RATE), "--burst", str(RATE)]
    scopes = [part for scope in resultfly.SCOPES for part in ("--scope", scope)]
    key = str(headgate.command("keys", "create", *args, *scopes)["api_key"])
    for event_type, contract in CONTRACTS.items():
        request = urllib.request.Request(
            f"{headgate.url}/v1/cdp/contracts/{event_type}",
            msgspec.json.encode(contract),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=10):
            pass
    return key


def _turn(
    headgate: Headgate, way: str, prepared: Path, folder: Path, given: argparse.Namespace, number: int
) -> tuple[Turn, list[str]]:
    before = headgate.counts_at_rest()
    with Watch(headgate) as watch:
        load = Wrk(given.connections, 1, given.seed).send(
            headgate.url, ROOT / "bench/batch.lua", prepared, folder, given.seconds, number
        )
        events = headgate.counts_at_rest().since(before)
    # while contracts come into force, the warm-up may be refused
    wrong = [] if number <= 3 else judge(way, load.answered, load.maybe, load.failed, events, 1)
    return Turn(way, events.received, load.requests, load.seconds, dict(watch.used.cpu_s)), wrong


def show(console: Console, turns: Sequence[Turn], timed: dict[str, float]) -> None:
    """The figures, for people."""
    table = Table(title="CPU per event", title_justify="left", box=box.SIMPLE)
    table.add_column("way")
    for name in ("events", "events per s", "frontend µs", "publisher µs", "Headgate µs", "with stores µs"):
        table.add_column(name, justify="right")
    for one in turns:
        costs = [one.cpu_us_per_event(roles) for roles in (("frontend",), ("publisher",), OWN_ROLES, None)]
        table.add_row(one.way, str(one.events), f"{one.events_per_s:.0f}", *(f"{cost:.2f}" for cost in costs))
    console.print(table)
    for way, than in ((OPEN, DATAFLY), (GOVERNED, DATAFLY), (GOVERNED, OPEN)):
        # how many times less the other costs is how many times more this one does
        times = times_less(turns, than, way, OWN_ROLES)
        console.print(f"{way}: {times:.2f} times the CPU of {than}")
    single = Table(title="Steps, by themselves", title_justify="left", box=box.SIMPLE)
    single.add_column("step")
    single.add_column("µs", justify="right")
    for name, micros in timed.items():
        single.add_row(name, f"{micros:.2f}")
    console.print(single)


def figures(turns: Sequence[Turn], timed: dict[str, float]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "machine": machine(),
        "turns": [
            {
                "way": one.way,
                "events": one.events,
                "events_per_s": one.events_per_s,
                "cpu_us_per_event": one.cpu_us_per_event(OWN_ROLES),
                "cpu_s": one.cpu_s,
            }
            for one in turns
        ],
        "steps_us": timed,
    }


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line. Ends the process (2) on what it can't be."""
    parser = argparse.ArgumentParser(
        prog="bench.cdp", description="CPU per event of ResultFly and of Datafly, in the same run."
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of load per turn (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="of wrk (default 64)")
    parser.add_argument("--frontends", type=int, default=0, help="frontend processes (default: one per core)")
    parser.add_argument("--seed", type=int, default=1, help="of the events (default 1)")
    parser.add_argument("--json", metavar="FILE", help="figures as JSON too; - for stdout")
    given = parser.parse_args(argv)
    bounds = (
        ("--seconds", given.seconds, 1, 600),
        ("--rounds", given.rounds, 1, 100),
        ("--connections", given.connections, 1, 1000),
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
        timed = steps(given.seed)
    except BenchError as error:
        console.print(f"[red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything it started has ended")
        return 130
    show(console, turns, timed)
    for line in wrong:
        console.print(f"[red]wrong:[/] {escape(line)}")
    text = json.dumps(figures(turns, timed), indent=2) + "\n"
    if given.json == "-":
        sys.stdout.write(text)
    elif given.json:
        Path(given.json).write_text(text, "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
