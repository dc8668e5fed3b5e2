"""The same grammars for Hypothesis: it draws what it likes, where the mutator starts from what is known."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from tests.fuzz.inputs.grammar import Grammar, join, split
from tests.fuzz.inputs.tree import Bits, Obj, Tree, parse, write
from tests.fuzz.inputs.words import BYTES, NUMBERS, TEXTS, TIMES


def inputs(parts: tuple[Grammar, ...], seeds: list[bytes], bytes_max: int) -> st.SearchStrategy[bytes]:
    """Inputs of a target: drawn part by part, some of them members put into seeds."""
    each = [split(data, len(parts)) for data in seeds]
    drawn = [_part(grammar, [one[number] for one in each]) for number, grammar in enumerate(parts)]
    return st.tuples(*drawn).map(lambda found: join(*found)[:bytes_max])


def _part(grammar: Grammar, seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    if grammar.form == "json":
        return _json(grammar, seeds)
    if grammar.form == "text":
        return _text(grammar).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.sampled_from(seeds)
    made = st.binary(max_size=200) | st.sampled_from(seeds)
    if grammar.made is None:
        return made
    return made | st.integers(0, 2**32).map(Random).map(grammar.made)


def _text(grammar: Grammar) -> st.SearchStrategy[str]:
    known = (
        st.sampled_from((*grammar.names, *grammar.values)) if grammar.names or grammar.values else st.just("")
    )
    piece = st.one_of(
        known,
        known,
        st.sampled_from(TEXTS),
        st.text(max_size=20),
        st.text('0123456789+-.:;=&%$ "', max_size=8),
    )
    return st.lists(piece, max_size=6).map("".join)


def _json(grammar: Grammar, seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    bits = [value.encode("utf-8", "surrogatepass") for value in (*NUMBERS, *grammar.values)] + list(BYTES)
    leaf: st.SearchStrategy[Tree] = st.one_of(
        st.sampled_from([None, True, False, *TEXTS, *TIMES, *map(Bits, bits)]),
        st.text(max_size=20),
        st.integers().map(lambda number: Bits(b"%d" % number)),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Bits(repr(number).encode())),
    )
    name = st.sampled_from([*grammar.names, "", "\0", "a.b", "\ud800"])
    inner = st.lists(leaf, max_size=3) | st.lists(st.tuples(name, leaf), max_size=4).map(Obj)
    value = st.one_of(
        leaf, leaf, inner, st.lists(inner, max_size=2), st.lists(st.tuples(name, inner), max_size=2).map(Obj)
    )
    members = st.lists(st.tuples(name, value), max_size=5)
    objects = [tree for tree, _ in map(parse, seeds) if isinstance(tree, Obj)]
    whole = members.map(Obj) | value
    if objects:
        whole |= st.tuples(st.sampled_from(objects), members).map(_merged)
    return st.tuples(whole, st.booleans()).map(_written)


def _merged(drawn: tuple[Obj, list[tuple[str, Tree]]]) -> Tree:
    """A seed with other members in the place of its own."""
    seed, members = drawn
    names = {name for name, _ in members}
    return Obj([*(member for member in seed if member[0] not in names), *members])


def _written(drawn: tuple[Tree, bool]) -> bytes:
    try:
        return write(drawn[0], ascii_only=drawn[1])
    except RecursionError:
        return b"{}"  # a seed that can be read, but is too deep to be written
