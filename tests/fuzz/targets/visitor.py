"""Who sends: cookies, click ids, identity hashes, user agents, addresses, keys and the other headers of a request."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass, field

import msgspec

from daemon.adapters.keystore.origins import OriginSet
from daemon.errors import HeadgateError
from daemon.events import clickids, identity
from daemon.events.bots import is_bot
from daemon.events.contacts import normal_email, normal_phone
from daemon.events.outcome import Outcome
from daemon.frontend import auth, cors
from daemon.frontend.body import check_encoding, check_length, check_type
from daemon.frontend.client import ClientAddress
from daemon.frontend.cookies import set_cookies
from daemon.frontend.query import parameter
from daemon.frontend.refusal import Refusal
from daemon.frontend.tracklayer.browser import network
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.common import NOW_S
from tests.fuzz.targets.target import HeaderMap, Target, headers_of, refused

_RANDOM = bytes(range(24))


def visitor(data: bytes) -> str:
    """Cookies and a page's address: what is taken, what is made, and that it can stand in headers and in Redis."""
    head, url, known = map(text_of, split(data, 3))
    cookies = identity.read_cookies(head)
    assert cookies.visitor is None or identity.is_visitor_id(cookies.visitor)
    clicks = clickids.from_url(url)
    missing = tuple(name for name in identity.VENDOR_COOKIES if name not in cookies.vendors)
    made = identity.new_vendor_ids(missing, clicks, NOW_S, _RANDOM)
    if cookies.visitor:
        made[identity.VISITOR_COOKIE] = cookies.visitor
    for _, line in set_cookies({**cookies.vendors, **made}, ".example.com", secure=True):
        assert line.isascii()
        assert line.isprintable(), line
        assert line.count(";") == 5 + (line.startswith("_dfid")), line
    fields = {**identity.click_fields(clicks, NOW_S), **identity.vendor_fields(made)}
    assert identity.known_clicks(fields, NOW_S, 1.0) == clicks
    assert identity.known_vendors(fields) == made
    hashed = dict(pair.partition("=")[::2] for pair in known.split("&"))
    msgspec.json.encode(
        [identity.known_clicks(hashed, NOW_S, 1e9), identity.known_vendors(hashed), clicks, cookies]
    )
    return f"{len(clicks)} click ids, {len(cookies.vendors) + (cookies.visitor is not None)} cookies"


def agent(data: bytes) -> str:
    """A user agent: a bot or not, and the same each time."""
    text = text_of(data)
    found = is_bot(text)
    assert is_bot(text) is found
    return "bot" if found else "person"


def contact(data: bytes) -> str:
    """A phone number and an e-mail address: normal once, normal for ever."""
    region, part = split(data, 2)
    text = text_of(part)
    email = normal_email(text)
    assert normal_email(email) == email
    home = text_of(region)[:2]
    phone = normal_phone(text, home)
    if phone is None:
        return "no digits"
    assert phone.removeprefix("+").isdigit(), phone
    assert normal_phone(phone, home) == phone
    return "E.164" if phone.startswith("+") else "digits"


@dataclass
class Scope:
    """The head of a request, as the front sees it."""

    headers: HeaderMap
    query_string: str = ""
    method: str = "POST"
    path: str = "/v1/t"
    client: str = "127.0.0.1:40000"
    scheme: str = "http"
    seen: list[str] = field(default_factory=list)


_CLIENTS = (ClientAddress(()), ClientAddress(("127.0.0.0/8", "10.0.0.0/8", "::1/128")))
_ORIGINS = ("https://shop.example.com", "https://*.example.org")
_LISTED = OriginSet()
_LISTED.set("src_1", _ORIGINS)


def head(data: bytes) -> str:
    """Headers and query of a request: key, type, encoding, length, origin, address."""
    lines, query, peer = map(text_of, split(data, 3))
    scope = Scope(headers_of(lines), query)
    with contextlib.suppress(ValueError):  # a peer's address is the kernel's
        scope.client = f"{ipaddress.ip_address(peer)}:1"
    _addresses(scope)
    origin = scope.headers.get("origin", "")
    for development in (False, True):
        if cors.allowed(origin, _ORIGINS, development):
            cors.preflight_headers(origin)
    _LISTED.listed(cors.normal(origin))
    for name in ("wk", "source", "version", "format"):
        parameter(query, name).encode()
    try:
        key = auth.pipeline_key(scope, scope.headers)
        assert key.startswith("dk_")
        check_type(scope.headers)
        check_encoding(scope.headers.get("content-encoding"))
        if (
            scope.headers.get("content-length", "0").isdecimal()
            and scope.headers.get("content-length", "0").isascii()
        ):
            check_length(scope.headers, 1024)
    except Refusal as refusal:
        assert refusal.outcome in (Outcome.INVALID_KEY, Outcome.UNSUPPORTED, Outcome.TOO_LARGE)
        refused(refusal, refusal.message)
        return refusal.outcome.value
    except HeadgateError as error:
        return refused(error)
    return "accepted"


