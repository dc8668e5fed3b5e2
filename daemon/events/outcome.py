"""
What became of an event: one closed list. Every received event ends in exactly one of these.

They are the values of the label `outcome` of `headgate_events_total`, so that at rest
`headgate_events_received_total` is their sum.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The end of an event."""

    #: durable on the log
    ACCEPTED = "accepted"
    #: its id was durable before
    DUPLICATE = "duplicate"
    #: no key, an unknown or revoked one, a disabled source, a bad signature (401), an unknown webhook or merchant (404)
    INVALID_KEY = "invalid_key"
    #: the page's origin is not allowed, or the key lacks the permission (403)
    FORBIDDEN = "forbidden"
    #: over the key's rate (429)
    RATE_LIMITED = "rate_limited"
    #: not JSON, or not what the contract asks for (400, 422)
    INVALID_PAYLOAD = "invalid_payload"
    #: its id was durable before, as an event of another kind (409)
    CONFLICT = "conflict"
    #: a user agent that is no person's (202, dropped)
    BOT = "bot"
    #: over the body's or the item's limit (413)
    TOO_LARGE = "too_large"
    #: a content type, charset or encoding we don't read (415)
    UNSUPPORTED = "unsupported"
    #: the body did not arrive in time (408), or the caller went away
    TIMEOUT = "timeout"
    #: we could not make it durable in time, or are too busy (503)
    UNAVAILABLE = "unavailable"
    #: the frontend died with the event in work; its caller got no answer
    INTERRUPTED = "interrupted"
