"""TrackLayer's answers (contracts 0.4.30)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from daemon.events.outcome import Outcome

#: How a refused request is answered: outcome → HTTP status and error code.
ERRORS: dict[Outcome, tuple[int, str]] = {
    Outcome.INVALID_PAYLOAD: (400, "validation_failed"),
    Outcome.INVALID_KEY: (401, "invalid_api_key"),
    Outcome.FORBIDDEN: (403, "forbidden"),
    Outcome.TOO_LARGE: (413, "payload_too_large"),
    Outcome.UNSUPPORTED: (415, "unsupported_media_type"),
    Outcome.RATE_LIMITED: (429, "rate_limited"),
    Outcome.UNAVAILABLE: (503, "unavailable"),
}


class FieldProblem(Struct):
    """What was wrong with one field."""

    field: str
    message: str


class Rejection(Struct):
    """The body of a refusal."""

    success: bool
    error: str
    message: str
    details: list[FieldProblem]


def error_body(code: str, message: str) -> bytes:
    """`{"success":false,"error":code,"message":text,"details":[…]}`."""
    return msgspec.json.encode(Rejection(success=False, error=code, message=message, details=[]))
