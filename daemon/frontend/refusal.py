"""How a request ends early: one exception, which every product words in its own error shape."""

from __future__ import annotations

from daemon.errors import HeadgateError
from daemon.events.outcome import Outcome

Headers = list[tuple[str, str]]


class Refusal(HeadgateError):
    """
    The request ends here with `outcome`.

    `message` is for the caller: what was wrong and what to do. `headers` go into the reply (Retry-After,
    RateLimit, Connection). `code` is the product's own error code where the outcome has several.
    """

    def __init__(
        self, outcome: Outcome, message: str, headers: Headers | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.headers = headers or []
        self.code = code


def unavailable(message: str, retry_after_s: float) -> Refusal:
    """503 with a Retry-After of at least one whole second (RFC 9110 has no fractions)."""
    return Refusal(Outcome.UNAVAILABLE, message, [("retry-after", str(whole_seconds(retry_after_s)))])


def whole_seconds(seconds: float) -> int:
    """`seconds` rounded up, at least 1."""
    return max(1, int(-(-seconds // 1)))
