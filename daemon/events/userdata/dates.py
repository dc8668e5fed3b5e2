"""
Dates of birth in the notations that shops and their forms use → YYYYMMDD.

Year first is never ambiguous. Otherwise the day and the month can only be told apart by a number over 12 or
by habit: with dots the day comes first; with slashes or hyphens the month does in the United States, and
where nobody knows the country, and the day does elsewhere. No clock is asked and no time zone applied: the
date is what was written, whatever time stands behind it.
"""

from __future__ import annotations

import re
from datetime import date

#: A customer's year of birth; outside of it the value is a default of some software (0001-01-01) or a slip.
YEAR_MIN, YEAR_MAX = 1850, 2100

_TIME = r"(?:[T ].*)?"
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)" + _TIME, re.ASCII | re.DOTALL)
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})\.?" + _TIME, re.ASCII | re.DOTALL)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})\.?" + _TIME, re.ASCII | re.DOTALL)


def compact_date(text: str, country: str = "") -> str | None:
    """
    The date in `text` as YYYYMMDD; None when it is none, or one that never was.

    `country` is the customer's, as an alpha-2 code in lower case, "" when it is not known.
    """
    text = text.strip().upper()
    if found := _COMPACT.fullmatch(text):
        year, month, day = found.groups()
        return _compact(year, month, day)
    if found := _YEAR_FIRST.fullmatch(text):
        year, _, month, day = found.groups()
        return _compact(year, month, day)
    if found := _YEAR_LAST.fullmatch(text):
        one, mark, other, year = found.groups()
        if mark == "." or country not in {"", "us"}:
            return _compact(year, other, one) or _compact(year, one, other)
        return _compact(year, one, other) or _compact(year, other, one)
    return None


def _compact(year: str, month: str, day: str) -> str | None:
    if not YEAR_MIN <= int(year) <= YEAR_MAX:
        return None
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return year + month.zfill(2) + day.zfill(2)
