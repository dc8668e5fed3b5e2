"""E-mail addresses and phone numbers become one spelling (contracts B.7)."""

from __future__ import annotations

import phonenumbers
import pytest

from daemon.events.contacts import normal_email, normal_phone


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("john_smith@gmail.com", "john_smith@gmail.com"),
        ("\t  John_Smith@GMAIL.com \r\n", "john_smith@gmail.com"),
        ("Ünï@EXÄMPLE.de", "ünï@exämple.de"),
        ("two words@example.com", "two words@example.com"),
        (" \u3000 ", ""),
        ("", ""),
    ],
)
def test_an_email_is_trimmed_and_lowered(text: str, normal: str) -> None:
    assert normal_email(text) == normal


@pytest.mark.parametrize(
    ("text", "region", "normal"),
    [
        # With a calling code the region says nothing.
        ("+16505551212", "", "+16505551212"),
        ("+1 (650) 555-1212", "DE", "+16505551212"),
        ("+1.650.555.1212", "", "+16505551212"),
        ("＋１ ６５０ ５５５ １２１２", "", "+16505551212"),
        ("+٤٩ ٣٠ ١٢٣٤٥٦٧", "", "+49301234567"),
        ("tel:+1-650-555-1212", "", "+16505551212"),
        ("+1 650 555 1212 ext. 5", "", "+16505551212"),
        ("(+49) 30 1234567", "US", "+49301234567"),
        # The national 0 in brackets goes; Italy's belongs to the number.
        ("+49 (0)30 1234567", "", "+49301234567"),
        ("+39 06 1234 5678", "", "+390612345678"),
        # A leading 00 is a plus, whatever the region dials.
        ("00 49 30 1234567", "", "+49301234567"),
        ("0049301234567", "US", "+49301234567"),
        ("(00)49-30-1234567 ext 7", "", "+49301234567"),
        ("0-0-49301234567", "", "+49301234567"),
        # National notation needs the region, which may come in either case.
        ("030 1234567", "DE", "+49301234567"),
        ("(650) 555-1212", "US", "+16505551212"),
        ("1-800-FLOWERS", "us", "+18003569377"),
        ("011 49 30 1234567", "US", "+49301234567"),
        ("8 (912) 345-67-89", "RU", "+79123456789"),
        ("(650) 555-1212", "", "6505551212"),
        ("030 1234567", "", "0301234567"),
        ("030 1234567", "ZZ", "0301234567"),
        # What is no possible number keeps its digits, and the plus it had.
        ("12345", "", "12345"),
        ("+12345", "", "+12345"),
        ("+999 12345678", "", "+99912345678"),
        ("0012345", "", "+12345"),
        ("+49 30 123456789012345", "", "+4930123456789012345"),
        ("1", "DE", "1"),
        ("00", "", "00"),
        ("000", "", "+0"),
        ("call me: five-5-five", "", "5"),
        ("5" * 300, "DE", "5" * 300),
    ],
)
def test_a_phone_number_becomes_e164(text: str, region: str, normal: str) -> None:
    assert normal_phone(text, region) == normal
    assert normal_phone(normal, region) == normal


@pytest.mark.parametrize("text", ["", "   ", "+", "unknown", "+++", "x@y", "½", "²"])
def test_no_digits_are_no_phone_number(text: str) -> None:
    assert normal_phone(text) is None
    assert normal_phone(text, "DE") is None


def test_what_is_plain_e164_is_not_read_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [
        phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        if (example := phonenumbers.example_number(region)) is not None
    ]
    assert len(numbers) > 200

    def parse(*args: object) -> phonenumbers.PhoneNumber:
        read.append(args)
        raise phonenumbers.NumberParseException(0, "not asked")

    read: list[object] = []
    monkeypatch.setattr("daemon.events.contacts.phonenumbers.parse", parse)
    assert [normal_phone(number) for number in numbers] == numbers
    # Argentina's 11 is a national prefix as well: only the library can tell.
    assert read == [("+541123456789", None), ("+541123456789", None)]
