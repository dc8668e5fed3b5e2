"""
Where customer data is normalised otherwise than by Meta's own SDK.

Every difference there is has a test here, which shows both results; everywhere else they agree
(tests/property/test_userdata.py). docs/user-data.md lists them.
"""

from __future__ import annotations

import pytest
from facebook_business.adobjects.serverside.normalize import Normalize

from daemon.events.userdata import meta_user_data
from daemon.events.userdata.fields import sha256_hex
from tests.support.meta_sdk import NOTHING, REFUSED, sdk_text, sdk_user_data


def ours(field: str, value: object, country: str = "") -> object:
    """What Meta gets for `value` in the input's `field`, of a customer of `country`."""
    given: dict[str, object] = {field: value}
    if country:
        given["country"] = country
    sent = {key: one for key, one in meta_user_data(given).items() if key != "country" or field == "country"}
    return next(iter(sent.values()), None)


def test_difference_phone_loses_every_leading_zero() -> None:
    """Contracts 0.4.33. The SDK takes off four at most, then refuses the number."""
    assert sdk_text("ph", "0000016505551212") is REFUSED
    assert ours("phone", "0000016505551212") == [sha256_hex("16505551212")]
    assert sdk_text("ph", "000016505551212") == "16505551212"


def test_difference_phone_loses_every_character_that_is_no_digit() -> None:
    """Contracts C.3. The SDK refuses a number with a dot in it."""
    for written in ("1.650.555.1212", "tel:+16505551212", "+1 650/555-1212"):
        assert sdk_text("ph", written) is REFUSED
        assert ours("phone", written) == [sha256_hex("16505551212")]


def test_difference_phone_in_digits_of_another_script() -> None:
    """The SDK hashes the digits as they are written, which nobody's account has."""
    assert sdk_text("ph", "٤٩٣٠١٢٣٤٥٦٧") == "٤٩٣٠١٢٣٤٥٦٧"
    assert ours("phone", "٤٩٣٠١٢٣٤٥٦٧") == [sha256_hex("49301234567")]


def test_difference_zip_of_the_united_states_has_five_digits() -> None:
    """Contracts 0.4.33. The SDK only cuts at a hyphen."""
    assert sdk_text("zp", "94103 1234") == "941031234"
    assert ours("zip", "94103 1234", "us") == [sha256_hex("94103")]
    assert ours("zip", "941031234") == [sha256_hex("94103")]
    assert sdk_text("zp", "94103-1234") == "94103"
    assert ours("zip", "94103-1234") == [sha256_hex("94103")]


def test_difference_zip_elsewhere_keeps_what_is_behind_the_hyphen() -> None:
    """Contracts C.3. Of Poland's 00-950 and Japan's 100-0001 the SDK hashes the part before the hyphen."""
    assert sdk_text("zp", "00-950") == "00"
    assert ours("zip", "00-950", "pl") == [sha256_hex("00950")]
    assert sdk_text("zp", "100-0001") == "100"
    assert ours("zip", "100-0001") == [sha256_hex("1000001")]


def test_difference_zip_with_another_dash() -> None:
    """A hyphen is a hyphen, also as a word processor writes it."""
    assert sdk_text("zp", "94103–1234") == "94103–1234"
    assert ours("zip", "94103–1234", "us") == [sha256_hex("94103")]


def test_difference_gender_is_the_first_letter() -> None:
    """Contracts C.3. The SDK takes f and m; other words it hashes as they are."""
    assert sdk_text("ge", "female") == "female"
    assert ours("gender", "Female") == [sha256_hex("f")]


def test_difference_gender_that_is_neither_is_left_out() -> None:
    """F.1: f or m. The SDK hashes the word."""
    assert sdk_text("ge", "other") == "other"
    assert ours("gender", "other") is None


def test_difference_date_of_birth_becomes_eight_digits() -> None:
    """Contracts C.3. The SDK hashes what is written."""
    assert sdk_text("db", "1997-02-16") == "1997-02-16"
    assert ours("date_of_birth", "1997-02-16") == [sha256_hex("19970216")]


def test_difference_date_of_birth_that_never_was_is_left_out() -> None:
    """The SDK hashes it."""
    assert sdk_text("db", "19970231") == "19970231"
    assert ours("date_of_birth", "19970231") is None


def test_difference_names_lose_punctuation() -> None:
    """Contracts C.3, F.1, and Meta's own documentation. The SDK leaves it in."""
    assert sdk_text("ln", "O'Brien") == "o'brien"
    assert ours("last_name", "O'Brien") == [sha256_hex("obrien")]
    assert ours("first_name", "Jean-Luc") == [sha256_hex("jeanluc")]


