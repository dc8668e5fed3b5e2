"""
The person an event is of: `user_data`, field by field (contracts C.3, F.1).

Names and spellings stay as they came; what is empty is dropped. Normalising and hashing is done for each destination,
when an event is delivered (`daemon.events.userdata`).
"""

from __future__ import annotations

from typing import Any

from daemon.events.tracklayer.problems import Problems
from daemon.events.userdata import dropped_empty

#: Texts of which Meta takes several: a string, or a list of strings.
TEXTS = (
    "email", "phone", "gender", "date_of_birth", "first_name", "last_name", "city", "state", "zip",
    "postal_code", "country",
)  # fmt: skip
#: Ids that are strings in one system and numbers in another: one or several.
IDS = ("customer_id", "external_ids")
#: One text.
ONE_TEXT = ("client_ip", "ip", "user_agent", "madid", "anon_id", "ctwa_clid")
#: One id.
ONE_ID = ("fb_login_id", "subscription_id", "lead_id")

#: Values of one field, and their longest, in characters.
VALUES_MAX = 100
VALUE_CHARS_MAX = 4096

#: Integers that a reader of any language can take.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

#: What is said of a number that some reader could not take.
OUT_OF_RANGE = "holds a number out of range"

#: The only field that is an object.
_OBJECT = "browser_ids"
_NUMBERS = frozenset((*IDS, *ONE_ID))
_LISTS = frozenset((*TEXTS, *IDS))
_KNOWN = frozenset((*TEXTS, *IDS, *ONE_TEXT, *ONE_ID))


def user_data(value: Any, problems: Problems) -> dict[str, Any] | None:
    """The fields that hold something, in the caller's order; None when none does. Fields of other names are kept."""
    if value is None:
        return None
    if type(value) is not dict:
        problems.wrong_type("user_data", "an object", value)
        return None
    for name, one in value.items():
        # most of them are plain short texts
        if type(one) is not str or len(one) > VALUE_CHARS_MAX or name == _OBJECT:
            _check(name, one, problems)
    return dropped_empty(value) or None


def check_numbers(value: Any, field: str, problems: Problems) -> None:
    """Integers of more bits than every reader takes are wrong, anywhere in `value`."""
    if type(value) is int:
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            problems.add(field, OUT_OF_RANGE)
    elif type(value) is list:
        for one in value:
            check_numbers(one, field, problems)
    elif type(value) is dict:
        for one in value.values():
            check_numbers(one, field, problems)


def _check(name: str, value: Any, problems: Problems) -> None:
    field = f"user_data.{name}"
    if value is None:
        return
    if name == _OBJECT:
        if type(value) is not dict:
            problems.wrong_type(field, "an object", value)
            return
        for inner, one in value.items():
            _check_one(one, f"{field}.{inner}", problems, numbers=True)
    elif name not in _KNOWN:
        check_numbers(value, field, problems)
    elif type(value) is list and name in _LISTS:
        if len(value) > VALUES_MAX:
            problems.add(field, f"has {len(value)} values; at most {VALUES_MAX} are taken")
            return
        for index, one in enumerate(value):
            _check_one(one, f"{field}[{index}]", problems, numbers=name in _NUMBERS)
    else:
        _check_one(value, field, problems, numbers=name in _NUMBERS, several=name in _LISTS)


def _check_one(value: Any, field: str, problems: Problems, *, numbers: bool, several: bool = False) -> None:
    if value is None:
        return
    if type(value) is str:
        if len(value) > VALUE_CHARS_MAX:
            problems.add(field, f"is longer than {VALUE_CHARS_MAX} characters")
    elif numbers and type(value) is int:
        check_numbers(value, field, problems)
    else:
        wanted = "a string or an integer" if numbers else "a string"
        problems.wrong_type(field, f"{wanted}, or a list of them" if several else wanted, value)
