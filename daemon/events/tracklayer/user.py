"""
The person an event is of: `user_data`, field by field (contracts C.3, F.1).

Names and spellings stay as they came; what is empty is dropped. Normalising and hashing is done for each destination,
when an event is delivered.
"""

from __future__ import annotations

from typing import Any

from daemon.events.tracklayer.problems import Problems

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
    kept: dict[str, Any] = {}
    for name, one in value.items():
        # most of them are plain short texts
        if type(one) is str and len(one) <= VALUE_CHARS_MAX and name != "browser_ids":
            if one.strip():
                kept[name] = one
        elif (found := _field(name, one, problems)) is not None:
            kept[name] = found
    return kept or None


def _field(name: str, value: Any, problems: Problems) -> Any:
    field = f"user_data.{name}"
    if name == "browser_ids":
        return _browser_ids(value, field, problems)
    if name not in _KNOWN:
        return filled(value)
    if type(value) is list and name in _LISTS:
        if len(value) > VALUES_MAX:
            problems.add(field, f"has {len(value)} values; at most {VALUES_MAX} are taken")
            return None
        values = (
            _scalar(one, f"{field}[{index}]", problems, numbers=name in _NUMBERS)
            for index, one in enumerate(value)
        )
        return [one for one in values if one is not None] or None
    return _scalar(value, field, problems, numbers=name in _NUMBERS, several=name in _LISTS)


def _scalar(
    value: Any, field: str, problems: Problems, *, numbers: bool, several: bool = False
) -> str | int | None:
    if value is None:
        return None
    if type(value) is str:
        if len(value) > VALUE_CHARS_MAX:
            problems.add(field, f"is longer than {VALUE_CHARS_MAX} characters")
        return value if value.strip() else None
    if numbers and type(value) is int:
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            problems.add(field, "is out of range; send so long a number as a string")
        return value
    wanted = "a string or an integer" if numbers else "a string"
    problems.wrong_type(field, f"{wanted}, or a list of them" if several else wanted, value)
    return None


def _browser_ids(value: Any, field: str, problems: Problems) -> dict[str, Any] | None:
    if value is None:
        return None
    if type(value) is not dict:
        problems.wrong_type(field, "an object", value)
        return None
    kept = {name: _scalar(one, f"{field}.{name}", problems, numbers=True) for name, one in value.items()}
    return {name: one for name, one in kept.items() if one is not None} or None


def filled(value: Any) -> Any:
    """What holds something of a field that is not known."""
    if type(value) is str:
        return value if value.strip() else None
    if type(value) is list:
        return [one for one in map(filled, value) if one is not None] or None
    if type(value) is dict:
        return {name: one for name, inner in value.items() if (one := filled(inner)) is not None} or None
    if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        return as_float(value)
    return value


def as_float(value: int) -> float | None:
    """`value`, which has more bits than can be written again as an integer; None where it is beyond a float too."""
    try:
        return float(value)
    except OverflowError:
        return None
