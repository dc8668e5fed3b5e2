"""TrackLayer: its events, what is asked of them, and its answers (contracts C.1 to C.5, 0.4)."""

from daemon.events.tracklayer.answers import (
    DROPPED_BOT,
    ERRORS,
    MERCHANT_MISMATCH,
    UNKNOWN_MERCHANT,
    Accepted,
    Dropped,
    Duplicate,
    FieldProblem,
    Rejection,
    accepted_body,
    duplicate_body,
    error_body,
    refusal_of,
)
from daemon.events.tracklayer.envelope import Received, to_envelope
from daemon.events.tracklayer.event import InvalidEvent, TrackEvent, decode

__all__ = [
    "DROPPED_BOT",
    "ERRORS",
    "MERCHANT_MISMATCH",
    "UNKNOWN_MERCHANT",
    "Accepted",
    "Dropped",
    "Duplicate",
    "FieldProblem",
    "InvalidEvent",
    "Received",
    "Rejection",
    "TrackEvent",
    "accepted_body",
    "decode",
    "duplicate_body",
    "error_body",
    "refusal_of",
    "to_envelope",
]
