"""Set-Cookie lines for the visitor's and the vendors' ids (contracts 0.2.21, A.8)."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.events.identity import VISITOR_COOKIE

_DAY_S = 86400

#: Seconds that a cookie lives; browsers themselves cap it at 400 days.
MAX_AGE_S = {
    VISITOR_COOKIE: 63072000,
    "_ga": 63072000,
    "_fbp": 90 * _DAY_S,
    "_fbc": 90 * _DAY_S,
    "_ttp": 395 * _DAY_S,
    "_gcl_aw": 90 * _DAY_S,
}


def set_cookie(name: str, value: str, domain: str | None, secure: bool) -> tuple[str, str]:
    """One header. Only the visitor's cookie is HttpOnly: the vendors' scripts read theirs."""
    line = f"{name}={value}; Path=/; Max-Age={MAX_AGE_S[name]}; SameSite=Lax"
    if domain:
        line += f"; Domain={domain}"
    if secure:
        line += "; Secure"
    if name == VISITOR_COOKIE:
        line += "; HttpOnly"
    return ("set-cookie", line)


def set_cookies(values: Mapping[str, str], domain: str | None, secure: bool) -> list[tuple[str, str]]:
    """A header for each cookie."""
    return [set_cookie(name, value, domain, secure) for name, value in values.items()]
