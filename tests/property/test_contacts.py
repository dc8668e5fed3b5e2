"""Phone numbers against the library itself, whatever is typed."""

from __future__ import annotations

import phonenumbers
from hypothesis import given
from hypothesis import strategies as st

from daemon.events.contacts import normal_email, normal_phone

REGIONS = st.sampled_from(["", "US", "DE", "IT", "AR", "RU", "BR", "GB", "SM", "MX", "ZZ", "de"])

CODES = st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))


@st.composite
def international(draw: st.DrawFn) -> str:
    """A plus, a calling code that exists and some digits, with punctuation that people use."""
    digits = draw(st.text("0123456789", min_size=1, max_size=15))
    gaps = draw(st.lists(st.sampled_from(["", "", "", " ", "-", ".", " (", ") "]), min_size=len(digits)))
    return f"+{draw(CODES)}" + "".join(gap + digit for gap, digit in zip(gaps, digits, strict=False))


TYPED = st.one_of(
    international(),
    st.text("0123456789+-() ./x,;#ext", max_size=30),
    st.text(max_size=40),
    st.text("0123456789٠١٢٣０１+＋ ", max_size=20),
)


def by_library(text: str, region: str) -> str | None:
    """E.164 as the library reads `text`, or None when it can't."""
    try:
        number = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(international(), REGIONS)
def test_what_the_library_reads_is_what_it_reads(text: str, region: str) -> None:
    read = by_library(text, region)
    if read is not None:
        assert normal_phone(text, region) == read


@given(TYPED, REGIONS)
def test_a_phone_number_is_normal_once(text: str, region: str) -> None:
    once = normal_phone(text, region)
    if once is None:
        assert not any(character.isdecimal() for character in text)
    else:
        assert once.removeprefix("+").isdigit()
        assert once.isascii()
        # The library itself cuts a second 0 off a few numbers that nobody has (+971 000 0000): its word stands.
        assert normal_phone(once, region) in {once, by_library(once, region)}


@given(st.text())
def test_an_email_is_normal_once(text: str) -> None:
    once = normal_email(text)
    assert normal_email(once) == once
    assert once == once.strip()
