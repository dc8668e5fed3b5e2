"""
atheris: inputs that reach new branches of the product's code are kept and gone on with.

libFuzzer decides; half of its mutations are ours, which know the target's grammar, half its own. Where atheris can't
be imported (there are no wheels for this machine) `available` is False.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.engines.engine import See
from tests.fuzz.inputs.mutator import Mutator
from tests.fuzz.targets.target import Target

#: Packages whose branches are looked at.
WATCHED = ("daemon",)


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def watch() -> None:
    """Instrument what is imported from now on: to be called before a target is."""
    import atheris

    with atheris.instrument_imports(include=list(WATCHED)):
        import tests.fuzz.targets.all  # noqa: F401  for what it imports


def run(
    target: Target,
    seeds: list[bytes],
    inputs: int,
    seed: int,
    see: See,
    folder: Path,
    finish: Callable[[], None],
) -> None:
    """So many inputs, then `finish`, and the end of the process: libFuzzer never comes back. `folder` holds its corpus."""
    import atheris

    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (folder / f"{number:04}").write_bytes(data)
    rng = random.Random(seed)
    mutator = Mutator(rng, target.parts, seeds, target.bytes_max)
    left = inputs

    def one(data: bytes) -> None:
        nonlocal left
        see(data)
        left -= 1
        if left <= 0:
            finish()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def mutated(data: bytes, bytes_max: int, chance: int) -> bytes:
        if chance % 2:
            return bytes(atheris.Mutate(data, bytes_max))
        rng.seed(chance)
        return mutator.mutate(data)[:bytes_max]

    options = [f"-seed={seed % 2**32 or 1}", f"-max_len={target.bytes_max}", "-len_control=0", "-verbosity=0",
               "-timeout=120", "-rss_limit_mb=4096", "-handle_abrt=0", f"-artifact_prefix={folder}-", str(folder)]  # fmt: skip
    atheris.Setup(["fuzz", *options], one, custom_mutator=mutated, enable_python_coverage=True)
    atheris.Fuzz()
