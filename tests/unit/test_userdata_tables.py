"""A customer's data at the destinations, and in the log (contracts C.3, F.1, F.4, 0.4.32, 0.4.33)."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import md5
from typing import Any

import pytest

from daemon.events.userdata import (
    META,
    PII,
    READABLE,
    TIKTOK,
    Form,
    Key,
    Table,
    dropped_empty,
    fields,
    fill,
    hashed,
    meta_user_data,
    tiktok_user,
)
from daemon.events.userdata.fields import sha256_hex
from daemon.events.userdata.tables import VALUES_MAX, country_of
from scripts import country_names
from tests.servers.tools import ROOT

CUSTOMER: dict[str, Any] = {
    "email": [" John_Smith@gmail.com", "JOHN_SMITH@GMAIL.COM", "js@example.org"],
    "phone": "+1 (650) 555-1212",
    "gender": "Female",
    "date_of_birth": "1997-02-16",
    "first_name": "Mary",
    "last_name": "O'Brien",
    "city": "San Francisco",
    "state": "California",
    "zip": "94103-1234",
    "country": "United States",
    "customer_id": "C1",
    "external_ids": ["c1", "X2", "", None, 3],
    "client_ip": "not an address",
    "ip": "192.0.2.1",
    "user_agent": "Mozilla/5.0",
    "browser_ids": {"fbp": "fb.1.1596403881668.1116446470", "fbc": " ", "ttclid": "E.C.P.1", "ttp": "2F7h37"},
    "madid": "AEBE52E7-03EE-455A-B3C4-E57283966239",
    "fb_login_id": 12345,
    "subscription_id": "sub_1",
    "lead_id": "678",
    "anon_id": "XZ1",
    "ctwa_clid": "ARAkLk",
    "locale": "en-US",
}


def digests(*texts: str) -> list[str]:
    return [sha256_hex(text) for text in texts]


def test_a_customer_at_meta() -> None:
    assert meta_user_data(CUSTOMER) == {
        "em": digests("john_smith@gmail.com", "js@example.org"),
        "ph": digests("16505551212"),
        "ge": digests("f"),
        "db": digests("19970216"),
        "fn": digests("mary"),
        "ln": digests("obrien"),
        "ct": digests("sanfrancisco"),
        "st": digests("ca"),
        "zp": digests("94103"),
        "country": digests("us"),
        "external_id": digests("c1", "x2", "3"),
        "client_ip_address": "192.0.2.1",
        "client_user_agent": "Mozilla/5.0",
        "fbp": "fb.1.1596403881668.1116446470",
        "madid": "aebe52e7-03ee-455a-b3c4-e57283966239",
        "fb_login_id": 12345,
        "subscription_id": "sub_1",
        "lead_id": "678",
        "anon_id": "XZ1",
        "ctwa_clid": "ARAkLk",
    }
    assert meta_user_data({}) == {}


def test_a_customer_at_tiktok() -> None:
    assert tiktok_user(CUSTOMER) == {
        "external_id": digests("c1", "x2", "3"),
        "phone": digests("+16505551212"),
        "email": digests("john_smith@gmail.com", "js@example.org"),
        "first_name": sha256_hex("mary"),
        "last_name": sha256_hex("o'brien"),
        "city": "sanfrancisco",
        "state": "ca",
        "country": "us",
        "zip_code": sha256_hex("94103"),
        "ttclid": "E.C.P.1",
        "ttp": "2F7h37",
        "ip": "192.0.2.1",
        "user_agent": "Mozilla/5.0",
        "locale": "en-US",
    }


def test_both_fields_of_one_key_go_into_it_once_each() -> None:
    sent = meta_user_data(
        {"postal_code": "M1 1AE", "zip": ["m11ae", "SW1A 1AA"], "external_ids": "b", "customer_id": "a"}
    )
    assert sent == {"zp": digests("m11ae", "sw1a1aa"), "external_id": digests("a", "b")}
    assert meta_user_data({"client_ip": "2001:db8::1", "ip": "192.0.2.1"}) == {
        "client_ip_address": "2001:db8::1"
    }


def test_a_hash_is_not_hashed_again() -> None:
    digest = sha256_hex("mary")
    given = {"first_name": [digest.upper(), "Mary", f" {digest} "], "email": digest, "external_ids": [digest]}
    assert meta_user_data(given) == {"em": [digest], "fn": [digest], "external_id": [digest]}
    assert tiktok_user(given) == {"email": [digest], "first_name": digest, "external_id": [digest]}


def test_only_meta_gets_an_md5_and_nobody_a_hash_where_text_is_wanted() -> None:
    old = md5(b"mary").hexdigest()
    given = {"first_name": old.upper(), "email": [old, "a@b.c"], "city": sha256_hex("paris"), "country": old}
    assert meta_user_data(given) == {
        "em": [old, *digests("a@b.c")],
        "fn": [old],
        "ct": digests("paris"),
        "country": [old],
    }
    assert tiktok_user(given) == {"email": digests("a@b.c")}


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("US", "us"),
        ("Deutschland", "de"),
        (sha256_hex("us"), "us"),
        (sha256_hex("gb").upper(), "gb"),
        (md5(b"us").hexdigest(), "us"),
        (sha256_hex("somewhere"), "zz"),
        (["", None, "nowhere", "fr", "us"], "fr"),
        ("nowhere", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_the_country_of_a_customer(country: object, code: str) -> None:
    assert country_of({"country": country}) == code


def test_the_country_decides_about_states_zips_and_dates_also_when_it_is_hashed() -> None:
    def sent(country: object) -> tuple[object, object, object]:
        given = {"country": country, "state": "Georgia", "zip": "123456789", "date_of_birth": "03/04/1997"}
        out = meta_user_data(given)
        return out["st"], out["zp"], out["db"]

    american = (digests("ga"), digests("12345"), digests("19970304"))
    foreign = (digests("georgia"), digests("123456789"), digests("19970403"))
    assert sent("us") == sent(sha256_hex("us")) == sent(None) == american
    assert sent("Georgia") == sent("ge") == sent(sha256_hex("ge")) == sent(sha256_hex("?")) == foreign


@pytest.mark.parametrize(
    "value", [True, [], {}, [[]], [{"a": 1}], {"a": "b"}, 1.5, float("nan"), "\ud800", "x" * 70_000]
)
def test_a_wrong_type_or_an_odd_text_is_no_error(value: object) -> None:
    given = dict.fromkeys(CUSTOMER, value)
    for made in (meta_user_data(given), tiktok_user(given), hashed(given), dropped_empty(given)):
        assert isinstance(made, dict)
    if not isinstance(value, str):
        assert meta_user_data(given) == tiktok_user(given) == {}
        assert not hashed(given).keys() & PII.keys()


def test_a_number_stays_one_where_ids_are_numbers_unless_it_is_too_long() -> None:
    assert meta_user_data({"lead_id": 2**63 - 1}) == {"lead_id": 2**63 - 1}
    assert meta_user_data({"lead_id": 2**63}) == {"lead_id": str(2**63)}
    assert meta_user_data({"lead_id": 10**40, "fb_login_id": True, "anon_id": 7}) == {"anon_id": "7"}


def test_of_a_very_long_list_the_first_are_taken() -> None:
    given = {"external_ids": list(range(VALUES_MAX * 100))}
    first = digests(*map(str, range(VALUES_MAX)))
    assert meta_user_data(given) == {"external_id": first}
    assert hashed(given) == {"external_ids": first}


def test_a_new_destination_is_a_table() -> None:
    table = Table(
        (
            Key(
                name="hashedEmail",
                sources=("email",),
                form=Form.HASHED,
                normalise=fields.normalise_email,
                many=False,
            ),
        )
    )
    assert fill(table, CUSTOMER) == {"hashedEmail": sha256_hex("john_smith@gmail.com")}


# ---------------------------------------------------------------- the log


def test_empty_values_are_dropped_and_nothing_else() -> None:
    given = {
        "email": "",
        "phone": None,
        "city": " \t\u3000",
        "zip": 0,
        "state": False,
        "first_name": " Mary ",
        "external_ids": ["a", "", None, " ", 0],
        "last_name": ["", None],
        "browser_ids": {"fbp": "fb.1.2.3", "fbc": "", "more": {"x": None}},
        "custom": {"a": {"b": [" "]}},
        "also": {},
    }
    before = json.dumps(given)
    assert dropped_empty(given) == {
        "zip": 0,
        "state": False,
        "first_name": " Mary ",
        "external_ids": ["a", 0],
        "browser_ids": {"fbp": "fb.1.2.3"},
    }
    assert json.dumps(given) == before
    assert dropped_empty({}) == {}


def test_dropping_stops_at_some_depth() -> None:
    deep: object = ""
    for _ in range(5000):
        deep = {"a": deep}
    assert dropped_empty({"email": deep}) == {"email": deep}
    assert hashed({"email": deep, "user_agent": deep, "browser_ids": deep}) == {}


def test_hashed_leaves_nothing_readable_of_who_it_is() -> None:
    logged = hashed(CUSTOMER)
    assert logged == {
        "email": digests("john_smith@gmail.com", "js@example.org"),
        "phone": sha256_hex("16505551212"),
        "gender": sha256_hex("f"),
        "date_of_birth": sha256_hex("19970216"),
        "first_name": sha256_hex("mary"),
        "last_name": sha256_hex("obrien"),
        "city": sha256_hex("sanfrancisco"),
        "state": sha256_hex("ca"),
        "zip": sha256_hex("94103"),
        "country": sha256_hex("us"),
        "customer_id": sha256_hex("c1"),
        "external_ids": digests("c1", "x2", "3"),
        "browser_ids": {"fbp": "fb.1.1596403881668.1116446470", "ttclid": "E.C.P.1", "ttp": "2F7h37"},
        **{
            name: CUSTOMER[name]
            for name in ("client_ip", "ip", "user_agent", "madid", "fb_login_id", "subscription_id")
        },
        **{name: CUSTOMER[name] for name in ("lead_id", "anon_id", "ctwa_clid", "locale")},
    }
    assert meta_user_data(logged) == meta_user_data(CUSTOMER)


def test_hashed_drops_what_it_can_not_hash_and_what_it_does_not_know() -> None:
    assert hashed(
        {
            "email": "not an address",
            "phone": ["", "12"],
            "date_of_birth": "1997-02-31",
            "Email": "mary@example.com",
            "street": "1 Main St",
            "user_agent": {"email": "mary@example.com"},
            "browser_ids": {
                "fbp": "fb.1.2.3",
                "deep": {"email": "mary@example.com"},
                "list": ["mary@example.com"],
            },
            "madid": [["mary@example.com"], "x"],
        }
    ) == {"browser_ids": {"fbp": "fb.1.2.3"}, "madid": ["x"]}


def test_every_field_is_either_hashed_or_readable() -> None:
    sources = {
        source.partition(".")[0] for table in (META, TIKTOK) for key in table.keys for source in key.sources
    }
    assert PII.keys() | READABLE == sources
    assert not PII.keys() & READABLE


def test_the_table_of_countries_is_current() -> None:
    written = (ROOT / "daemon/events/userdata/country_names.py").read_text("utf-8")
    assert written == country_names.text(), (
        "run: python -m scripts.country_names > daemon/events/userdata/country_names.py"
    )


def test_codes_alone_load_no_names() -> None:
    program = (
        "import sys; from daemon.events.userdata import meta_user_data as f;"
        "f({'country': 'US', 'state': 'California'}); print('daemon.events.userdata.country_names' in sys.modules);"
        "f({'country': 'Germany'}); print('daemon.events.userdata.country_names' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
