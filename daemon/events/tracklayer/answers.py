"""TrackLayer's answers (contracts 0.4.30, 0.4.31)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from daemon.events.outcome import Outcome

#: How a refused request is answered: outcome → HTTP status and error code.
ERRORS: dict[Outcome, tuple[int, str]] = {
    Outcome.INVALID_PAYLOAD: (400, "validation_failed"),
    Outcome.INVALID_KEY: (401, "invalid_api_key"),
    Outcome.FORBIDDEN: (403, "forbidden"),
    Outcome.TIMEOUT: (408, "request_timeout"),
    Outcome.DUPLICATE: (409, "duplicate_event"),
    Outcome.TOO_LARGE: (413, "payload_too_large"),
    Outcome.UNSUPPORTED: (415, "unsupported_media_type"),
    Outcome.RATE_LIMITED: (429, "rate_limited"),
    Outcome.UNAVAILABLE: (503, "unavailable"),
}

#: Codes of an outcome that has several.
MERCHANT_MISMATCH = "merchant_mismatch"
UNKNOWN_MERCHANT = "unknown_merchant"

#: Codes whose status is not their outcome's.
_STATUSES = {UNKNOWN_MERCHANT: 404}


def refusal_of(outcome: Outcome, code: str | None) -> tuple[int, str]:
    """Status and code of a refusal; `code` is given where the outcome has several."""
    status, usual = ERRORS[outcome]
    return (status, usual) if code is None else (_STATUSES.get(code, status), code)


class Accepted(Struct):
    """The event is durable."""

    success: bool
    event_id: Annotated[str, Meta(description="The event's own `event_id`.")]


class Dropped(Struct):
    """The event was taken and thrown away: its sender is no person."""

    ok: bool
    dropped: Annotated[str, Meta(description="Why.", extra_json_schema={"const": "bot"})]


#: What a bot is answered.
DROPPED_BOT = msgspec.json.encode(Dropped(ok=True, dropped="bot"))


class FieldProblem(Struct, frozen=True):
    """What was wrong with one field."""

    field: Annotated[str, Meta(description="Path, such as `items[0].price`; empty for the body as a whole.")]
    message: str


class Rejection(Struct):
    """The body of a refusal."""

    success: bool
    error: Annotated[str, Meta(description="For programs.")]
    message: Annotated[str, Meta(description="For people.")]
    details: Annotated[list[FieldProblem], Meta(description="What was wrong with which field; all of it.")]


class Duplicate(Rejection):
    """The body of a 409: the event with this id is durable already."""

    event_id: str


def accepted_body(event_id: str) -> bytes:
    """`{"success":true,"event_id":…}`."""
    return msgspec.json.encode(Accepted(success=True, event_id=event_id))


def error_body(code: str, message: str, details: Sequence[FieldProblem] = ()) -> bytes:
    """`{"success":false,"error":code,"message":text,"details":[…]}`."""
    return msgspec.json.encode(Rejection(success=False, error=code, message=message, details=list(details)))


def duplicate_body(message: str, event_id: str) -> bytes:
    """The same with the id of the event that was seen before."""
    code = ERRORS[Outcome.DUPLICATE][1]
    return msgspec.json.encode(
        Duplicate(success=False, error=code, message=message, details=[], event_id=event_id)
    )