def _addresses(scope: Scope) -> None:
    for clients in _CLIENTS:
        ip = clients.ip(scope, scope.headers)
        assert ip
        assert network(ip)
        clients.https(scope)
        clients.url(scope).encode()


_COOKIES = (
    "_dfid=3f2504e0-4f89-41d3-9a0c-0305e82c3301", "_ga=GA1.1.123.456", "_fbp=fb.1.1772029800000.1234567890", "_ttp=abc",
    "_fbc=fb.1.1772029800000.x", "_gcl_aw=GCL.1772029800.y", "; ", ";", "=", "_dfid=", "_ga=", "session=1",
)  # fmt: skip
_URLS = (
    *(f"&{name}=abc" for name in clickids.CLICK_IDS),
    "?",
    "#",
    "&",
    "%20",
    "%C3",
    "%00",
    "+",
    "https://shop.example.com/p?gclid=1",
)
_KNOWN = (
    "c:gclid=1772029800:abc",
    "&",
    "c:fbclid=x:y",
    "c:epik=²:y",
    "v:_ga=GA1.1.1.1",
    "uid=u1",
    "c:=1:1",
    "c:gclid=9:",
)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Googlebot/2.1 (+http://www.google.com/bot.html)", "curl/8.5.0", "(Linux; Android 13; ", "(Linux; U; Android 7.0; en-us; C Bot Tab 70)",
    "HeadlessChrome/", " Firefox/132.0", "facebookexternalhit/1.1", "python-requests/2", "Version/18.1 Mobile/15E148", "spider", "; ", "com.",
)  # fmt: skip
_PHONES = (
    "+49 30 123456", "0049 (0)30 12-34", "030/123456", "+1 201 555 0123", "tel:+1-201-555-0123;ext=9", ";phone-context=+49",
    " x 12", "＋", "٣٤", "00", "+", "1-800-FLOWERS", "a@b.c", "@", "(0)", ",", "#",
)  # fmt: skip
_REGIONS = ("DE", "US", "GB", "IT", "BR", "AR", "MX", "CI", "001", "ZZ", "")
_HEADERS = (
    "Authorization: Bearer dk_live_key", "Authorization: Basic ZGtfbGl2ZV9rZXk6", "Content-Type: application/json",
    "Content-Type: text/plain; charset=utf-8", "; charset=latin-1", "Content-Encoding: gzip", "Content-Length: 12",
    "Origin: https://shop.example.com", "Origin: http://localhost:3000", "Origin: http://[::1]:80", "Origin: null",
    "X-Forwarded-For: 10.0.0.1, 203.0.113.7", "X-Forwarded-For: [2001:db8::1]:443", "X-Forwarded-For: fe80::1%eth0",
    "X-Forwarded-For: ::ffff:192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example.com", "Host: t.example.com", "\n",
    ", ", ";", "=", "https://*.example.org", "https://a.b.example.org:443",
)  # fmt: skip

TARGETS = (
    Target(
        "visitor", "cookies, click ids, identity hashes", visitor,
        (Grammar("text", _COOKIES), Grammar("text", _URLS), Grammar("text", _KNOWN)), 8 * 1024, share=1,
    ),
    Target("user-agent", "user agents: bot or person", agent, (Grammar("text", _AGENTS),), 4 * 1024, share=1),
    Target("contact", "phone numbers and e-mail addresses", contact, (Grammar("text", _REGIONS), Grammar("text", _PHONES)), 1024, share=1),
    Target(
        "head", "headers and query of a request", head,
        (
            Grammar("text", _HEADERS), Grammar("text", ("wk=dk_live_key", "&", "=", "source=", "%64", "version=1", "+")),
            Grammar("text", ("127.0.0.1", "10.1.2.3", "::1", "[::1]", "unix")),
        ), 8 * 1024, share=1,
    ),
)  # fmt: skip
