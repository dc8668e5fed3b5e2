"""
One engine on one target, in a process of its own: `python -m tests.fuzz.process`.

Started by `tests.fuzz.run`, which reads the result file. A process for each, so that a crash of native code ends
nothing else, and what memory it holds is its target's alone.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.result import Found, Memory, Result, encode

if TYPE_CHECKING:
    from tests.fuzz.judge import Judge

#: A part of the inputs that is made before memory is looked at for the first time.
WARM_UP = 0.2


def main() -> None:
    """Run, write the result, end with 0; whether what was found is good or bad is not decided here."""
    options = _options()
    # a hang in native code says where, and then ends the process
    faulthandler.enable()
    if options.engine == "guided":
        from tests.fuzz.engines import guided

        guided.watch()
    from tests.fuzz import corpus, growth
    from tests.fuzz.blackbox import BlackBox
    from tests.fuzz.judge import Judge
    from tests.fuzz.targets.all import TARGETS

    target = TARGETS[options.target]
    seeds = list(corpus.seeds(target.name).values())
    judge = Judge(target)
    box = BlackBox(options.result.with_suffix(".box"))
    sample = growth.Sample(random.Random(options.seed))
    warm_at = int(options.inputs * WARM_UP)
    warm: list[growth.Held] = []
    growth.limit_memory()

    def see(data: bytes) -> None:
        box.note(judge.inputs + 1, data)
        judge.see(data)
        sample.see(data)
        if judge.inputs == warm_at:
            warm.append(growth.Held.now())

    def finish() -> None:
        end = growth.Held.now()
        start = warm[0] if warm else end

        def again(data: bytes) -> None:
            with contextlib.suppress(Exception):  # it was judged the first time
                target.run(data)

        before, after = growth.soaked(again, sample.inputs)
        memory = Memory(
            end.rss_bytes - start.rss_bytes,
            end.blocks - start.blocks,
            after.rss_bytes - before.rss_bytes,
            after.blocks - before.blocks,
        )
        options.result.write_bytes(encode(_result(judge, options, memory)))

    if options.engine == "guided":
        from tests.fuzz.engines import guided

        guided.run(
            target, seeds, options.inputs, options.seed, see, options.result.with_suffix(".corpus"), finish
        )
        sys.exit("libFuzzer came back before its time")
    from tests.fuzz.engines import drawn, flooded, mutated

    engine = {"mutated": mutated, "drawn": drawn, "flooded": flooded}[options.engine]
    engine.run(target, seeds, options.inputs, options.seed, see)
    finish()


def _result(judge: Judge, options: argparse.Namespace, memory: Memory) -> Result:
    from tests.fuzz.judge import shrunk

    found = []
    for failure in judge.failures.values():
        # what takes long is not tried thousands of times
        tries = 40 if failure.key == "slow" else 2000
        data = shrunk(failure.data, lambda shorter, key=failure.key: judge.key_of(shorter) == key, tries)  # type: ignore[misc]
        found.append(Found.of(failure.key, failure.about, data, failure.times))
    return Result(
        options.engine, options.target, options.seed, judge.inputs, dict(judge.outcomes.most_common()), found,
        judge.slowest_s, memory,
    )  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--engine", required=True, choices=["guided", "mutated", "drawn", "flooded"])
    parser.add_argument("--inputs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True, help="file for the result, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
