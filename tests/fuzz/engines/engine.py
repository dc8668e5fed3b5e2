"""
What an engine is: a way to come by inputs for one target, one process each.

    mutated   the structure-aware mutator over the seeds, at random
    guided    atheris: the same mutator and libFuzzer's, steered to branches that were not seen before
    drawn     Hypothesis draws from the target's grammar
    flooded   every text of every seed, filled up with what regular expressions and parsers repeat over

Each ends with exactly as many inputs as it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

#: Takes one input.
See = Callable[[bytes], None]