def test_difference_names_and_places_are_composed() -> None:
    """One letter is hashed as one, however it was typed: macOS sends é as two. The SDK hashes what came."""
    assert sdk_text("fn", "vale\u0301ry") == "vale\u0301ry"
    assert ours("first_name", "vale\u0301ry") == [sha256_hex("valéry")]
    assert ours("city", "Orle\u0301ans") == [sha256_hex("orléans")]


def test_difference_places_lose_all_punctuation() -> None:
    """Contracts C.3, F.1. The SDK knows dots, brackets and hyphens."""
    assert sdk_text("ct", "Coeur d'Alene") == "coeurd'alene"
    assert ours("city", "Coeur d'Alene") == [sha256_hex("coeurdalene")]


def test_difference_state_by_name() -> None:
    """Contracts C.3: names become codes. The SDK hashes the name."""
    assert sdk_text("st", "New York") == "newyork"
    assert ours("state", "New York", "us") == [sha256_hex("ny")]
    assert ours("state", "New York") == [sha256_hex("ny")]


def test_difference_state_by_its_iso_code() -> None:
    """Contracts C.3: the canonical code, which in ISO 3166-2 stands behind the country's."""
    assert sdk_text("st", "US-CA") == "usca"
    assert ours("state", "US-CA") == [sha256_hex("ca")]


def test_difference_country_by_name() -> None:
    """Contracts C.3. The SDK refuses what is no alpha-2 code."""
    for name in ("United States", "USA", "Vereinigte Staaten"):
        assert sdk_text("country", name) is REFUSED
        assert ours("country", name) == [sha256_hex("us")]
    assert sdk_text("country", "UK") is REFUSED
    assert ours("country", "UK") == [sha256_hex("gb")]


def test_difference_country_by_a_name_of_which_two_latin_letters_are_left() -> None:
    """The SDK throws Ç away and sends India."""
    assert sdk_text("country", "Çin") == "in"
    assert ours("country", "Çin") == [sha256_hex("cn")]


def test_difference_external_ids_are_hashed() -> None:
    """Contracts C.3. The SDK sends them as they are."""
    assert sdk_user_data({"external_ids": ["User-1 ", "2"]}) == {"external_id": ["2", "User-1 "]}
    assert ours("external_ids", ["User-1 ", "user-1", "2"]) == [sha256_hex("user-1"), sha256_hex("2")]
    # 32 hex digits are an id like any other here; elsewhere both leave an MD5 as it is.
    assert ours("customer_id", "0" * 32) == [sha256_hex("0" * 32)]
    assert sdk_text("fn", "0" * 32) == "0" * 32
    assert ours("first_name", "0" * 32) == ["0" * 32]


def test_difference_madid_in_lower_case() -> None:
    """Contracts C.3. The SDK sends it as it is."""
    assert ours("madid", " AEBE52E7-03EE-455A-B3C4-E57283966239 ") == "aebe52e7-03ee-455a-b3c4-e57283966239"


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("fn", "first_name", "   "),
        ("ct", "city", "123"),
        ("st", "state", "75"),
        ("zp", "zip", " "),
        ("db", "date_of_birth", "\t"),
    ],
)
def test_difference_nothing_is_not_hashed(key: str, field: str, value: str) -> None:
    """Contracts 0.4.32. The SDK sends the hash of an empty string, the same for everybody."""
    assert Normalize.normalize_field(key, value) == NOTHING
    assert ours(field, value, "fr") is None


def test_difference_raw_values_are_trimmed_and_an_address_is_one() -> None:
    """Contracts C.3: the address is validated. The SDK sends what it gets."""
    given = {"client_ip": "unknown", "user_agent": " Mozilla/5.0 ", "browser_ids": {"fbp": " fb.1.1.2\n"}}
    sent = sdk_user_data(given)
    assert (sent["client_ip_address"], sent["client_user_agent"], sent["fbp"]) == (
        "unknown",
        " Mozilla/5.0 ",
        " fb.1.1.2\n",
    )
    assert meta_user_data(given) == {"client_user_agent": "Mozilla/5.0", "fbp": "fb.1.1.2"}


def test_difference_lists_keep_their_order() -> None:
    """The SDK's is that of a set: another one in every process."""
    emails = [f"{number}@example.com" for number in range(20)]
    assert ours("email", [*emails, *emails]) == [sha256_hex(email) for email in emails]


def test_difference_numbers_are_text() -> None:
    """The SDK raises an error that has nothing to do with the value."""
    with pytest.raises(TypeError, match="has no len"):
        Normalize.normalize_field("zp", 94103)
    assert ours("zip", 94103) == [sha256_hex("94103")]
    assert ours("phone", 16505551212) == [sha256_hex("16505551212")]
