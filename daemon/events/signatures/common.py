"""What all signatures share: the request that is looked at, the comparison, the clock."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from daemon.errors import HeadgateError

#: How far a signed timestamp may be from our clock, either way, in milliseconds (contracts A.2, F.6).
SKEW_MS_MAX = 300_000

#: Longest signature header that is looked at; real ones have a few hundred characters.
_HEADER_CHARS_MAX = 8192


class BadSignature(HeadgateError):
    """The signature does not fit; `stale` tells that only its time is wrong."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Headers(Protocol):
    """Request headers by lower-case name."""

    def get(self, key: str, /) -> str | None:
        """The header's first value, or None."""
        ...


class SignedRequest(Struct, frozen=True):
    """A request as it came: `uri` is what the sender called, `body` the bytes on the wire."""

    method: str
    uri: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        """A header that has to be there, without blanks around it. Raises BadSignature."""
        value = self.headers.get(name.lower())
        if value is None or not value.strip():
            raise BadSignature(f"{name} is missing")
        if len(value) > _HEADER_CHARS_MAX:
            raise BadSignature(f"{name} is longer than {_HEADER_CHARS_MAX} characters")
        return value.strip()


def same(expected: str | bytes, given: str | bytes) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(_bytes(expected), _bytes(given))


def any_same(expected: Iterable[str], given: Iterable[str]) -> bool:
    """Whether one of `given` is one of `expected`; always compares all."""
    found = False
    wanted = list(expected)
    for one in given:
        for other in wanted:
            found |= same(other, one)
    return found


def number(text: str, name: str) -> int:
    """A signed time as it was sent. Raises BadSignature for anything but plain digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadSignature(f"{name} is no number")
    return int(text)


def check_time(signed_ms: int, now_ms: int, name: str) -> None:
    """Refuse (BadSignature, stale) a signed time that is more than SKEW_MS_MAX away from `now_ms`."""
    if abs(now_ms - signed_ms) > SKEW_MS_MAX:
        raise BadSignature(f"{name} is more than 5 minutes away from now", stale=True)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
