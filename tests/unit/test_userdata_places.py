"""Cities, states, zips and countries are normalised as Meta publishes it, and by ISO 3166 (contracts C.3, F.1)."""

from __future__ import annotations

import pycountry
import pytest

from daemon.events.userdata import fields, places


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("San Francisco", "sanfrancisco"),
        ("St. John's", "stjohns"),
        ("Saint-Étienne", "saintétienne"),
        ("Paris 15", "paris"),
        ("Nowa\u00a0Sól", "nowasól"),
        ("東京", "東京"),
        ("नई दिल्ली", "नईदिल्ली"),
        ("12345", None),
        (" - ", None),
    ],
)
def test_city(text: str, normal: str | None) -> None:
    assert fields.normalise_city(text) == normal


@pytest.mark.parametrize(
    ("text", "country", "normal"),
    [
        ("CA", "us", "ca"),
        ("CA", "", "ca"),
        ("California", "", "ca"),
        ("new york", "us", "ny"),
        ("N.Y.", "us", "ny"),
        ("Washington, D.C.", "us", "dc"),
        ("District of Columbia", "", "dc"),
        ("Puerto Rico", "us", "pr"),
        ("Calif.", "us", "ca"),
        ("W. Va.", "us", "wv"),
        ("US-CA", "us", "ca"),
        ("us-ca", "", "ca"),
        # Elsewhere a name is a name, whatever it is called in the United States.
        ("Georgia", "us", "ga"),
        ("Georgia", "ge", "georgia"),
        ("Calif.", "", "calif"),
        ("ill.", "fr", "ill"),
        ("NSW", "au", "nsw"),
        ("AU-NSW", "au", "nsw"),
        ("Île-de-France", "fr", "îledefrance"),
        ("New South Wales", "au", "newsouthwales"),
        ("xx-ca", "", "xxca"),
        # Only digits: a hash of nothing would match nobody.
        ("75", "fr", None),
        ("JP-13", "jp", None),
        ("-", "", None),
    ],
)
def test_state(text: str, country: str, normal: str | None) -> None:
    assert fields.normalise_state(text, country) == normal


def test_states_are_those_of_iso_3166_2() -> None:
    """Every state and territory that ISO has is found by its name and by its code."""
    states = {
        one.name: one.code[3:].lower()
        for one in pycountry.subdivisions
        # The Outlying Islands have no post office.
        if one.country_code == "US" and one.code != "US-UM"
    }
    assert len(states) == 56
    for name, code in states.items():
        assert fields.normalise_state(name, "us") == code
        assert fields.normalise_state(code.upper()) == code
    military = {"aa", "ae", "ap"}
    assert set(places.US_STATES.values()) == set(states.values()) | military
    assert set(places.US_ABBREVIATIONS.values()) < set(states.values())


@pytest.mark.parametrize(
    ("text", "country", "normal"),
    [
        ("94103", "us", "94103"),
        ("94103-1234", "us", "94103"),
        ("94103 1234", "us", "94103"),
        ("941031234", "", "94103"),
        ("94103–1234", "", "94103"),
        ("94103-1234", "sa", "941031234"),
        ("M1 1AE", "gb", "m11ae"),
        ("m11ae", "", "m11ae"),
        ("m1\u2028 1\tae\u00a0", "gb", "m11ae"),
        ("00-950", "pl", "00950"),
        ("100-0001", "jp", "1000001"),
        ("K1A 0B1", "ca", "k1a0b1"),
        ("01310-100", "br", "01310100"),
        ("1234567890", "", "1234567890"),
        ("2139", "us", "2139"),
        ("--", "", None),
    ],
)
def test_zip(text: str, country: str, normal: str | None) -> None:
    assert fields.normalise_zip(text, country) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("US", "us"),
        (" us ", "us"),
        ("U.S.", "us"),
        ("USA", "us"),
        ("United States", "us"),
        ("the united states of america", "us"),
        ("Estados Unidos", "us"),
        ("EE.UU.", "us"),
        ("UK", "gb"),
        ("Great Britain", "gb"),
        ("GBR", "gb"),
        ("Deutschland", "de"),
        ("Allemagne", "de"),
        ("ドイツ", "de"),
        ("德国", "de"),
        ("Германия", "de"),
        ("Österreich", "at"),
        ("OSTERREICH", "at"),
        ("España", "es"),
        ("Türkiye", "tr"),
        ("Turkey", "tr"),
        ("KIBRIS", "cy"),
        ("Çin", "cn"),
        ("Côte d'Ivoire", "ci"),
        ("Korea, Republic of", "kr"),
        ("대한민국", "kr"),
        ("Bosnia & Herzegovina", "ba"),
        ("Bosnia and Herzegovina", "ba"),
        ("Hong Kong", "hk"),
        ("Swaziland", "sz"),
        ("The Netherlands", "nl"),
        ("Viet Nam", "vn"),
        ("xx", None),
        ("Atlantis", None),
        ("eu", None),
        ("1", None),
        ("the", None),
    ],
)
def test_country(text: str, normal: str | None) -> None:
    assert fields.normalise_country(text) == normal


def test_countries_are_those_of_iso_3166() -> None:
    assert {country.alpha_2.lower() for country in pycountry.countries} == places.COUNTRY_CODES
    for country in pycountry.countries:
        names = {
            country.alpha_2,
            country.alpha_3,
            country.name,
            getattr(country, "common_name", country.name),
        }
        assert {fields.normalise_country(name) for name in names} == {country.alpha_2.lower()}, names


def test_names_of_countries_are_loaded_when_one_is_asked_for() -> None:
    assert "COUNTRY_NAMES" not in vars(places)
    assert len(places._names()) > 5000
    # Two letters are a code. Of these Áo and Bỉ are Austria and Belgium in Vietnamese, which their accents tell.
    assert {key for key in places._names() if len(key) == 2 and key.isascii()} == {"uk", "ao", "bi"}
    assert [fields.normalise_country(text) for text in ("ao", "Áo", "bi", "Bỉ")] == ["ao", "at", "bi", "be"]
