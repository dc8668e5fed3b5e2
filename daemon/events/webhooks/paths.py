"""
JSONPath (RFC 9535) over strangers' documents.

Paths are the operator's and compiled once; documents are anybody's. A path that names one value is
walked directly. What could cost more than one look at each value of a document is refused: several
selectors in one bracket, a second `..`, queries in filters that select more than one value, and
functions (their regular expressions could be driven to take for ever).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from jsonpath import JSONPath, JSONPathEnvironment
from jsonpath.exceptions import JSONPathError
from jsonpath.filter import BaseExpression, FilterQuery
from jsonpath.match import JSONPathMatch
from jsonpath.segments import JSONPathRecursiveDescentSegment
from jsonpath.selectors import Filter, IndexSelector, NameSelector, SliceSelector, WildcardSelector

from daemon.events.payload import DEPTH_MAX
from daemon.events.webhooks.config import BadConfig

PATH_CHARS_MAX = 512

#: Values of a document that a path with `..`, `*`, a slice or a filter is let loose on. A filter takes about 10 µs
#: for each, and the loop waits meanwhile; a document within the usual limits that has more is no webhook's.
VALUES_MAX = 20_000


class _Missing:
    """What a path selects where there is nothing."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class _Environment(JSONPathEnvironment):
    # the reader of bodies refuses what is deeper; some room for the root
    max_recursion_depth = DEPTH_MAX + 8

    def setup_function_extensions(self) -> None:
        """None: `match` and `search` take regular expressions, `count` any query."""


_environment = _Environment(strict=True)


class _Slice(SliceSelector):
    """The library's slices cut texts into characters, too; those of the RFC select from arrays alone."""

    __slots__ = ()

    def resolve(self, node: JSONPathMatch) -> Iterable[JSONPathMatch]:
        return super().resolve(node) if isinstance(node.obj, list) else ()


class Path:
    """One compiled path. `singular`: it names one value, else it selects any number."""

    __slots__ = ("_parts", "_query", "singular", "text")

    def __init__(self, text: str, what: str) -> None:
        """Compile; `what` (the mapping's key) is named in errors. Raises BadConfig."""
        self.text = text
        self._query = _compiled(text, what)
        self.singular = self._query.singular_query()
        self._parts = (
            tuple(_part(segment.selectors[0]) for segment in self._query.segments) if self.singular else ()
        )

    def __repr__(self) -> str:
        return f"Path({self.text})"

    def all(self, document: Any) -> Iterator[Any]:
        """Every value that is selected, in order."""
        if not self.singular:
            # the library would read a text as JSON; there is nothing below a scalar anyway
            if isinstance(document, dict | list):
                yield from (match.obj for match in self._query.finditer(document))
        elif (value := self._walk(document)) is not MISSING:
            yield value

    def value(self, document: Any) -> Any:
        """What a singular path names, else the list of what is selected; MISSING where that is nothing."""
        if self.singular:
            return self._walk(document)
        return list(self.all(document)) or MISSING

    def first(self, document: Any) -> Any:
        """The first value that is selected, or MISSING."""
        return self._walk(document) if self.singular else next(self.all(document), MISSING)

    def _walk(self, value: Any) -> Any:
        for part in self._parts:
            if isinstance(part, str):
                if not isinstance(value, dict) or part not in value:
                    return MISSING
                value = value[part]
            else:
                if not isinstance(value, list) or not -len(value) <= part < len(value):
                    return MISSING
                value = value[part]
        return value


def _part(selector: Any) -> str | int:
    part: str | int = selector.name if isinstance(selector, NameSelector) else selector.index
    return part


def _compiled(text: str, what: str) -> JSONPath:
    if not text.startswith("$"):
        raise BadConfig(f"{what}: {text[:120]!r} is no JSONPath: it begins with $, as in $.data.id")
    if len(text) > PATH_CHARS_MAX:
        raise BadConfig(f"{what}: the JSONPath is longer than {PATH_CHARS_MAX} characters")
    try:
        query = _environment.compile(text)
    except JSONPathError as error:
        raise BadConfig(f"{what}: {text!r} is no JSONPath: {error.message}{_where(error)}") from None
    except (RecursionError, ValueError, OverflowError) as error:  # 1e999 is a number, and then it is none
        raise BadConfig(f"{what}: {text[:120]!r} is no JSONPath: {str(error)[:120]}") from None
    assert isinstance(query, JSONPath), "the strict syntax has no compound paths"
    _narrow(query, text, what)
    return query


def _where(error: JSONPathError) -> str:
    return (
        f" (at character {error.token.index + 1})"
        if error.token is not None and error.token.index >= 0
        else ""
    )


def _narrow(query: JSONPath, text: str, what: str) -> None:
    """Refuse what could cost too much, and put our own slices in place of the library's."""

    def refuse(why: str) -> BadConfig:
        return BadConfig(f"{what}: {text!r} is not taken: {why}")

    if sum(isinstance(segment, JSONPathRecursiveDescentSegment) for segment in query.segments) > 1:
        raise refuse("'..' visits the whole document, and stands in a path once at the most")
    for segment in query.segments:
        if len(segment.selectors) != 1:
            raise refuse("a bracket holds one selector; map each value by a path of its own")
        selector = segment.selectors[0]
        if isinstance(selector, SliceSelector):
            cut = selector.slice
            new = _Slice(
                env=selector.env, token=selector.token, start=cut.start, stop=cut.stop, step=cut.step
            )
            segment.selectors = (new,)
        elif isinstance(selector, Filter):
            if not all(inner.singular_query() for inner in _queries(selector.expression)):
                raise refuse("a filter compares single values, such as @.id or $.data.id")
        elif not isinstance(selector, NameSelector | IndexSelector | WildcardSelector):
            raise refuse(f"it has a selector that RFC 9535 does not know: {selector}")


def _queries(expression: BaseExpression) -> Iterator[JSONPath]:
    if isinstance(expression, FilterQuery):
        yield expression.path
    for child in expression.children():
        yield from _queries(child)
