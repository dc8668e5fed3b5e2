"""How a run's inputs are divided: over engines, and over targets by their shares."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

from tests.fuzz.targets.all import TARGETS
from tests.fuzz.targets.target import Target

Engine = Literal["guided", "mutated", "drawn", "flooded", "http"]

#: Each engine's part of a run. Hypothesis takes a hundred times as long for an input as the others; HTTP is asked over a
#: real socket of the whole product. Without atheris the mutator has its part.
PARTS: dict[Engine, float] = {"guided": 0.55, "mutated": 0.05, "drawn": 0.04, "flooded": 0.06, "http": 0.3}

#: No engine that is asked for tries fewer inputs on a target than this.
INPUTS_MIN = 100


class Job(NamedTuple):
    """One engine on one target, with its own seed out of the run's."""

    engine: Engine
    target: str
    inputs: int
    seed: int

    @property
    def name(self) -> str:
        """For files and for people."""
        return f"{self.engine}-{self.target}"


def parts_of(engines: Iterable[Engine], *, guided: bool) -> dict[Engine, float]:
    """Each engine's part of the inputs, in sum 1; `guided` False: there is no atheris here."""
    parts = {engine: PARTS[engine] for engine in PARTS if engine in set(engines)}
    if not guided and "guided" in parts:
        parts["mutated"] = parts.get("mutated", 0.0) + parts.pop("guided")
    whole = sum(parts.values())
    return {engine: part / whole for engine, part in parts.items()}


def jobs(
    inputs: int, seed: int, engines: Iterable[Engine], targets: Iterable[str], *, guided: bool
) -> list[Job]:
    """
    What has to be done for at least `inputs` inputs in all.

    Raises KeyError for a target that there is none of. HTTP is one job, with the target `front`.
    """
    chosen = [TARGETS[name] for name in targets]
    found: list[Job] = []
    for engine, part in parts_of(engines, guided=guided).items():
        if engine == "http":
            found.append(Job(engine, "front", _at_least(inputs * part), _seed(seed, engine, "front")))
        else:
            found += _shared(engine, inputs * part, seed, chosen)
    return found


def _shared(engine: Engine, inputs: float, seed: int, targets: list[Target]) -> list[Job]:
    targets = [target for target in targets if target.floods or engine != "flooded"]
    whole = sum(target.share for target in targets)
    return [
        Job(engine, target.name, _at_least(inputs * target.share / whole), _seed(seed, engine, target.name))
        for target in targets
    ]


def _at_least(inputs: float) -> int:
    return max(INPUTS_MIN, int(-(-inputs // 1)))


def _seed(seed: int, engine: str, target: str) -> int:
    return zlib.crc32(f"{seed}/{engine}/{target}".encode())
