"""Customer data: each field's normal form, what goes to the log, and what the destinations get."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from daemon.events.payload import InvalidPayload, JsonReader
from daemon.events.tracklayer.user import IDS, ONE_ID, ONE_TEXT, TEXTS
from daemon.events.userdata import PII, Filled, dropped_empty, fields, hashed, meta_user_data, tiktok_user
from daemon.events.userdata.destinations import META
from daemon.events.userdata.tables import Form
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.target import Target

_FUNCTIONS: dict[str, Callable[..., str | None]] = {
    name.removeprefix("normalise_"): function
    for name, function in inspect.getmembers(fields, inspect.isfunction)
    if name.startswith("normalise_")
}
_WITH_COUNTRY = {
    name for name, function in _FUNCTIONS.items() if "country" in inspect.signature(function).parameters
}


def one_field(data: bytes) -> str:
    """A field's text: normal once, normal for ever."""
    name, country, text = map(text_of, split(data, 3))
    function = _FUNCTIONS.get(name, fields.normalise_name)
    given = {"country": country[:2].lower()} if name in _WITH_COUNTRY else {}
    found = function(text, **given)
    if found is None:
        return "nothing is left"
    assert found
    found.encode()
    assert function(found, **given) == found, f"{found!r} becomes {function(found, **given)!r}"
    return "normal"


_objects = JsonReader.of(dict[str, Any])

#: Meta's keys whose values are hashed.
_HASHED = {key.name for key in META.keys if key.form is Form.HASHED}


def whole(data: bytes) -> str:
    """`user_data` as it goes to the log, and from there to the destinations."""
    try:
        given: dict[str, Any] = _objects.read(data)
    except InvalidPayload:
        return "no object"
    kept = dropped_empty(given)
    assert dropped_empty(kept) == kept
    safe = hashed(kept)
    for name in PII.keys() & safe.keys():
        values = safe[name] if isinstance(safe[name], list) else [safe[name]]
        assert isinstance(values, list)
        assert all(
            isinstance(one, str) and (fields.is_sha256(one) or fields.is_md5(one)) for one in values
        ), f"{name} is readable"
    assert hashed(safe) == safe
    filled = meta_user_data(kept)
    for destination in (filled, meta_user_data(safe), tiktok_user(kept), tiktok_user(safe)):
        msgspec.json.encode(destination)
    _same(filled, meta_user_data(safe))
    return "nothing for Meta" if not filled else "something for Meta"


def _same(raw: Filled, safe: Filled) -> None:
    """With `pii = hashed` Meta gets the same hashes."""
    assert {name: raw.get(name) for name in _HASHED} == {name: safe.get(name) for name in _HASHED}


_TEXT = (
    "user@example.com", "USER@Example.COM ", "@", ".", "+49 30 123456", "0049", "male", "Mujer", "1990-01-31", "31.12.1990", "12/31/90", "T00:00",
    "New York", "N.Y.", "US-CA", "California", "calif", "12345-6789", "SW1A 1AA", "Deutschland", "U.S.", "Çin", "the Netherlands", "İstanbul",
    "ß", "ﬁ", "ı", "Å", "A\u030a", "\u0345", "\u1e9e", "\u2028", "-", "'", "0" * 64, "a" * 32, "::1", "192.0.2.1", "fe80::1%eth0", "٣", "²",
)  # fmt: skip
_VALUES = (
    *(f'"{text}"' for text in _TEXT if "\u2028" not in text), "1", "1.0", "1e300", "true", '["a","A "]', '{"fbp":"fb.1.1.1","fbc":" "}',
    '["a@b.cd",null,7,{"a":1},[]]',
)  # fmt: skip

TARGETS = (
    Target(
        "user-field", "one field of customer data", one_field,
        (Grammar("text", tuple(_FUNCTIONS)), Grammar("text", ("us", "de", "gb", "")), Grammar("text", _TEXT)), 2048, share=1,
    ),
    Target(
        "user-data", "customer data for the log and the destinations", whole,
        (Grammar("json", (*TEXTS, *IDS, *ONE_TEXT, *ONE_ID, "browser_ids", "fbp", "fbc", "locale", "x"), _VALUES),), 8 * 1024, share=0.7,
    ),
)  # fmt: skip
