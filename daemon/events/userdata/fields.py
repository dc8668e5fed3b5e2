"""
One customer field, normalised: the rules of C.3 and F.1, which other destinations share or vary.

Every function takes text and gives text, or None where nothing is left that could be matched: an e-mail
address without a domain, a date that never was, a country that nobody knows. None of them raises, and each
gives back unchanged what it gave before. What Meta's own SDK refuses is None here; docs/user-data.md names
where the rules differ from the SDK's.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from ipaddress import ip_address

from daemon.events.userdata.dates import compact_date
from daemon.events.userdata.places import COUNTRY_CODES, US_ABBREVIATIONS, US_STATES, country_by_name

#: Meta's SDK takes no shorter phone number.
PHONE_DIGITS_MIN = 7

#: TikTok cuts a phone number behind this many characters, the plus included (F.4).
TIKTOK_PHONE_CHARS_MAX = 15

#: Numbers beyond are no codes or ids that somebody wrote, but accidents.
_INTEGER_MAX = 10**30
_FLOAT_MAX = 2**53

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_NO_DIGITS = re.compile(r"\D+")
_NO_LETTERS = re.compile(r"[^a-z]+")
_SUBDIVISION = re.compile(r"([a-z]{2})-([a-z0-9]{1,3})")
_ZIP_PLUS_4 = re.compile(r"[0-9]{9}")

#: Where the first letter would say the opposite: "mujer" is a woman, "férfi" is a man.
_GENDER_WORDS = {
    "mujer": "f", "mulher": "f", "moglie": "f", "mrs": "f", "ms": "f", "miss": "f", "mme": "f", "madame": "f",
    "mademoiselle": "f", "mlle": "f", "woman": "f", "girl": "f", "weiblich": "f", "frau": "f", "w": "f",
    "férfi": "m", "fiú": "m", "fiu": "m", "ferfi": "m", "man": "m", "boy": "m", "herr": "m", "hombre": "m",
    "homme": "m", "homem": "m",
}  # fmt: skip


class _Without(dict[int, int | None]):
    """A table for `str.translate` that takes out characters: those of some Unicode categories, and others."""

    def __init__(self, *categories: str, others: str = "") -> None:
        super().__init__(dict.fromkeys(map(ord, others)))
        self._categories = categories
        self.update({code: self[code] for code in range(128)})

    def __missing__(self, code: int) -> int | None:
        return None if unicodedata.category(chr(code)).startswith(self._categories) else code


_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85"

#: Punctuation and symbols; for places spaces too, and the digits, as Meta's SDK does.
_NAME = _Without("P", "S")
_PLACE = _Without("P", "S", "Z", others=_SPACES + "0123456789")
_ZIP = _Without("Z", "Pd", others=_SPACES)
_SPACE = _Without("Z", others=_SPACES)


def text_of(value: object) -> str | None:
    """`value` as trimmed text; a number as its digits. None for what is empty or is neither of them."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < _INTEGER_MAX else None
    if isinstance(value, float) and abs(value) < _FLOAT_MAX and value.is_integer():
        return str(int(value))
    return None


def sha256_hex(text: str) -> str:
    """SHA-256 of `text` in UTF-8, as lower-case hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_sha256(text: str) -> bool:
    """Whether `text` is a SHA-256 in hex already."""
    return len(text) == 64 and _SHA256.fullmatch(text) is not None


def is_md5(text: str) -> bool:
    """Whether `text` looks like an MD5 in hex, which Meta's SDK leaves as it is."""
    return len(text) == 32 and _MD5.fullmatch(text) is not None


def normalise_email(text: str) -> str | None:
    """Trimmed, in lower case; None without something before an @, and a dot behind it between two others."""
    text = text.strip().lower()
    # What the SDK's .+@.+\..+ finds, in linear time: it reads one line, from its start.
    line = text.partition("\n")[0]
    at = line.find("@", 1)
    if at < 0 or line.rfind(".", at + 2, len(line) - 1) < 0:
        return None
    return text


def normalise_phone(text: str) -> str | None:
    """The digits, without leading zeros: with country code, or matching fails; None for fewer than seven."""
    digits = _NO_DIGITS.sub("", text)
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    digits = digits.lstrip("0")
    return digits if len(digits) >= PHONE_DIGITS_MIN else None


def normalise_phone_plus(text: str) -> str | None:
    """As TikTok wants it: a plus, then the digits (F.4)."""
    digits = normalise_phone(text)
    return None if digits is None else f"+{digits}"[:TIKTOK_PHONE_CHARS_MAX]


def normalise_gender(text: str) -> str | None:
    """`f` or `m`, from the first letter of the usual words; None for anything else."""
    word = text.strip().lower().rstrip(".")
    letter = _GENDER_WORDS.get(word, word[:1])
    return letter if letter in {"f", "m"} else None


def normalise_date_of_birth(text: str, country: str = "") -> str | None:
    """YYYYMMDD; see `dates.py` for the notations."""
    return compact_date(text, country)


def normalise_name(text: str) -> str | None:
    """In lower case, without punctuation and symbols; letters of every script stay, in NFC."""
    return _composed(text.lower().translate(_NAME)).strip() or None


def normalise_name_compact(text: str) -> str | None:
    """As TikTok wants it: lower case without any spaces."""
    return text.lower().translate(_SPACE) or None


def normalise_city(text: str) -> str | None:
    """In lower case, without spaces, punctuation, symbols and digits."""
    return _composed(text.lower().translate(_PLACE)) or None


def normalise_state(text: str, country: str = "") -> str | None:
    """
    A state's code: the two letters of the United States, also for the state's name; else the name or code
    as for a city. `US-CA` and `AU-NSW` (ISO 3166-2) are their second part.

    Names of states are only looked up where `country` (alpha-2, lower case) is `us` or not known.
    """
    text = text.strip().lower()
    if (parts := _SUBDIVISION.fullmatch(text)) and parts[1] in COUNTRY_CODES:
        text = parts[2]
    state = normalise_city(text)
    if state is None or country not in {"", "us"}:
        return state
    if country == "us":
        state = US_ABBREVIATIONS.get(state, state)
    return US_STATES.get(state, state)


def normalise_zip(text: str, country: str = "") -> str | None:
    """
    In lower case, without spaces and hyphens.

    Five characters in the United States; nine digits are a ZIP+4 where `country` (alpha-2) is not known.
    """
    code = text.lower().translate(_ZIP)
    if country == "us" or (not country and _ZIP_PLUS_4.fullmatch(code)):
        code = code[:5]
    return code or None


def normalise_country(text: str) -> str | None:
    """The alpha-2 code in lower case, also of an alpha-3 code or a country's name; None when there is none."""
    text = text.strip().lower()
    if text in COUNTRY_CODES:
        return text
    # "U.S.", "d e": the SDK looks at nothing but the letters. Of other alphabets it sees only what looks like
    # its own (Çin, which is China, would be India), so there the name is first.
    letters = _NO_LETTERS.sub("", text)
    code = letters if letters in COUNTRY_CODES else None
    if code is not None and text.isascii():
        return code
    return country_by_name(text) or code


def normalise_external_id(text: str) -> str | None:
    """Trimmed, in lower case."""
    return text.strip().lower() or None


def normalise_ip(text: str) -> str | None:
    """An IPv4 or IPv6 address as it came; None for what is none."""
    text = text.strip()
    try:
        ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else text


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
