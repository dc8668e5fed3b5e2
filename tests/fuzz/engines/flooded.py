"""
What makes a regular expression or a parser take for ever: one thing said again and again.

Every text of every seed is filled with every filler, up to what a body or a head may hold. The judge counts the CPU
time: what grows with the square of the size takes seconds here.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from tests.fuzz.engines.engine import See
from tests.fuzz.inputs.grammar import Grammar, join, split
from tests.fuzz.inputs.tree import Bits, parse, spots, write
from tests.fuzz.inputs.words import FILLERS
from tests.fuzz.targets.target import Target

#: Bytes of a flood: a quarter of what a body may hold by default, and more than a head may.
FLOOD_BYTES = 128 * 1024


def run(target: Target, seeds: list[bytes], inputs: int, seed: int, see: See) -> None:
    """So many of all floods there are, in an order that the seed decides; from the beginning again when they are few."""
    rng = random.Random(seed)
    floods = list(_floods(target, seeds))
    rng.shuffle(floods)
    for number, place, filler in itertools.islice(itertools.cycle(floods), inputs):
        see(_flooded(target, seeds[number], place, filler))


#: Number of the part and of the text in it; -1: the part as a whole.
_Place = tuple[int, int]


def _floods(target: Target, seeds: list[bytes]) -> Iterator[tuple[int, _Place, str]]:
    for number, data in enumerate(seeds):
        parts = split(data, len(target.parts))
        for part, grammar in enumerate(target.parts):
            for text in _texts(parts[part], grammar):
                for filler in FILLERS:
                    yield number, (part, text), filler


def _texts(part: bytes, grammar: Grammar) -> range:
    tree, known = parse(part) if grammar.form == "json" else (None, False)
    return range(-1, len(spots([tree])) if known else 0)


def _flooded(target: Target, data: bytes, place: _Place, filler: str) -> bytes:
    parts = split(data, len(target.parts))
    part, text = place
    size = FLOOD_BYTES // len(filler.encode("utf-8", "surrogatepass"))
    if text < 0:
        middle = len(parts[part]) // 2
        flood = (filler * size).encode("utf-8", "surrogatepass")
        parts[part] = parts[part][:middle] + flood + parts[part][middle:]
    else:
        tree, _ = parse(parts[part])
        holder = [tree]
        spot = spots(holder)[text]
        spot.put(Bits(filler.encode() * size) if filler.isdigit() else filler * size)
        parts[part] = write(holder[0], ascii_only=False)
    return join(*parts)
