"""
Which pages may send (contracts 0.2.20).

Credentials are allowed, so the one origin is echoed, never `*`, and the reply varies by it.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from daemon.frontend.refusal import Headers

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def allowed(origin: str, listed: Collection[str], development: bool) -> bool:
    """Whether a page of `origin` may send to a source that lists `listed`."""
    if origin in listed:
        return True  # spelled as it is listed
    wanted = normal(origin)
    if development and is_local(wanted):
        return True
    return any(matches(wanted, entry) for entry in listed)


#: Longest origin that is looked at; a host's name has at most 253 characters. Whoever sends a preflight shows no key,
#: and what is kept of it (`lru_cache`) and searched for wildcards must not be as long as a head may be.
ORIGIN_CHARS_MAX = 512


def normal(origin: str) -> str:
    """An origin as browsers spell it: lower case, without the scheme's own port; empty for what is too long for one."""
    return _normal(origin) if len(origin) <= ORIGIN_CHARS_MAX else ""


@lru_cache(16384)
def _normal(origin: str) -> str:
    origin = origin.strip().lower()
    if origin.startswith("https://"):
        return origin.removesuffix(":443")
    if origin.startswith("http://"):
        return origin.removesuffix(":80")
    return origin


def matches(origin: str, entry: str) -> bool:
    """Whether a normal `origin` is `entry`, or is below an entry such as `https://*.example.com`."""
    if origin == entry:
        return True
    scheme, star, rest = entry.partition("://*.")
    return bool(star) and origin.startswith(scheme + "://") and origin.endswith("." + rest)


@lru_cache(16384)
def is_local(origin: str) -> bool:
    """Whether a page of this machine, on any port, has this origin."""
    try:
        parts = urlsplit(origin)
        return (
            parts.scheme in ("http", "https") and parts.hostname in _LOCAL_HOSTS and parts.port is not False
        )
    except ValueError:
        return False


_ALWAYS = (
    ("access-control-allow-credentials", "true"),
    ("access-control-allow-methods", "POST, OPTIONS"),
    ("access-control-allow-headers", "Content-Type, Authorization"),
    (
        "access-control-expose-headers",
        "Retry-After, X-Headgate-Durability, X-Headgate-Duplicate, X-Request-Id",
    ),
    ("vary", "Origin"),
)


def reply_headers(origin: str) -> Headers:
    """What lets the page of `origin` read the reply."""
    return [("access-control-allow-origin", origin), *_ALWAYS]


def preflight_headers(origin: str) -> Headers:
    """The answer to a preflight of an origin that may send; browsers keep it for two hours."""
    return [*reply_headers(origin), ("access-control-max-age", "7200")]
