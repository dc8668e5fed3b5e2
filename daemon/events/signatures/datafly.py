"""Datafly's own signature of server events and batches (contracts A.2)."""

from __future__ import annotations

import hashlib
import hmac

from daemon.events.signatures.common import BadSignature, check_time, same


def datafly_signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` + HMAC-SHA256 of `{timestamp}.{body}`, in lower-case hex."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def check_datafly(secret: bytes, signature: str, timestamp: str | None, body: bytes, now_ms: int) -> None:
    """Check `X-Signature` and `X-Timestamp` (Unix milliseconds) of a request. Raises BadSignature."""
    if timestamp is None:
        raise BadSignature("X-Timestamp is missing; send Unix milliseconds beside X-Signature")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise BadSignature("X-Timestamp is no number; send Unix milliseconds")
    if not same(datafly_signature(secret, timestamp, body), signature.strip()):
        raise BadSignature("X-Signature does not fit the body, the timestamp and the source's secret")
    check_time(int(timestamp), now_ms, "X-Timestamp")
