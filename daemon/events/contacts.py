"""
E-mail addresses and phone numbers as they are compared: two spellings of one contact are one (contracts B.7).

Phone numbers become E.164 by Google's libphonenumber. Reading one there costs some 30 µs; what already is
plain E.164 is recognised with the library's own metadata in about 1 µs, with the same result.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumberFormat

#: Punctuation that people put between the digits of a number, and nothing else.
_PUNCTUATION = str.maketrans("", "", " -.()")

#: Calling codes have one to three digits, and none is the start of another.
_CALLING_CODES = frozenset(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE))

#: The international prefix of most countries, in front of something.
_DOUBLE_ZERO = re.compile(r"[^\d+]*0[^\d+]*0(?=\D*\d)")

_NO_DIGITS = re.compile(r"\D+")
_PLUS_FIRST = re.compile(r"[^\d+]*\+")


def normal_email(text: str) -> str:
    """`text` without surrounding whitespace, in lower case; "" when nothing is left."""
    return text.strip().lower()


def normal_phone(text: str, region: str = "") -> str | None:
    """
    `text` as E.164 (`+4930123456`), or None when there is no digit in it.

    `region` is the ISO 3166 alpha-2 code of the country whose national notation `text` may be in; with ""
    only numbers with a calling code are read. A leading `00` counts as `+`. What the library takes for no
    possible number of any country becomes its digits only, with the leading `+` if it had one.
    """
    text = text.strip()
    if text.startswith("+") and text.isascii():
        plain = text.translate(_PUNCTUATION)
        if plain[1:].isdigit() and _is_normal(plain):
            return plain
    elif not text.isascii():
        text = "".join(
            str(unicodedata.decimal(c)) if c.isdecimal() else "+" if c == "＋" else c for c in text
        )
    text = _DOUBLE_ZERO.sub("+", text, count=1) if _DOUBLE_ZERO.match(text) else text
    digits = _NO_DIGITS.sub("", text)
    if not digits:
        return None
    if _PLUS_FIRST.match(text):
        digits = "+" + digits
    elif digits.startswith("00") and len(digits) > 2:
        digits = "+" + digits[2:]
    home = region.upper() or None
    found = _read(text, home)
    if found is None and (home is not None or digits[0] == "+"):
        # What hides a number from the library (a label, a second number behind the first) must not make the
        # result depend on how often a number is normalised: its digits alone are the second try.
        found = _read(digits, home)
    if found is None:
        return digits
    # The library cuts one national prefix; behind it may stand another ("+49 (0)0 30 12"): one digit goes each time.
    for _ in range(len(found)):
        if _is_normal(found) or (again := _read(found, None)) is None or again == found:
            break
        found = again
    return found


def _read(text: str, region: str | None) -> str | None:
    """What libphonenumber makes of `text`; None when that is no possible number."""
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _is_normal(e164: str) -> bool:
    """Whether libphonenumber would give back `e164`, a `+` with ASCII digits, as it is: True is certain."""
    for end in (2, 3, 4):
        code = e164[1:end]
        if code in _CALLING_CODES:
            prefix, lengths = _rules(int(code))
            return len(e164) - end in lengths and (prefix is None or prefix.match(e164, end) is None)
    return False


@cache  # as many entries as there are calling codes
def _rules(code: int) -> tuple[re.Pattern[str] | None, frozenset[int]]:
    """Of a calling code: the national prefix that the library may cut, and the possible lengths behind it."""
    region = phonenumbers.region_code_for_country_code(code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    if metadata is None or metadata.general_desc is None:
        return None, frozenset()
    prefix = metadata.national_prefix_for_parsing
    return re.compile(prefix) if prefix else None, frozenset(metadata.general_desc.possible_length)
