"""At random: seeds through the mutator."""

from __future__ import annotations

import random

from tests.fuzz.engines.engine import See
from tests.fuzz.inputs.mutator import Mutator
from tests.fuzz.targets.target import Target


def run(target: Target, seeds: list[bytes], inputs: int, seed: int, see: See) -> None:
    """So many inputs: every seed as it is, then new ones, some out of those made before."""
    rng = random.Random(seed)
    mutator = Mutator(rng, target.parts, seeds, target.bytes_max)
    for data in seeds[:inputs]:
        see(data)
    last = seeds[0]
    for _ in range(inputs - len(seeds)):
        # what was made before is sometimes gone on with: that gets further away from the seeds
        last = mutator.mutate(last) if rng.random() < 0.3 else mutator.new()
        see(last)
