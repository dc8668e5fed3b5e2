"""Every seed, and a short run of each target: the million in small, in every run of the suite."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import corpus
from tests.fuzz.inputs.mutator import Mutator
from tests.fuzz.judge import Judge
from tests.fuzz.targets.all import TARGETS

#: Of each target, in relation to its share of a run.
INPUTS = 600


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_a_short_run(name: str) -> None:
    """No seed breaks a promise, and neither do inputs made out of them."""
    target, seeds = TARGETS[name], corpus.seeds(name)
    judge = Judge(target)
    for data in seeds.values():
        judge.see(data)
    mutator = Mutator(random.Random(f"suite/{name}"), target.parts, list(seeds.values()), target.bytes_max)
    for _ in range(int(INPUTS * target.share)):
        judge.see(mutator.new())
    assert not judge.failures, "\n\n".join(
        f"{failure.key}: {failure.data[:500]!r}\n{failure.about}" for failure in judge.failures.values()
    )
    assert len(judge.outcomes) > 1, f"every input ends the same: {judge.outcomes}"


def test_the_corpus_is_small_and_of_known_targets() -> None:
    """A seed shows one thing; the same bytes stand in one file of a target, and every folder has a target."""
    folders = {folder.name for folder in corpus.FOLDER.iterdir()}
    assert folders == {*TARGETS, "http"}
    for folder in folders:
        seeds = corpus.seeds(folder)
        assert len(seeds) > 2, f"{folder} has no seeds"
        assert all(len(data) <= corpus.SEED_BYTES_MAX for data in seeds.values())
        assert len(set(seeds.values())) == len(seeds), f"{folder} has a seed twice"
