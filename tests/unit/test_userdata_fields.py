"""Each customer field is normalised as Meta publishes it (contracts C.3, F.1)."""

from __future__ import annotations

import pycountry
import pytest

from daemon.events.userdata import fields, places
from daemon.events.userdata.fields import sha256_hex

#: Meta's published examples: normalised text → its hash.
VECTORS = {
    "john_smith@gmail.com": "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
    "16505551212": "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176",
    "mary": "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec",
    "valéry": "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c",
    "정": "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14",
    "19970216": "01acdbf6ec7b4f478a225f1a246e5d6767eeab1a7ffa17f025265b5b94f40f0c",
    "f": "252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111",
    "m": "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a",
    "sanfrancisco": "1a6bd4d9d79dc0a79b53795c70d3349fa9e38968a3fbefbfe8783efb1d2b6aac",
    "ca": "6959097001d10501ac7d54c0bdb8db61420f658f2922cc26e46d536119a31126",
    "94103": "91dc2519ea98c5002cf2091e6a12b772eafdce9dca618e626d7d3b8275361789",
    "us": "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621",
}


@pytest.mark.parametrize(("text", "digest"), VECTORS.items())
def test_hashes_are_those_that_meta_publishes(text: str, digest: str) -> None:
    assert sha256_hex(text) == digest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" Mary\t", "Mary"),
        (94103, "94103"),
        (16505551212.0, "16505551212"),
        (-7, "-7"),
        ("", None),
        (" \u3000\n", None),
        (None, None),
        (True, None),
        (1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        pytest.param(10**5000, None, id="5000 digits"),
        ([], None),
        ({"a": 1}, None),
        (b"bytes", None),
    ],
)
def test_a_value_as_text(value: object, text: str | None) -> None:
    assert fields.text_of(value) == text


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  John_Smith@GMAIL.com ", "john_smith@gmail.com"),
        ("ÜNÏ@EXÄMPLE.DE", "ünï@exämple.de"),
        ("first.last+tag@mail.example.co.uk", "first.last+tag@mail.example.co.uk"),
        ("@a@b.c", "@a@b.c"),
        ("n/a", None),
        ("mary@localhost", None),
        ("@example.com", None),
        ("mary@.com", None),
        ("mary@example.", None),
        ("mary.smith@example", None),
        pytest.param("@" * 60_000, None, id="60000 @"),
    ],
)
def test_email(text: str, normal: str | None) -> None:
    assert fields.normalise_email(text) == normal


@pytest.mark.parametrize(
    ("text", "normal", "tiktok"),
    [
        ("+1 (650) 555-1212", "16505551212", "+16505551212"),
        ("1-650-555-1212", "16505551212", "+16505551212"),
        ("1.650.555.1212", "16505551212", "+16505551212"),
        ("0044 20 7946 0000", "442079460000", "+442079460000"),
        ("000000 16505551212", "16505551212", "+16505551212"),
        ("tel:+16505551212", "16505551212", "+16505551212"),
        ("+٤٩ ٣٠ ١٢٣٤٥٦٧", "49301234567", "+49301234567"),
        ("5551212", "5551212", "+5551212"),
        ("+123456789012345678", "123456789012345678", "+12345678901234"),
        ("555121", None, None),
        ("0000000", None, None),
        ("none", None, None),
    ],
)
def test_phone(text: str, normal: str | None, tiktok: str | None) -> None:
    assert fields.normalise_phone(text) == normal
    assert fields.normalise_phone_plus(text) == tiktok


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("F", "f"),
        ("female", "f"),
        (" Femme ", "f"),
        ("Male", "m"),
        ("Mr.", "m"),
        ("Masculino", "m"),
        ("mujer", "f"),
        ("Mrs.", "f"),
        ("Woman", "f"),
        ("weiblich", "f"),
        ("férfi", "m"),
        ("hombre", "m"),
        ("other", None),
        ("unknown", None),
        ("X", None),
        ("0", None),
        (".", None),
    ],
)
def test_gender(text: str, normal: str | None) -> None:
    assert fields.normalise_gender(text) == normal


