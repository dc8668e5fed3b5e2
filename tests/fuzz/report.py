"""A run in words: for the terminal, and as a page that can be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.fuzz.result import MIB, Result, growth

#: Outcomes of one line.
_OUTCOMES_MAX = 12


def problems(results: Iterable[Result]) -> list[str]:
    """All that was found, a line each; nothing where all promises were kept."""
    lines = []
    for result in results:
        where = f"{result.engine} {result.target}"
        lines += [f"{where}: {found.key} ({found.times}×)" for found in result.found]
        lines += [f"{where}: memory grew: {words}" for words in growth(result)]
    return lines


def page(results: Sequence[Result], *, command: str, took_s: float, told: Sequence[str], guided: bool) -> str:
    """Markdown: what was run, inputs by engine, outcomes and growth by target, what was found."""
    whole = sum(result.inputs for result in results)
    found = problems(results)
    lines = [
        f"`{command}`: {whole:,} inputs in {took_s / 60:.1f} minutes, "
        + (f"{len(found)} found." if found else "nothing found: no 5xx, no crash, no growth."),
        ""
        if guided
        else "\natheris is not installed here: its part was done by the mutator, without coverage.",
        "",
        "| engine | inputs |",
        "|---|---:|",
    ]
    by_engine: Counter[str] = Counter()
    for result in results:
        by_engine[result.engine] += result.inputs
    lines += [f"| {engine} | {count:,} |" for engine, count in by_engine.items()]
    lines += ["", *_targets(results), "", *_front(results), *told]
    if found:
        lines += ["", "Found:", "", *(f"- {one}" for one in found)]
    return "\n".join(lines) + "\n"


def _targets(results: Sequence[Result]) -> list[str]:
    """A line for each target, its engines together."""
    lines = [
        "| target | inputs | outcomes | slowest, CPU | growth with new inputs | with known ones |",
        "|---|---:|---|---:|---:|---:|",
    ]
    by_target: dict[str, list[Result]] = {}
    for result in results:
        if result.engine != "http":
            by_target.setdefault(result.target, []).append(result)
    for target, of in by_target.items():
        outcomes: Counter[str] = Counter()
        for result in of:
            outcomes.update(result.outcomes)
        # engines that keep what they have made would be measured, not the target
        blocks = max((one.memory.run_blocks for one in of if one.engine != "drawn"), default=0)
        known = max(one.memory.again_bytes for one in of)
        lines.append(
            f"| {target} | {sum(one.inputs for one in of):,} | {_told(outcomes)} | {max(one.slowest_s for one in of) * 1000:.0f} ms "
            f"| {blocks:+,} blocks | {known / MIB:+.1f} MiB |"
        )
    return lines if len(lines) > 2 else []


def _front(results: Sequence[Result]) -> list[str]:
    """Requests by endpoint, and their answers."""
    outcomes: dict[str, Counter[str]] = {}
    for result in results:
        if result.engine == "http":
            for name, count in result.outcomes.items():
                kind, _, outcome = name.partition(": ")
                outcomes.setdefault(kind, Counter())[outcome] += count
    if not outcomes:
        return []
    lines = ["| requests | inputs | answers |", "|---|---:|---|"]
    lines += [f"| {kind} | {sum(of.values()):,} | {_told(of)} |" for kind, of in outcomes.items()]
    return [*lines, ""]


def _told(outcomes: Counter[str]) -> str:
    most = outcomes.most_common(_OUTCOMES_MAX)
    rest = sum(outcomes.values()) - sum(count for _, count in most)
    return ", ".join(f"{name} {count:,}" for name, count in most) + (f", others {rest:,}" if rest else "")
