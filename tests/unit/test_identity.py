"""Cookies, vendor ids and click ids."""

from __future__ import annotations

import re
import uuid

import pytest

from daemon.events import clickids, identity

VISITOR = "3f2b8c9e-6f0a-4d53-9d1e-2b7a5c4e8f10"


@pytest.mark.parametrize(
    ("header", "visitor"),
    [
        (None, None),
        ("", None),
        (f"_dfid={VISITOR}", VISITOR),
        (f"a=b; _dfid={VISITOR}; c=d", VISITOR),
        (f"a=b;_dfid={VISITOR};", VISITOR),
        (f"_dfid={VISITOR.upper()}", VISITOR.upper()),
        ("_dfid=", None),
        ("_dfid=not-a-uuid", None),
        ("_dfid=3f2b8c9e-6f0a-1d53-9d1e-2b7a5c4e8f10", None),  # version 1
        (f"_dfid={VISITOR}x", None),
        (f"x_dfid={VISITOR}", None),
        (f"_dfid=bad; _dfid={VISITOR}", VISITOR),
        ("novalue; =; ;;", None),
    ],
)
def test_only_a_well_formed_visitor_cookie_counts(header: str | None, visitor: str | None) -> None:
    """0.2.21: a malformed one is replaced, so it counts as absent."""
    assert identity.read_cookies(header).visitor == visitor


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        ("_ga=GA1.1.1234567890.1700000000", True),
        ("_ga=GA1.2.1.2", True),
        ("_ga=abc", False),
        ("_fbp=fb.1.1596403881668.1116446470", True),
        ("_fbp=fb.x.1.2", False),
        ("_fbc=fb.1.1596403881668.IwAR0abc-_", True),
        ("_fbc=fb.1.1596403881668.", False),
        ("_ttp=2abcDEF", True),
        ("_ttp=", False),
        ("_ttp=a,b", False),
        ("_gcl_aw=GCL.1700000000.abc", True),
        ("_gcl_aw=1700000000.abc", False),
        ("_other=1", False),
    ],
)
def test_vendor_cookies_are_kept_when_well_formed(cookie: str, kept: bool) -> None:
    """F.5."""
    name, _, value = cookie.partition("=")
    assert identity.read_cookies(cookie).vendors == ({name: value} if kept else {})


def test_fresh_ids_have_the_vendors_forms() -> None:
    """What we make, we also accept; `_fbc` and `_gcl_aw` only with their click id."""
    random = bytes(range(24))
    names = tuple(identity.VENDOR_COOKIES)
    made = identity.new_vendor_ids(names, {}, 1700000000.5, random)
    assert set(made) == set(identity.ALWAYS)
    with_clicks = identity.new_vendor_ids(names, {"fbclid": "IwAR1", "gclid": "Cj0"}, 1700000000.5, random)
    assert with_clicks["_fbc"] == "fb.1.1700000000500.IwAR1"
    assert with_clicks["_gcl_aw"] == "GCL.1700000000.Cj0"
    assert re.fullmatch(r"fb\.1\.1700000000500\.\d{10}", with_clicks["_fbp"])
    for name, value in with_clicks.items():
        assert identity.VENDOR_COOKIES[name].fullmatch(value)
    assert uuid.UUID(with_clicks["_ttp"]).version == 4


@pytest.mark.parametrize("click", ["a;b", "a b", "a\r\nSet-Cookie: x=1", "ä", 'a"b', "a,b", "a\\b"])
def test_a_click_id_that_could_break_a_cookie_makes_none(click: str) -> None:
    """Header injection has no way in; the click id itself still goes with the event."""
    assert (
        identity.new_vendor_ids(("_fbc", "_gcl_aw"), {"fbclid": click, "gclid": click}, 1.0, bytes(24)) == {}
    )


def test_uuid4_of_any_bytes_is_a_version_4() -> None:
    """RFC 9562: version and variant bits."""
    for byte in range(0, 256, 5):
        made = uuid.UUID(identity.uuid4_of(bytes([byte]) * 16))
        assert made.version == 4
        assert made.variant == uuid.RFC_4122


def test_click_ids_go_stale() -> None:
    """0.2.22: stored for 90 days; a broken field is passed over."""
    fields = identity.click_fields({"gclid": "G:1", "epik": "e"}, 1000.9)
    assert fields == {"c:gclid": "1000:G:1", "c:epik": "1000:e"}
    known = {**fields, "uid": "u", "c:bad": "nonsense", "v:_ga": "GA1.1.1.1"}
    assert identity.known_clicks(known, 1100, 100) == {"gclid": "G:1", "epik": "e"}
    assert identity.known_clicks(known, 1101, 100) == {}
    assert identity.known_vendors(known) == {"_ga": "GA1.1.1.1"}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://shop/p?gclid=Abc-_1&x=y", {"gclid": "Abc-_1"}),
        ("https://shop/p?fbclid=a&ttclid=b&li_fat_id=c&ScCid=d&epik=e&tduid=f&gclid=g",
         {"fbclid": "a", "ttclid": "b", "li_fat_id": "c", "ScCid": "d", "epik": "e", "tduid": "f", "gclid": "g"}),
        ("https://shop/p?GCLID=a&sccid=b", {}),
        ("https://shop/p?gclid=", {}),
        ("https://shop/p#gclid=a", {}),
        ("https://shop/p?a=1#?gclid=a", {}),
        ("https://shop/p?gclid=a%2Bb+c&gclid=second", {"gclid": "a+b c"}),
        ("https://shop/p?gclid=" + "x" * 512, {"gclid": "x" * 512}),
        ("https://shop/p?gclid=" + "x" * 513, {}),
        ("https://shop/p?gclid=a%00b", {}),
        ("?gclid=a", {"gclid": "a"}),
        ("", {}),
        ("not a url", {}),
    ],
)  # fmt: skip
def test_click_ids_of_an_address(url: str, found: dict[str, str]) -> None:
    """A.8: names case-sensitive as listed, values at most 512 characters."""
    assert clickids.from_url(url) == found
