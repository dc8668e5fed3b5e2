"""
Signatures of what other servers send (contracts A.2, F.6).

Always over the raw bytes as they came, before inflating and before parsing, and compared in constant
time.
"""

from __future__ import annotations

import hashlib
import hmac

from daemon.errors import HeadgateError

#: How far a signed timestamp may be from our clock, either way, in milliseconds (contracts A.2).
SKEW_MS_MAX = 300_000


class BadSignature(HeadgateError):
    """The signature does not fit; `stale` tells that only its time is wrong."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


def datafly_signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` + HMAC-SHA256 of `{timestamp}.{body}`, in lower-case hex."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def check_datafly(secret: bytes, signature: str, timestamp: str | None, body: bytes, now_ms: int) -> None:
    """
    Check `X-Signature` and `X-Timestamp` (Unix milliseconds) of a request. Raises BadSignature.

    The time is looked at after the signature: whoever can't sign learns nothing about our clock.
    """
    if timestamp is None:
        raise BadSignature("X-Timestamp is missing; send Unix milliseconds beside X-Signature")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise BadSignature("X-Timestamp is no number; send Unix milliseconds")
    expected = datafly_signature(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.strip().encode("utf-8", "replace")):
        raise BadSignature("X-Signature does not fit the body, the timestamp and the source's secret")
    if abs(now_ms - int(timestamp)) > SKEW_MS_MAX:
        raise BadSignature("X-Timestamp is more than 5 minutes away from now", stale=True)
