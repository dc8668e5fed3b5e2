"""
New inputs out of old ones, knowing what they are: members are renamed, doubled, emptied and filled, not only bits
flipped.

Seeded, and nothing but the seed and the inputs that are given decides: the same run makes the same inputs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.fuzz.inputs.grammar import MARK, Grammar, join, split
from tests.fuzz.inputs.tree import Bits, Obj, Spot, Tree, nested, parse, spots, write
from tests.fuzz.inputs.words import BYTES, DEPTHS, FILLERS, NUMBERS, SIZES, TEXTS, TIMES

#: Longest run of one filler, in characters.
FLOOD_CHARS_MAX = 16 * 1024
#: Places of an array that is made longer.
SPOTS_MAX = 1500


class Mutator:
    """Makes inputs of one target."""

    def __init__(
        self, rng: random.Random, parts: Sequence[Grammar], seeds: Sequence[bytes], bytes_max: int
    ) -> None:
        """`seeds` are good and bad inputs to start from, at least one; none that is made is over `bytes_max`."""
        self.rng = rng
        self._parts = tuple(parts)
        self._seeds = tuple(seeds)
        self._bytes_max = bytes_max

    def new(self) -> bytes:
        """An input of one of the seeds."""
        return self.mutate(self.rng.choice(self._seeds))

    def mutate(self, data: bytes) -> bytes:
        """An input out of `data`, which may be anything."""
        rng = self.rng
        parts = split(data, len(self._parts))
        number = rng.randrange(len(parts))
        grammar = self._parts[number]
        if grammar.made is not None and rng.random() < 0.5:
            parts[number] = grammar.made(rng)
        for _ in range(1 + (rng.random() < 0.5) + (rng.random() < 0.2) * rng.randrange(6)):
            parts[number] = self._step(parts[number], grammar)
            if len(parts) > 1 and rng.random() < 0.3:
                number = rng.randrange(len(parts))
                grammar = self._parts[number]
        made = join(*parts)
        if rng.random() < 0.02:
            made = self._bytes(made)
        return made[: self._bytes_max]

    def part(self, data: bytes, grammar: Grammar) -> bytes:
        """One part, one step further."""
        return self._step(data, grammar)[: self._bytes_max]

    def _step(self, part: bytes, grammar: Grammar) -> bytes:
        rng = self.rng
        if grammar.form == "json" and rng.random() < 0.85:
            # taking a large document apart costs as much as a hundred small ones
            tree, known = parse(part) if len(part) < 4096 or rng.random() < 0.1 else (None, False)
            if known:
                try:
                    return self._json(tree, grammar)
                except RecursionError:
                    return self._bytes(part)  # it could be read, but is too deep to be written
        if grammar.form == "text" and rng.random() < 0.8:
            return self._text(part.decode("utf-8", "replace"), grammar).encode("utf-8", "surrogatepass")
        return self._bytes(part)

    # --- JSON

    def _json(self, root: Tree, grammar: Grammar) -> bytes:
        rng = self.rng
        holder: list[Tree] = [root]
        found = spots(holder)
        spot = (
            found[min(int(rng.expovariate(0.25)), len(found) - 1)]
            if rng.random() < 0.7
            else rng.choice(found)
        )
        rng.choice(_TREE_STEPS)(self, spot, grammar)
        blank = rng.choice((b" ", b"\n\t", b" " * rng.choice(SIZES[:12]))) if rng.random() < 0.03 else b""
        data = b" ".join(
            write(tree, ascii_only=rng.random() < 0.7, blank=blank if len(found) < 200 else b"")
            for tree in holder
        )
        return self._wrapped(data) if rng.random() < 0.04 else data

    def _wrapped(self, data: bytes) -> bytes:
        """The whole document in odd surroundings."""
        rng = self.rng
        pad = rng.choice((b" ", b"\n", b"\t\r\n")) * rng.choice(SIZES)
        return rng.choice(
            (
                b"\xef\xbb\xbf" + data,
                pad + data,
                data + pad,
                data + data,
                b"[" + data + b"]",
                data + b"\x00",
                data + b"}",
            )
        )

    def _value(self, grammar: Grammar) -> Tree:
        """Some value."""
        rng = self.rng
        kind = rng.random()
        if grammar.values and kind < 0.3:
            return Bits(rng.choice(grammar.values).encode("utf-8", "surrogatepass"))
        if kind < 0.5:
            return Bits(rng.choice(NUMBERS).encode())
        if kind < 0.65:
            return rng.choice(TEXTS)
        if kind < 0.72:
            return rng.choice(TIMES)
        if kind < 0.8:
            return self._flood()
        if kind < 0.88:
            return rng.choice((None, True, False, "", []))
        if kind < 0.92:
            return Obj()
        if kind < 0.95:
            return nested(rng, rng.choice(DEPTHS), rng.choice((b"1", b'"a"', b"", b"{}")))
        if kind < 0.98:
            return Obj([(self._name(grammar), rng.choice(TEXTS)) for _ in range(rng.randrange(8))])
        return [rng.choice(TEXTS) for _ in range(rng.choice((1, 1, 2, 2, 3, 100, 101)))]

    def _flood(self) -> str:
        filler = self.rng.choice(FILLERS)
        size = min(self.rng.choice(SIZES), FLOOD_CHARS_MAX)
        return (filler * (size // len(filler) + 1))[:size]

    def _name(self, grammar: Grammar) -> str:
        if grammar.names and self.rng.random() < 0.8:
            return self.rng.choice(grammar.names)
        return self.rng.choice(TEXTS) if self.rng.random() < 0.8 else self._flood()

    def _put(self, spot: Spot, grammar: Grammar) -> None:
        spot.put(self._value(grammar))

    def _remove(self, spot: Spot, grammar: Grammar) -> None:
        del grammar
        if spot.depth > 1:
            spot.remove()

    def _rename(self, spot: Spot, grammar: Grammar) -> None:
        spot.rename(self._name(grammar))

    def _double(self, spot: Spot, grammar: Grammar) -> None:
        spot.twice(spot.value if self.rng.random() < 0.3 else self._value(grammar))

    def _add(self, spot: Spot, grammar: Grammar) -> None:
        value = spot.value
        if isinstance(value, Obj):
            value.append((self._name(grammar), self._value(grammar)))
        elif isinstance(value, list):
            value.append(self._value(grammar))
        else:
            self._put(spot, grammar)

    def _wrap(self, spot: Spot, grammar: Grammar) -> None:
        rng = self.rng
        levels = rng.choice(DEPTHS)
        if levels > 16:
            spot.put(nested(rng, levels, write(spot.value)))
            return
        value = spot.value
        for _ in range(levels):
            value = [value] if rng.random() < 0.5 else Obj([(self._name(grammar), value)])
        spot.put(value)

    def _many(self, spot: Spot, grammar: Grammar) -> None:
        del grammar
        value = spot.value
        if isinstance(value, list) and value:
            # few are large: most of a run's time shall go into reading inputs, not into making them
            times = (
                self.rng.choice((1, 2, 3, 99, 100))
                if self.rng.random() < 0.9
                else self.rng.choice((499, 500, 501, 1001))
            )
            value.extend(value[:] * min(times, SPOTS_MAX // len(spots(value)) + 1))

    def _texted(self, spot: Spot, grammar: Grammar) -> None:
        if isinstance(spot.value, str):
            spot.put(self._text(spot.value, grammar))
        else:
            self._put(spot, grammar)

    # --- text and bytes

    def _text(self, text: str, grammar: Grammar) -> str:
        rng = self.rng
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((0, 0, 1, 1, 2, 8)))
        kind = rng.random()
        if kind < 0.2:
            new = rng.choice(FILLERS)
        elif kind < 0.4:
            new = rng.choice(TEXTS)
        elif kind < 0.6 and grammar.names:
            new = rng.choice(grammar.names)
        elif kind < 0.75 and grammar.values:
            new = rng.choice(grammar.values)
        elif kind < 0.83:
            new = self._flood()
        elif kind < 0.9:
            new = rng.choice(NUMBERS + TIMES)
        elif kind < 0.95:
            new, end = "", min(len(text), at + rng.randrange(1, 20))
        else:
            new = text[at : at + rng.randrange(1, 64)]
        return new if kind < 0.03 else text[:at] + new + text[end:]

    def _bytes(self, data: bytes) -> bytes:
        rng = self.rng
        at = rng.randrange(len(data) + 1)
        kind = rng.random()
        if kind < 0.15:
            return data[:at]
        if kind < 0.35:
            return data[:at] + rng.choice(BYTES) + data[at + rng.randrange(3) :]
        if kind < 0.55 and at < len(data):
            return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]
        if kind < 0.65 and at < len(data):
            return data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
        if kind < 0.75:
            end = min(len(data), at + rng.randrange(1, 33))
            return data[:at] + data[at:end] * rng.choice((2, 3, 50)) + data[end:]
        if kind < 0.83:
            return data[:at] + data[at + rng.randrange(1, 33) :]
        if kind < 0.9:
            return data[:at] + rng.randbytes(rng.choice(SIZES[:10])) + data[at:]
        if kind < 0.95:
            other = rng.choice(self._seeds)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
        return data[:at] + MARK + data[at:] if kind < 0.97 else b""


_TREE_STEPS: tuple[Callable[[Mutator, Spot, Grammar], None], ...] = (
    Mutator._put, Mutator._put, Mutator._put, Mutator._texted, Mutator._texted, Mutator._remove, Mutator._rename,
    Mutator._double, Mutator._add, Mutator._add, Mutator._wrap, Mutator._many,
)  # fmt: skip
