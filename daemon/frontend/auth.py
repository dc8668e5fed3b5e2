"""Which pipeline key a request carries (contracts A.0, 0.2.13)."""

from __future__ import annotations

import base64
import binascii

from daemon.events.outcome import Outcome
from daemon.frontend.query import parameter
from daemon.frontend.refusal import Refusal
from daemon.frontend.rsgi import RequestHeaders, Scope

#: Class prefix of pipeline keys.
PIPELINE_PREFIX = "dk_"

#: Longest token that is looked at: ours have 50 characters, and a longer one can't be a key.
TOKEN_CHARS_MAX = 256


def pipeline_key(scope: Scope, headers: RequestHeaders, *, in_query: bool = True) -> str:
    """
    The key out of `Authorization: Bearer`, Basic's user name, or `?wk=` (sendBeacon can send no header).

    A header decides alone: a bad one is not rescued by the query, which `in_query` False leaves out.
    Refuses (401) when there is none.
    """
    header = headers.get("authorization")
    if header is not None:
        # as nearly all write it, looked at first
        token = header[7:].strip() if header.startswith("Bearer dk_") else _from_header(header)
        if token is None:
            raise bad_key("the Authorization header holds no pipeline key; send 'Bearer dk_…'")
    elif in_query and "wk=" in scope.query_string:
        token = parameter(scope.query_string, "wk")
    else:
        raise no_key(" or ?wk=dk_…" if in_query else "")
    return checked(token)


def checked(token: str) -> str:
    """`token` if it can be a pipeline key at all. Refuses (401)."""
    if not token.startswith(PIPELINE_PREFIX) or len(token) > TOKEN_CHARS_MAX:
        raise bad_key("this is no pipeline key; they begin with dk_")
    return token


def no_key(either: str = "") -> Refusal:
    """401; `either` is another way to send one."""
    return bad_key(f"no pipeline key; send 'Authorization: Bearer dk_…'{either}")


def bad_key(message: str = "unknown, revoked or disabled pipeline key") -> Refusal:
    """401."""
    return Refusal(Outcome.INVALID_KEY, message)


def _from_header(header: str) -> str | None:
    scheme, _, value = header.partition(" ")
    kind = scheme.lower()
    if kind == "bearer":
        return value.strip()
    if kind == "basic":
        try:
            user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        # what Segment-style SDKs send: the key is the user name, and there is no password
        return user if not password else None
    return None
