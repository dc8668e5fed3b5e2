"""What is wrong with an event: all of it, field by field, in the order of the fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemon.events.payload import InvalidPayload
from daemon.events.tracklayer.answers import FieldProblem

#: Problems that are told; an event with more of them is no event.
PROBLEMS_MAX = 100
#: Fields that the message names.
_NAMED_MAX = 8


class InvalidEvent(InvalidPayload):
    """The event is not what the contract asks for; `problems` are all that were found."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__(_summary(problems), problems[0].field)
        self.problems = problems


class Problems:
    """Collects them."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []

    def add(self, field: str, message: str) -> None:
        """`message` begins with a verb: `is required`, `must be …`."""
        if len(self.found) < PROBLEMS_MAX:
            self.found.append(FieldProblem(field, f"{field} {message}"))

    def wrong_type(self, field: str, wanted: str, value: Any) -> None:
        """`field` must be `wanted`, not what `value` is."""
        self.add(field, f"must be {wanted}, not {json_type(value)}")

    def check(self) -> None:
        """Raises InvalidEvent when there are any."""
        if self.found:
            raise InvalidEvent(self.found)


def json_type(value: Any) -> str:
    """What a decoded value is in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def _summary(problems: Sequence[FieldProblem]) -> str:
    if len(problems) == 1:
        return problems[0].message
    fields = list(dict.fromkeys(problem.field for problem in problems))
    named = ", ".join(fields[:_NAMED_MAX]) + (", …" if len(fields) > _NAMED_MAX else "")
    return f"{len(fields)} fields are wrong: {named}" if len(fields) > 1 else problems[0].message
