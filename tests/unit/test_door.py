"""Who is calling: keys, origins, addresses."""

from __future__ import annotations

import base64

import pytest

from daemon.events.outcome import Outcome
from daemon.frontend import auth, cookies, cors
from daemon.frontend.client import ClientAddress
from daemon.frontend.refusal import Refusal


class Head:
    """A request's head."""

    def __init__(
        self,
        *headers: tuple[str, str],
        query: str = "",
        client: str = "203.0.113.7:4711",
        scheme: str = "http",
    ) -> None:
        self.method = "POST"
        self.path = "/v1/t"
        self.query_string = query
        self.client = client
        self.scheme = scheme
        self._headers = headers

    @property
    def headers(self) -> Head:
        """Itself: `get` and `get_all` are all that is asked."""
        return self

    def get(self, key: str, default: object = None) -> object:
        """The first."""
        return next((value for name, value in self._headers if name == key), default)

    def get_all(self, key: str) -> list[str]:
        """All."""
        return [value for name, value in self._headers if name == key]


def basic(text: str) -> str:
    """A Basic header."""
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "head",
    [
        Head(("authorization", "Bearer dk_live_abc")),
        Head(("authorization", "bearer dk_live_abc")),
        Head(("authorization", "Bearer  dk_live_abc ")),
        Head(("authorization", basic("dk_live_abc:"))),
        Head(("authorization", basic("dk_live_abc"))),
        Head(query="wk=dk_live_abc"),
        Head(query="x=1&wk=dk%5Flive_abc"),
        Head(query="&".join(["x=1"] * 2000) + "&wk=dk_live_abc&wk=second"),
        Head(query="xwk=no&wk=dk_live_abc"),
    ],
)
def test_where_a_key_may_stand(head: Head) -> None:
    """0.2.13: Bearer, Basic without a password, ?wk=."""
    assert auth.pipeline_key(head, head.headers) == "dk_live_abc"


@pytest.mark.parametrize(
    "head",
    [
        Head(),
        Head(("authorization", "")),
        Head(("authorization", "Bearer")),
        Head(("authorization", "Bearer ")),
        Head(("authorization", "dk_live_abc")),
        Head(("authorization", "Token dk_live_abc")),
        Head(("authorization", "Bearer sk_abc")),
        Head(("authorization", "Bearer tl_live_abc")),
        Head(("authorization", "Bearer " + "dk_" + "x" * 300)),
        Head(("authorization", basic("dk_live_abc:secret"))),
        Head(("authorization", "Basic !!!")),
        Head(("authorization", "Basic " + base64.b64encode(b"\xff\xfe").decode())),
        Head(("authorization", "Bearer nope"), query="wk=dk_live_abc"),
        Head(query="wk="),
        Head(query="wk=nope"),
        Head(query="key=dk_live_abc"),
        Head(query="xwk=dk_live_abc"),
    ],
)
def test_what_is_no_key(head: Head) -> None:
    """401; a bad header is not rescued by the query."""
    with pytest.raises(Refusal) as caught:
        auth.pipeline_key(head, head.headers)
    assert caught.value.outcome is Outcome.INVALID_KEY


@pytest.mark.parametrize(
    ("origin", "development", "allowed"),
    [
        ("https://shop.example.com", False, True),
        ("HTTPS://Shop.Example.com", False, True),
        ("https://shop.example.com:443", False, True),
        ("http://shop.example.com", False, False),
        ("https://shop.example.com:8443", False, False),
        ("https://shop.example.com.evil.net", False, False),
        ("https://a.wild.example.org", False, True),
        ("https://a.b.wild.example.org", False, True),
        ("https://wild.example.org", False, False),
        ("https://evilwild.example.org", False, False),
        ("null", False, False),
        ("", False, False),
        ("http://localhost:3000", False, False),
        ("http://localhost:3000", True, True),
        ("http://127.0.0.1", True, True),
        ("https://[::1]:8443", True, True),
        ("http://localhost.evil.net", True, False),
        ("http://localhost:99999999", True, False),
        ("null", True, False),
        ("file://localhost", True, False),
    ],
)
def test_which_pages_may_send(origin: str, development: bool, allowed: bool) -> None:
    """0.2.20: the source's list; this machine's pages in development only."""
    listed = ("https://shop.example.com", "https://*.wild.example.org")
    assert cors.allowed(origin, listed, development) is allowed
    assert not cors.allowed("https://shop.example.com", (), development)


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        ("203.0.113.7:1", [], "203.0.113.7"),
        ("203.0.113.7:1", ["1.1.1.1"], "203.0.113.7"),
        ("127.0.0.1:1", ["1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1:1", ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1:1", ["9.9.9.9, 1.1.1.1, 10.2.3.4"], "1.1.1.1"),
        ("127.0.0.1:1", ["9.9.9.9", "1.1.1.1", "10.2.3.4"], "1.1.1.1"),
        ("127.0.0.1:1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("127.0.0.1:1", ["9.9.9.9, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("127.0.0.1:1", ["1.1.1.1:5555"], "1.1.1.1"),
        ("127.0.0.1:1", ["[2001:db8::1]:5555"], "2001:db8::1"),
        ("127.0.0.1:1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("[::1]:1", ["1.1.1.1"], "::1"),
        ("[::ffff:127.0.0.1]:1", ["1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1:1", [""], "127.0.0.1"),
    ],
)
def test_the_callers_address(peer: str, forwarded: list[str], ip: str) -> None:
    """0.1.11: the right-most untrusted entry, and only from a trusted peer."""
    clients = ClientAddress(("127.0.0.1", "10.0.0.0/8"))
    head = Head(*[("x-forwarded-for", value) for value in forwarded], client=peer)
    assert clients.ip(head, head.headers) == ip


def test_the_scheme_is_believed_from_trusted_proxies_only() -> None:
    """X-Forwarded-Proto decides about Secure cookies in development."""
    clients = ClientAddress(("127.0.0.1",))
    proto = ("x-forwarded-proto", "https")
    assert clients.https(Head(proto, client="127.0.0.1:1"))
    assert not clients.https(Head(proto, client="203.0.113.7:1"))
    assert not clients.https(Head(client="127.0.0.1:1"))
    assert clients.https(Head(scheme="https"))


def test_cookie_lines() -> None:
    """0.2.21, A.8."""
    assert cookies.set_cookie("_dfid", "v", ".example.com", secure=True) == (
        "set-cookie",
        "_dfid=v; Path=/; Max-Age=63072000; SameSite=Lax; Domain=.example.com; Secure; HttpOnly",
    )
    line = cookies.set_cookie("_fbp", "v", None, secure=False)[1]
    assert line == "_fbp=v; Path=/; Max-Age=7776000; SameSite=Lax"