@pytest.mark.parametrize(
    ("text", "country", "normal"),
    [
        ("1997-02-16", "", "19970216"),
        ("19970216", "", "19970216"),
        (" 1997/2/16 ", "", "19970216"),
        ("1997.02.16.", "hu", "19970216"),
        ("1997-02-16T23:30:00.000Z", "", "19970216"),
        ("1997-02-16 00:00:00+09:00", "", "19970216"),
        ("19970216T000000Z", "", "19970216"),
        ("1997-02-16t00:00:00", "", "19970216"),
        # Only one of them can be the month.
        ("02/16/1997", "", "19970216"),
        ("16/02/1997", "", "19970216"),
        ("16-02-1997", "us", "19970216"),
        ("16.02.1997", "", "19970216"),
        ("2.16.1997", "de", "19970216"),
        # Both could be: dots are day first; else the United States and the unknown are month first.
        ("03/04/1997", "", "19970304"),
        ("03/04/1997", "us", "19970304"),
        ("03-04-1997", "us", "19970304"),
        ("03/04/1997", "gb", "19970403"),
        ("3.4.1997", "us", "19970403"),
        # The last day of February, when there is one.
        ("2000-02-29", "", "20000229"),
        ("1900-02-29", "", None),
        ("1997-02-30", "", None),
        ("1997-13-01", "", None),
        ("1997-00-10", "", None),
        ("31/31/1997", "", None),
        # Defaults of software, slips, other notations.
        ("0001-01-01", "", None),
        ("0000-00-00", "", None),
        ("1849-12-31", "", None),
        ("1850-01-01", "", "18500101"),
        ("2101-01-01", "", None),
        ("1997", "", None),
        ("1997-02", "", None),
        ("16/02/97", "", None),
        ("1997-02/16", "", None),
        ("February 16, 1997", "", None),
        ("856051200", "", None),
        ("1997-02-16x", "", None),
        ("१९९७-०२-१६", "", None),
    ],
)
def test_date_of_birth(text: str, country: str, normal: str | None) -> None:
    assert fields.normalise_date_of_birth(text, country) == normal
    if normal is not None:
        assert fields.normalise_date_of_birth(normal, country) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" Mary ", "mary"),
        ("Valéry", "valéry"),
        ("Vale\u0301ry", "valéry"),
        ("정", "정"),
        ("O'Brien", "obrien"),
        ("O’Brien", "obrien"),
        ("O´Brien", "obrien"),
        ("Jean-Luc", "jeanluc"),
        ("Mary  Ann", "mary  ann"),
        ("Dr. Mary (Ann)", "dr mary ann"),
        ("- Mary -", "mary"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("İpek", "i̇pek"),
        ("रवि", "रवि"),
        ("山田 太郎", "山田 太郎"),
        ("Mary 🎉", "mary"),
        ("---", None),
        ("...", None),
    ],
)
def test_name(text: str, normal: str | None) -> None:
    assert fields.normalise_name(text) == normal


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


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 2001:DB8::1 ", "2001:DB8::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1:443", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.2.01", None),
        ("fe80::1%eth0", None),
        ("192.0.2.0/24", None),
        ("192.0.2.1, 192.0.2.2", None),
        ("unknown", None),
    ],
)
def test_ip(text: str, normal: str | None) -> None:
    assert fields.normalise_ip(text) == normal


def test_what_is_a_hash_already() -> None:
    digest = VECTORS["mary"]
    assert fields.is_sha256(digest)
    assert fields.is_sha256(digest.upper())
    assert not fields.is_sha256(digest[:-1])
    assert not fields.is_sha256(digest[:-1] + "g")
    assert not fields.is_sha256(digest + "\n")
    assert fields.is_md5("0123456789abcdefABCDEF0123456789")
    assert not fields.is_md5("0123456789abcdefABCDEF012345678９")
    assert not fields.is_md5(digest)
