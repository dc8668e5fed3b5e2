"""Each customer field is normalised as Meta publishes it (contracts C.3, F.1)."""

from __future__ import annotations

import pytest

from daemon.events.userdata import fields
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
