"""From turns to rows: least, median and spread, in microseconds and in units of the bare server."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.cost.turns import Turn
from bench.instance import OWN_ROLES


def row(scenario: str, what: str, turns: Sequence[Turn], noops: Sequence[Turn]) -> dict[str, Any]:
    """
    One scenario's figures. `noops` stand in the same rounds, each right before its turn of `turns`.

    The ratio is that of the least of each, as a disturbance only ever adds; `pairs` are neighbours in time.
    """
    costs = [one.cpu_us(*OWN_ROLES) for one in turns]
    units = [one.cpu_us() for one in noops]
    pairs = sorted(cost / unit for cost, unit in zip(costs, units, strict=True) if unit)
    requests = sum(one.requests for one in turns)
    counters = {name: sum(one.counters.get(name, 0.0) for one in turns) for name in turns[0].counters}
    least = min(range(len(turns)), key=costs.__getitem__)
    return {
        "scenario": scenario,
        "what": what,
        "rounds": len(turns),
        "requests_per_s": _spread([one.requests / one.seconds for one in turns]),
        "events_per_s": _spread([one.events / one.seconds for one in turns]),
        "p50_ms": _spread([1000 * one.p50_s for one in turns]),
        "p99_ms": _spread([1000 * one.p99_s for one in turns]),
        "cpu_us": _spread(costs),
        "cpu_us_by_role": {role: turns[least].cpu_us(role) for role in turns[least].cpu_s},
        "ratio": min(costs) / min(units) if min(units) else 0.0,
        "ratio_pairs": {"least": pairs[0], "median": statistics.median(pairs), "most": pairs[-1]}
        if pairs
        else None,
        "resident_mib": {
            role: max(one.resident.get(role, 0) for one in turns) / 2**20 for role in turns[least].resident
        },
        "redis_trips_per_1000_requests": 1000 * counters.get("redis_trips", 0.0) / requests
        if requests
        else 0.0,
        "key_misses_per_1000_requests": 1000
        * sum(counters.get(name, 0.0) for name in ("keys_from_redis", "keys_from_postgres"))
        / max(1, requests),
        "lease_renewals_per_1000_requests": 1000 * counters.get("lease_renewals", 0.0) / max(1, requests),
        "events_per_frame": counters["frame_records"] / counters["frames"] if counters.get("frames") else 0.0,
        "events_per_tick": counters["tick_events"] / counters["ticks"] if counters.get("ticks") else 0.0,
        "wrong": sorted({text for one in turns for text in one.wrong}),
    }


def unit(noops: Sequence[Turn]) -> dict[str, Any]:
    """The bare server's figures."""
    return {
        "cpu_us": _spread([one.cpu_us() for one in noops]),
        "requests_per_s": _spread([one.requests / one.seconds for one in noops]),
        "p50_ms": _spread([1000 * one.p50_s for one in noops]),
        "p99_ms": _spread([1000 * one.p99_s for one in noops]),
        "resident_mib": max(one.resident["noop"] for one in noops) / 2**20,
        "turns": len(noops),
        "wrong": sorted({text for one in noops for text in one.wrong}),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}


def show(console: Console, title: str, noop: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """The table, for people."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("scenario")
    for name in (
        "events/s", "p50 ms", "p99 ms", "CPU µs/event", "front", "publ", "units", "pairs", "trips/1000", "ev/frame",
        "MiB",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    cost = noop["cpu_us"]
    table.add_row(
        "no-op", f"{noop['requests_per_s']['median']:.0f}", f"{noop['p50_ms']['median']:.1f}",
        f"{noop['p99_ms']['median']:.1f}", _three(cost), "", "", "1", "", "", "", f"{noop['resident_mib']:.0f}",
    )  # fmt: skip
    for one in rows:
        roles, pairs = one["cpu_us_by_role"], one["ratio_pairs"] or {"least": 0.0, "most": 0.0}
        table.add_row(
            one["scenario"], f"{one['events_per_s']['median']:.0f}", f"{one['p50_ms']['median']:.1f}",
            f"{one['p99_ms']['median']:.1f}", _three(one["cpu_us"]), f"{roles.get('frontend', 0):.1f}",
            f"{roles.get('publisher', 0):.1f}", f"{one['ratio']:.2f}", f"{pairs['least']:.2f} to {pairs['most']:.2f}",
            f"{one['redis_trips_per_1000_requests']:.0f}", f"{one['events_per_frame']:.0f}",
            f"{sum(mib for role, mib in one['resident_mib'].items() if role in OWN_ROLES):.0f}",
        )  # fmt: skip
    console.print(table)
    for one in (noop, *rows):
        for text in one["wrong"]:
            console.print(f"[red]wrong:[/] {one.get('scenario', 'no-op')}: {escape(text)}")


def _three(found: dict[str, float]) -> str:
    return f"{found['least']:.1f} ({found['median']:.1f}, {found['most']:.1f})"
