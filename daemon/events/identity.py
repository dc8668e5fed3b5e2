"""
Who a visitor is: the `_dfid` cookie, the vendors' cookies, click ids, and the user they signed in as.

The identity hash of a visitor (kept by a VisitStore) has the fields

    uid          the user that identify linked
    c:<name>     a click id as `<unix seconds>:<value>`; it goes with events for 90 days
    v:<cookie>   a vendor id as it stands in the cookie

Everything here is pure: time and randomness come in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

#: The visitor's own cookie.
VISITOR_COOKIE = "_dfid"

_UUID4 = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")

#: Vendor cookie → what a well-formed value looks like (contracts A.8 and F.5). `_ttp` is opaque: TikTok
#: gives no format, so any cookie value is kept.
_OCTETS = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]"
VENDOR_COOKIES: dict[str, re.Pattern[str]] = {
    "_ga": re.compile(r"GA\d\.\d+\.\d+\.\d+", re.ASCII),
    "_fbp": re.compile(r"fb\.\d\.\d+\.\d+", re.ASCII),
    "_ttp": re.compile(_OCTETS + "{1,256}"),
    "_fbc": re.compile(r"fb\.\d\.\d+\." + _OCTETS + "{1,600}", re.ASCII),
    "_gcl_aw": re.compile(r"GCL\.\d+\." + _OCTETS + "{1,600}", re.ASCII),
}

#: The ones every visitor gets; the other two exist only with their click id.
ALWAYS = ("_ga", "_fbp", "_ttp")

_COOKIE_SAFE = re.compile(_OCTETS + "+")


class Cookies(Struct, frozen=True, gc=False):
    """
    What a request's cookies say: a well-formed `_dfid` (else None) and the well-formed vendor ids.

    `missing` names the vendor cookies that are not there; `lacks_common` says whether one that every visitor gets
    is among them.
    """

    visitor: str | None
    vendors: dict[str, str]
    missing: tuple[str, ...]
    lacks_common: bool


def is_visitor_id(value: str) -> bool:
    """Whether `value` has the form of a `_dfid`: a UUID version 4."""
    return _UUID4.fullmatch(value) is not None


def read_cookies(header: str | None) -> Cookies:
    """The cookies that matter out of a `Cookie` header; malformed ones count as absent."""
    visitor: str | None = None
    vendors: dict[str, str] = {}
    if header:
        for pair in header.split(";"):
            name, mark, value = pair.strip().partition("=")
            if not mark:
                continue
            if name == VISITOR_COOKIE:
                if visitor is None and _UUID4.fullmatch(value):
                    visitor = value
            elif (
                (shape := VENDOR_COOKIES.get(name)) is not None
                and name not in vendors
                and shape.fullmatch(value)
            ):
                vendors[name] = value
    missing = tuple(name for name in VENDOR_COOKIES if name not in vendors)
    return Cookies(visitor, vendors, missing, any(name in missing for name in ALWAYS))


def uuid4_of(random: bytes) -> str:
    """A UUID version 4 (RFC 9562) out of 16 random bytes."""
    digits = random.hex()
    variant = "89ab"[random[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_vendor_ids(
    missing: tuple[str, ...], clicks: Mapping[str, str], now_s: float, random: bytes
) -> dict[str, str]:
    """
    Fresh values for the vendor cookies a visitor lacks.

    `missing` names cookies without a value; `_fbc` and `_gcl_aw` are made only with their click id in
    `clicks`, and only if that can stand in a cookie. `random` is 24 bytes.
    """
    made: dict[str, str] = {}
    for name in missing:
        if name == "_ga":
            made[name] = f"GA1.1.{int.from_bytes(random[:4])}.{int(now_s)}"
        elif name == "_fbp":
            # ten digits, as Meta's own script makes it
            made[name] = (
                f"fb.1.{int(now_s * 1000)}.{1_000_000_000 + int.from_bytes(random[4:8]) % 9_000_000_000}"
            )
        elif name == "_ttp":
            made[name] = uuid4_of(random[8:24])
        elif name == "_fbc" and (click := clicks.get("fbclid")) and _COOKIE_SAFE.fullmatch(click):
            made[name] = f"fb.1.{int(now_s * 1000)}.{click}"
        elif name == "_gcl_aw" and (click := clicks.get("gclid")) and _COOKIE_SAFE.fullmatch(click):
            made[name] = f"GCL.{int(now_s)}.{click}"
    return made


def click_fields(clicks: Mapping[str, str], now_s: float) -> dict[str, str]:
    """Click ids as fields of the identity hash."""
    return {f"c:{name}": f"{int(now_s)}:{value}" for name, value in clicks.items()}


def vendor_fields(vendors: Mapping[str, str]) -> dict[str, str]:
    """Vendor ids as fields of the identity hash."""
    return {f"v:{name}": value for name, value in vendors.items()}


def known_clicks(known: Mapping[str, str], now_s: float, ttl_s: float) -> dict[str, str]:
    """The click ids of an identity hash that are not older than `ttl_s` seconds."""
    clicks: dict[str, str] = {}
    for field, stored in known.items():
        if field[:2] == "c:":
            seconds, mark, value = stored.partition(":")
            # "²" is a digit and no number; one of thousands of digits int() refuses
            good = mark and seconds.isascii() and seconds.isdigit() and len(seconds) <= 15
            if good and now_s - int(seconds) <= ttl_s:
                clicks[field[2:]] = value
    return clicks


def known_vendors(known: Mapping[str, str]) -> dict[str, str]:
    """The vendor ids of an identity hash, by cookie name."""
    return {field[2:]: value for field, value in known.items() if field[:2] == "v:"}
