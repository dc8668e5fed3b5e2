"""trackEventSchema: every field, what is right of it and what is wrong, with the exact words (contracts C.2, 0.4.29)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import iso4217
import msgspec
import pytest

from daemon.events.payload import InvalidPayload
from daemon.events.tracklayer import Received, TrackEvent, decode, to_envelope
from daemon.events.tracklayer.currencies import CURRENCIES, WITHDRAWN
from daemon.events.tracklayer.event import ITEMS_MAX, TIME_S_MAX, TIME_S_MIN, InvalidEvent
from daemon.events.tracklayer.problems import PROBLEMS_MAX
from daemon.events.tracklayer.user import IDS, ONE_ID, ONE_TEXT, TEXTS, VALUE_CHARS_MAX, VALUES_MAX

MERCHANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
LEAST: dict[str, Any] = {
    "event_id": "order-1",
    "event_name": "purchase",
    "event_time": 1772029800,
    "merchant_id": MERCHANT,
}


def taken(**members: Any) -> TrackEvent:
    """The event with these members."""
    return decode(json.dumps({**LEAST, **members}).encode())


def problems(body: bytes) -> list[tuple[str, str]]:
    """What is wrong with a body, all of it."""
    with pytest.raises(InvalidEvent) as refused:
        decode(body)
    found = [(one.field, one.message) for one in refused.value.problems]
    assert refused.value.message
    assert refused.value.field == found[0][0]
    return found


def wrong(**members: Any) -> list[tuple[str, str]]:
    """What is wrong with the event with these members."""
    return problems(json.dumps({**LEAST, **members}).encode())


def test_the_least_event() -> None:
    event = taken()
    assert msgspec.structs.asdict(event) == {
        "event_id": "order-1",
        "event_name": "purchase",
        "timestamp": "2026-02-25T14:30:00.000Z",
        "merchant_id": MERCHANT,
        **dict.fromkeys(
            ("source", "user_data", "consent", "custom_data", "url", "value", "currency", "order_id", "items")
        ),
    }


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("value", [None, "", " \t", "absent"])
def test_what_is_required(name: str, value: str | None) -> None:
    members = {**LEAST, name: value}
    if value == "absent":
        del members[name]
    assert problems(json.dumps(members).encode()) == [(name, f"{name} is required")]


@pytest.mark.parametrize(
    ("members", "field", "message"),
    [
        ({"event_id": 5}, "event_id", "must be a string, not a number"),
        ({"event_id": True}, "event_id", "must be a string, not true or false"),
        ({"event_id": "x" * 513}, "event_id", "is longer than 512 characters"),
        ({"event_name": ["a"]}, "event_name", "must be a string, not an array"),
        ({"event_name": "x" * 1025}, "event_name", "is longer than 1024 characters"),
        ({"event_time": True}, "event_time",
         "must be Unix seconds (an integer) or an ISO 8601 time, not true or false"),
        ({"event_time": {}}, "event_time", "must be Unix seconds (an integer) or an ISO 8601 time, not an object"),
        ({"event_time": 1772029800.5}, "event_time",
         "must be Unix seconds (an integer) or an ISO 8601 time, not a fraction"),
        ({"event_time": 1772029800123}, "event_time",
         "must lie between the years 2000 and 2099, in Unix seconds; this looks like milliseconds"),
        ({"event_time": -1}, "event_time", "must lie between the years 2000 and 2099, in Unix seconds"),
        ({"event_time": 0}, "event_time", "must lie between the years 2000 and 2099, in Unix seconds"),
        ({"event_time": 10**40}, "event_time", "must lie between the years 2000 and 2099, in Unix seconds"),
        ({"event_time": "1999-12-30"}, "event_time", "must lie between the years 2000 and 2099, in Unix seconds"),
        ({"event_time": "0001-01-01T00:00:00+10:00"}, "event_time",
         "must lie between the years 2000 and 2099, in Unix seconds"),
        ({"event_time": "1772029800"}, "event_time",
         "must be Unix seconds (an integer) or an ISO 8601 time, such as 1772029800 or 2026-02-25T14:30:00Z"),
        ({"event_time": "yesterday"}, "event_time",
         "must be Unix seconds (an integer) or an ISO 8601 time, such as 1772029800 or 2026-02-25T14:30:00Z"),
        ({"event_time": "2026-02-30"}, "event_time",
         "must be Unix seconds (an integer) or an ISO 8601 time, such as 1772029800 or 2026-02-25T14:30:00Z"),
        ({"merchant_id": 5}, "merchant_id", "must be a UUID, not a number"),
        ({"merchant_id": MERCHANT.replace("-", "")}, "merchant_id", f"must be a UUID such as {MERCHANT}"),
        ({"merchant_id": f"{{{MERCHANT}}}"}, "merchant_id", f"must be a UUID such as {MERCHANT}"),
        ({"merchant_id": f"{MERCHANT}\n"}, "merchant_id", f"must be a UUID such as {MERCHANT}"),
        ({"source": 1}, "source", "must be a string, not a number"),
        ({"source": "x" * 513}, "source", "is longer than 512 characters"),
        ({"value": "129.99"}, "value", "must be a number, not a string"),
        ({"value": True}, "value", "must be a number, not true or false"),
        ({"value": -0.01}, "value", "must be 0 or more"),
        ({"value": 10**400}, "value", "holds a number out of range"),
        ({"currency": 840}, "currency", "must be a string, not a number"),
        ({"currency": "US"}, "currency", "must be a code of ISO 4217 such as EUR"),
        ({"currency": "EURO"}, "currency", "must be a code of ISO 4217 such as EUR"),
        ({"currency": "ABC"}, "currency", "must be a code of ISO 4217 such as EUR"),
        ({"currency": "€"}, "currency", "must be a code of ISO 4217 such as EUR"),
        ({"order_id": 12345}, "order_id", "must be a string, not a number"),
        ({"items": {}}, "items", "must be an array, not an object"),
        ({"items": "x"}, "items", "must be an array, not a string"),
        ({"items": [{}] * (ITEMS_MAX + 1)}, "items", f"has {ITEMS_MAX + 1} items; at most {ITEMS_MAX} are taken"),
        ({"items": [None]}, "items[0]", "must be an object, not null"),
        ({"items": [{}, {"id": " "}]}, "items[1].id", "is required"),
        ({"items": [{"id": []}]}, "items[0].id", "must be a string, not an array"),
        ({"items": [{"quantity": "2"}]}, "items[0].quantity", "must be a number, not a string"),
        ({"items": [{"quantity": -1}]}, "items[0].quantity", "must be 0 or more"),
        ({"items": [{"price": False}]}, "items[0].price", "must be a number, not true or false"),
        ({"custom_data": []}, "custom_data", "must be an object, not an array"),
        ({"custom_data": "x"}, "custom_data", "must be an object, not a string"),
        ({"custom_data": 5}, "custom_data", "must be an object, not a number"),
        ({"custom_data": False}, "custom_data", "must be an object, not true or false"),
        ({"consent_state": "granted"}, "consent_state", "must be an object, not a string"),
        ({"consent_state": {"ad_storage": True}}, "consent_state.ad_storage", 'must be "granted" or "denied"'),
        ({"consent_state": {"ad_user_data": "yes"}}, "consent_state.ad_user_data", 'must be "granted" or "denied"'),
        ({"event_source_url": 1}, "event_source_url", "must be a string, not a number"),
        ({"event_source_url": "https://x/" + "y" * 8192}, "event_source_url", "is longer than 8192 characters"),
        ({"user_data": []}, "user_data", "must be an object, not an array"),
        ({"user_data": "jane@example.com"}, "user_data", "must be an object, not a string"),
        ({"user_data": {"browser_ids": ["fbp"]}}, "user_data.browser_ids", "must be an object, not an array"),
        ({"user_data": {"browser_ids": {"fbp": {}}}}, "user_data.browser_ids.fbp",
         "must be a string or an integer, not an object"),
        ({"user_data": {"email": ["a@b.c", 5]}}, "user_data.email[1]", "must be a string, not a number"),
        ({"user_data": {"email": "x" * (VALUE_CHARS_MAX + 1)}}, "user_data.email",
         f"is longer than {VALUE_CHARS_MAX} characters"),
        ({"user_data": {"phone": ["1"] * (VALUES_MAX + 1)}}, "user_data.phone",
         f"has {VALUES_MAX + 1} values; at most {VALUES_MAX} are taken"),
        ({"user_data": {"lead_id": 2**63}}, "user_data.lead_id", "holds a number out of range"),
        ({"user_data": {"loyalty": {"points": [1, -(2**63) - 1]}}}, "user_data.loyalty", "holds a number out of range"),
        ({"consent_state": {"tcf": 10**30}}, "consent_state", "holds a number out of range"),
    ],
)  # fmt: skip
def test_what_is_wrong(members: dict[str, Any], field: str, message: str) -> None:
    assert wrong(**members) == [(field, f"{field} {message}")]


@pytest.mark.parametrize(
    "url",
    ["www.example.com", "/cart", "javascript:alert(1)", "mailto:a@b.c", "https://", "https:///x", "https://a b", "https://a\n",
     "data:text/html,x", "://x", "1https://x", "https://\x00"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    message = "event_source_url must be a whole address such as https://shop.example.com/p/1"
    assert wrong(event_source_url=url) == [("event_source_url", message)]


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "http://localhost:3000/?a=b#c", "https://bücher.example/ä?q=%20", "capacitor://localhost/index",
     "HTTPS://[::1]:8443/", "https://u:p@h/"],
)  # fmt: skip
def test_addresses(url: str) -> None:
    assert taken(event_source_url=url).url == url


@pytest.mark.parametrize("name", [*TEXTS, *IDS, *ONE_TEXT, *ONE_ID])
def test_every_field_of_a_person(name: str) -> None:
    """C.3: texts of which there may be several, ids that may be numbers, and single ones; all else is refused."""
    field = f"user_data.{name}"
    several, numbers = name in (*TEXTS, *IDS), name in (*IDS, *ONE_ID)
    assert taken(user_data={name: " Value "}).user_data == {name: " Value "}
    for empty in (None, "", " \n\t ", "\u00a0"):
        assert taken(user_data={name: empty, "madid2": empty}).user_data is None
    for value in (True, 1.5, {"a": 1}):
        assert [one for one, _ in wrong(user_data={name: value})] == [field]
    if numbers:
        assert taken(user_data={name: 42}).user_data == {name: 42}
    else:
        kind = "a string, or a list of them" if several else "a string"
        assert wrong(user_data={name: 42}) == [(field, f"{field} must be {kind}, not a number")]
    if several:
        assert taken(user_data={name: ["a", None, " ", "b"]}).user_data == {name: ["a", "b"]}
        assert taken(user_data={name: [None, " "]}).user_data is None
        assert taken(user_data={name: []}).user_data is None
        assert [one for one, _ in wrong(user_data={name: ["a", True, ["b"]]})] == [
            f"{field}[1]",
            f"{field}[2]",
        ]
    else:
        assert [one for one, _ in wrong(user_data={name: ["a"]})] == [field]


def test_a_persons_other_fields_are_kept() -> None:
    """With what is empty in them dropped; ids of browsers may be any."""
    given = {
        "browser_ids": {"fbp": "fb.1.2.3", "fbc": "", "ttp": "x", "ga": 5, "none": None},
        "loyalty": {"tier": "gold", "since": None, "notes": [" ", "a"]},
        "vip": True,
        "score": 1.5,
        "nothing": {"at": {"all": [None, ""]}},
    }
    assert taken(user_data=given).user_data == {
        "browser_ids": {"fbp": "fb.1.2.3", "ttp": "x", "ga": 5},
        "loyalty": {"tier": "gold", "notes": ["a"]},
        "vip": True,
        "score": 1.5,
    }


def test_all_that_is_wrong_at_once() -> None:
    """In the order of the fields, with a message that names them."""
    body = b'{"value":1e999,"user_data":{"email":5,"city":6},"items":[{"price":"1"},7],"event_time":1e999,"order_id":[]}'
    found = problems(body)
    assert [field for field, _ in found] == [
        "value", "event_time", "event_id", "event_name", "merchant_id", "user_data.email", "user_data.city", "order_id",
        "items[0].price", "items[1]",
    ]  # fmt: skip
    assert ("value", "value holds a number out of range") in found
    with pytest.raises(InvalidEvent, match=r"10 fields are wrong: value, event_time, event_id, .*, …$"):
        decode(body)
    with pytest.raises(InvalidEvent, match=r"^2 fields are wrong: event_id, value$"):
        decode(json.dumps({**LEAST, "event_id": 1, "value": "a"}).encode())


@pytest.mark.parametrize("member", ["custom_data", "items", "user_data", "consent_state", "zzz", "source"])
def test_a_number_beyond_all_bounds_anywhere(member: str) -> None:
    """Never an error of ours: refused, or passed through where nobody reads it."""
    for value in ("1e999", '{"a":1e999}', '[{"price":1e999}]'):
        body = json.dumps(LEAST)[:-1] + f',"{member}":{value}}}'
        with contextlib.suppress(InvalidEvent):
            decode(body.encode())
            continue
        assert {field.split(".")[0].split("[")[0] for field, _ in problems(body.encode())} == {member}


def test_problems_are_bounded() -> None:
    assert len(wrong(items=[{"price": "x", "quantity": "y"}] * 500)) == PROBLEMS_MAX


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; send one JSON object"),
        (b"{", "the body is not valid JSON"),
        (b"[]", "the body must be an object, not an array"),
        (b"null", "the body must be an object, not null"),
        (b'{"a":"\xff"}', "the body is not UTF-8"),
        (b'{"event_id":"\\ud800"}', "lone surrogate"),
        (b'{"custom_data":{"a":"\\ud800"}}', "lone surrogate"),
        (b'{"value":NaN}', "the body is not valid JSON"),
        # the decoder stops at the number, and what stands behind it is no JSON
        (b'{"value":1e999,', "the body is not valid JSON"),
        (b'{"value":1e999,"event_id":"\\ud800"}', "the body is not valid JSON"),
        (b'{"custom_data":' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper than"),
        (b'{"user_data":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper than"),
    ],
)
def test_bodies_that_are_no_event(body: bytes, message: str) -> None:
    [(field, text)] = problems(body)
    assert field == ""
    assert message in text


@pytest.mark.parametrize(
    ("given", "iso"),
    [
        (1772029800, "2026-02-25T14:30:00.000Z"),
        (1772029800.0, "2026-02-25T14:30:00.000Z"),
        (TIME_S_MIN, "1999-12-31T00:00:00.000Z"),
        (TIME_S_MAX - 1, "2100-01-01T23:59:59.000Z"),
        ("2026-02-25", "2026-02-25T00:00:00.000Z"),
        ("2026-02-25T14:30:00", "2026-02-25T14:30:00.000Z"),
        ("2026-02-25T14:30:00.5+01:00", "2026-02-25T13:30:00.500Z"),
        ("20260225T143000Z", "2026-02-25T14:30:00.000Z"),
        ("2026-02-25 14:30:00.123456z", "2026-02-25T14:30:00.123Z"),
    ],
)
def test_times(given: Any, iso: str) -> None:
    """Unix seconds and ISO 8601 (UTC where it names no zone) are one form afterwards."""
    assert taken(event_time=given).timestamp == iso


@pytest.mark.parametrize(
    ("given", "kept"), [(0, 0), (5, 5), (129.99, 129.99), (2**63, float(2**63)), (1e300, 1e300)]
)
def test_values(given: float, kept: float) -> None:
    value = taken(value=given).value
    assert (value, type(value)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("given", "kept"), [("EUR", "EUR"), ("usd", "USD"), (" gbp ", "GBP"), ("", None), (" ", None)]
)
def test_currencies(given: str, kept: str | None) -> None:
    assert taken(currency=given).currency == kept


def test_the_list_of_currencies() -> None:
    """The maintained one, and those that were withdrawn lately, which it has no more."""
    assert {"EUR", "USD", "JPY", "XCG", "SLE"} <= CURRENCIES
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES)
    assert not WITHDRAWN & set(iso4217.raw_table)
    assert not {"DEM", "ABC", "EURO"} & CURRENCIES
    for code in CURRENCIES:
        assert taken(currency=code.lower()).currency == code


def test_of_duplicate_members_the_last_wins() -> None:
    body = json.dumps(LEAST)[:-1] + ',"value":1,"value":2,"user_data":{"email":"a","email":"b"}}'
    event = decode(body.encode())
    assert (event.value, event.user_data) == (2, {"email": "b"})


def test_items_and_custom_data_stay_the_bytes_that_came() -> None:
    """Numbers are not rounded, and nothing is lost."""
    body = (
        json.dumps(LEAST)[:-1]
        + ',"items":[{"id":7,"price":1.10}], "custom_data": {"n":1.000,"u":"\\u00e9"} }'
    )
    event = decode(body.encode())
    assert bytes(event.items or b"") == b'[{"id":7,"price":1.10}]'
    assert bytes(event.custom_data or b"") == b'{"n":1.000,"u":"\\u00e9"}'


def test_every_envelope_can_be_written() -> None:
    """Whatever was taken: also what would be beyond a 64-bit integer."""
    event = taken(
        value=10**30,
        user_data={"a": 2**63 - 1, "b": [1e300], "c": {"d": -(2**63)}},
        items=[{"price": 10**30}],
        custom_data={"n": 10**30},
    )
    received = Received("id", "acme", "server", "2026-02-25T14:30:01.000Z")
    written = json.loads(msgspec.json.encode(to_envelope(event, received)))
    assert written["properties"] == {"n": 10**30}
    assert written["value"] == 1e30


def test_an_invalid_event_is_an_invalid_payload() -> None:
    """So that whoever knows only that answers it too."""
    assert issubclass(InvalidEvent, InvalidPayload)
