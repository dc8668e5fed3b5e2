"""
Customer data by Meta's own SDK, field by field over some thousand values; and laws that hold for any input.

Where the two differ on purpose the values are kept away from it here: tests/unit/test_userdata_sdk.py has them.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.events.userdata import META, TIKTOK, dropped_empty, fields, hashed, meta_user_data, tiktok_user
from daemon.events.userdata.fields import is_md5, is_sha256
from daemon.events.userdata.places import COUNTRY_CODES, US_STATES, country_by_name
from daemon.events.userdata.tables import Form
from tests.support.meta_sdk import sdk_hash, sdk_user_data

MANY = settings(max_examples=300, deadline=None)
LAW = settings(max_examples=150, deadline=None)

SPACE = st.text(" \t\n\u00a0\u3000", max_size=3)
DIGITS = st.text("0123456789", min_size=1, max_size=20)
COUNTRIES = st.sampled_from(sorted(COUNTRY_CODES))
HASHES = st.one_of(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16)).map(bytes.hex)


CASES: list[Callable[[str], str]] = [str, str.upper, str.title]


def padded(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """`values` in any case and with space around."""
    return st.builds(
        lambda before, text, after, case: before + case(text) + after,
        SPACE,
        values,
        SPACE,
        st.sampled_from(CASES),
    )


def composed(text: str) -> bool:
    """Of a text as it is sent: a change of case takes some letters apart (U+1E96 has no capital of its own)."""
    return unicodedata.is_normalized("NFC", text.lower())


#: Letters, marks and numbers of every script, and spaces: no punctuation, no symbols.
WORDS = st.text(st.characters(categories=["L", "M", "N", "Zs"]), max_size=25).filter(composed)


@st.composite
def phones(draw: st.DrawFn) -> str:
    """Numbers with a country code as people write them, with the marks that the SDK knows."""
    start = draw(st.sampled_from(["", "+", "00", "+00", "0000"]))
    digits = draw(st.text("123456789", min_size=1, max_size=1)) + draw(st.text("0123456789", max_size=16))
    marks = draw(
        st.lists(
            st.sampled_from(["", "", "", " ", "-", "(", ")", " ("]),
            min_size=len(digits),
            max_size=len(digits),
        )
    )
    return start + "".join(mark + digit for mark, digit in zip(marks, digits, strict=True))


def agree(key: str, field: str, value: str, country: str = "") -> None:
    """Both send the same for `value`, or nothing."""
    given: dict[str, Any] = {field: value}
    if country:
        given["country"] = country
    sent = meta_user_data(given).get(key)
    expected = sdk_hash(key, value) if value else None
    assert sent == (None if expected is None else [expected])


@MANY
@given(padded(st.one_of(st.emails(), st.text(max_size=30), st.text("a@.\n ", max_size=12))))
def test_emails_are_those_of_the_sdk(value: str) -> None:
    agree("em", "email", value)


@MANY
@given(padded(phones()))
def test_phones_are_those_of_the_sdk(value: str) -> None:
    agree("ph", "phone", value)


@MANY
@given(padded(st.sampled_from(["f", "m"])))
def test_genders_are_those_of_the_sdk(value: str) -> None:
    agree("ge", "gender", value)


@MANY
@given(padded(st.dates(date(1850, 1, 1), date(2100, 12, 31)).map("{:%Y%m%d}".format)))
def test_dates_of_birth_are_those_of_the_sdk(value: str) -> None:
    agree("db", "date_of_birth", value)


@MANY
@given(padded(WORDS).filter(composed))
def test_names_are_those_of_the_sdk(value: str) -> None:
    agree("fn", "first_name", value)
    agree("ln", "last_name", value)


@MANY
@given(
    padded(st.lists(st.one_of(WORDS, st.text("0123456789.-() ", max_size=5))).map("".join)).filter(composed)
)
def test_cities_are_those_of_the_sdk(value: str) -> None:
    agree("ct", "city", value)


@MANY
@given(padded(st.one_of(WORDS, st.text("abcdefghij.() 0123", max_size=8))), COUNTRIES)
def test_states_are_those_of_the_sdk(value: str, country: str) -> None:
    if fields.normalise_city(value) not in US_STATES and composed(value):
        agree("st", "state", value, country if country != "us" else "ca")


@MANY
@given(padded(st.one_of(st.sampled_from(sorted(US_STATES.values())))))
def test_codes_of_states_are_those_of_the_sdk(value: str) -> None:
    agree("st", "state", value)
    agree("st", "state", value, "us")


@MANY
@given(padded(st.text(st.characters(exclude_categories=["Pd", "Cs"]), max_size=12)), COUNTRIES)
def test_zips_are_those_of_the_sdk(value: str, country: str) -> None:
    agree("zp", "zip", value, country if country != "us" else "gb")


@MANY
@given(padded(st.from_regex(r"[0-9]{5}(-[0-9]{4})?", fullmatch=True)))
def test_zips_of_the_united_states_are_those_of_the_sdk(value: str) -> None:
    agree("zp", "zip", value, "us")
    agree("zp", "zip", value)


@MANY
@given(
    st.one_of(
        padded(COUNTRIES),
        padded(
            st.tuples(COUNTRIES, st.text("0123456789 .-()_", max_size=3)).map(lambda two: two[1].join(two[0]))
        ),
        padded(st.text(st.characters(max_codepoint=127), max_size=5)),
    )
)
def test_countries_are_those_of_the_sdk(value: str) -> None:
    name = country_by_name(value)
    if name is None or sdk_hash("country", value) is not None:
        agree("country", "country", value)


@MANY
@given(
    st.sampled_from([("em", "email"), ("ph", "phone"), ("ge", "gender"), ("db", "date_of_birth"), ("fn", "first_name"),
                     ("ln", "last_name"), ("ct", "city"), ("st", "state"), ("zp", "zip"), ("country", "country")]),
    padded(HASHES),
)  # fmt: skip
def test_what_is_a_hash_already_stays_as_with_the_sdk(field: tuple[str, str], value: str) -> None:
    agree(*field, value)


@MANY
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "email": st.lists(st.emails(), min_size=1, max_size=3),
            "phone": phones().filter(lambda text: sum(map(str.isdigit, text.lstrip("+0"))) >= 7),
            "gender": st.sampled_from(["f", "m"]),
            "date_of_birth": st.sampled_from(["19970216", "20000229", "18500101"]),
            "first_name": st.lists(padded(st.sampled_from(["Mary", "Valéry", "정", "ΣΊΣΥΦΟΣ"])), min_size=1),
            "last_name": st.sampled_from(["Smith", "van der Berg", "Ñandú", "Иванова"]),
            "city": st.sampled_from(["San Francisco", "Saint-Denis", "東京", "St. Gallen"]),
            "state": st.sampled_from(["CA", "NSW", "zh"]),
            "zip": st.sampled_from(["94103", "94103-1234", "M1 1AE"]),
            "country": COUNTRIES,
            "client_ip": st.ip_addresses().map(str),
            "user_agent": st.just("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"),
            "fb_login_id": st.integers(min_value=1, max_value=10**16).map(str),
            "subscription_id": st.just("sub_1"),
            "lead_id": st.integers(min_value=1, max_value=10**16).map(str),
            "anon_id": st.just("XZ-1"),
            "ctwa_clid": st.just("Aff1_b"),
            "browser_ids": st.just(
                {"fbp": "fb.1.1596403881668.1116446470", "fbc": "fb.1.1554763741205.AbCdEf"}
            ),
        },
    )
)
def test_customers_are_those_of_the_sdk(user_data: dict[str, Any]) -> None:
    if user_data.get("zip") == "94103-1234":
        user_data["country"] = "us"
    sent = meta_user_data(user_data)
    assert {key: sorted(one) if isinstance(one, list) else one for key, one in sent.items()} == sdk_user_data(
        user_data
    )


# ---------------------------------------------------------------- laws

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | DIGITS | HASHES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
TYPED = st.sampled_from(
    ["a@b.c", "Mary", "California", "94103-1234", "United States", "us", "1997-02-16", "03/04/1997", "+1 650 5551212",
     "female", "192.0.2.1", "  ", "FR", "75", "AU-NSW", "Georgia"]
)  # fmt: skip
NAMES = sorted(
    {source.partition(".")[0] for table in (META, TIKTOK) for key in table.keys for source in key.sources}
)
CUSTOMERS = st.dictionaries(
    st.sampled_from([*NAMES, "unknown"]),
    st.one_of(TYPED, st.lists(TYPED, max_size=3), JSON, st.fixed_dictionaries({"fbp": TYPED, "ttp": JSON})),
    max_size=12,
)
RULES: list[tuple[Callable[..., str | None], bool]] = list(
    {
        key.normalise: (key.normalise, key.by_country) for table in (META, TIKTOK) for key in table.keys
    }.values()
)


@LAW
@given(st.one_of(st.text(max_size=30), TYPED, phones(), WORDS), st.sampled_from(["", "us", "de", "fr", "zz"]))
def test_normalising_twice_is_normalising_once(text: str, country: str) -> None:
    assert len(RULES) > 10
    for rule, by_country in RULES:
        more = (country,) if by_country else ()
        once = rule(text, *more)
        if once is not None:
            assert once, rule
            assert rule(once, *more) == once, rule


@LAW
@given(CUSTOMERS)
def test_whatever_comes_something_of_the_right_form_goes(user_data: dict[str, Any]) -> None:
    for table, sent in ((META, meta_user_data(user_data)), (TIKTOK, tiktok_user(user_data))):
        keys = {key.name: key for key in table.keys}
        for name, value in sent.items():
            key = keys[name]
            values = value if isinstance(value, list) else [value]
            assert isinstance(value, list) is key.many
            assert len(set(values)) == len(values) > 0
            for one in values:
                if key.form is Form.HASHED:
                    assert isinstance(one, str)
                    assert one == one.lower()
                    assert is_sha256(one) or (table.takes_md5 and is_md5(one))
                else:
                    assert one == one.strip() if isinstance(one, str) else key.number
                    assert one != ""
        json.dumps(sent, allow_nan=False)


@LAW
@given(CUSTOMERS)
def test_hashed_at_the_door_or_at_delivery_is_the_same_to_meta(user_data: dict[str, Any]) -> None:
    logged = hashed(user_data)
    assert meta_user_data(logged) == meta_user_data(user_data)
    assert hashed(logged) == logged
    assert logged.keys() <= user_data.keys()


@LAW
@given(CUSTOMERS)
def test_dropping_what_is_empty_changes_nothing_for_meta(user_data: dict[str, Any]) -> None:
    kept = dropped_empty(user_data)
    assert meta_user_data(kept) == meta_user_data(user_data)
    assert dropped_empty(kept) == kept or "nan" in repr(kept)
    assert kept.keys() <= user_data.keys()
