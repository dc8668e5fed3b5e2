"""Hypothesis draws the inputs."""

from __future__ import annotations

import random

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.engines.engine import See
from tests.fuzz.inputs import strategies
from tests.fuzz.targets.target import Target

#: Examples of one test. Hypothesis remembers all of a test's, so that none comes twice, and that takes memory.
EXAMPLES_MAX = 2000

#: Tests in a row that draw fewer than half of what they were asked for: there are no more inputs than these.
_POOR_MAX = 3


def run(target: Target, seeds: list[bytes], inputs: int, seed: int, see: See) -> None:
    """So many inputs, in tests of a bounded number of examples, each test with its own seed."""
    rng = random.Random(seed)
    strategy = strategies.inputs(target.parts, seeds, target.bytes_max)
    left = inputs
    poor = 0
    while left and poor < _POOR_MAX:
        drawn = _test(strategy, min(left, EXAMPLES_MAX), rng.getrandbits(64), see)
        poor = poor + 1 if 2 * drawn < min(left, EXAMPLES_MAX) else 0
        left -= drawn
    for _ in range(left):
        see(rng.choice(seeds))


def _test(strategy: hypothesis.strategies.SearchStrategy[bytes], examples: int, seed: int, see: See) -> int:
    drawn = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def test(data: bytes) -> None:
        nonlocal drawn
        if drawn < examples:
            drawn += 1
            see(data)

    test()
    return drawn
