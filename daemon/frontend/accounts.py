"""
The books of the door: every event that came in, and its one end.

Called by the frame around every endpoint (`endpoint.py`), so that an event can't end twice or not at all: received = Σ outcomes + in work, at all times.
"""

from __future__ import annotations

import logging
import time

from daemon.events.outcome import Outcome
from daemon.observe.catalog import IngestMetrics

log = logging.getLogger(__name__)


class Accounts:
    """Counts events and requests, and logs what went wrong, a line a second for each kind at the most."""

    def __init__(self, metrics: IngestMetrics) -> None:
        self.metrics = metrics
        self.requests = 0
        self._received = metrics.received.at()
        self._ended = {outcome: metrics.outcomes.at(outcome.value) for outcome in Outcome}
        self._logged_s: dict[Outcome, float] = {}
        self._silent: dict[Outcome, int] = {}
        metrics.in_work.read = lambda: self.requests

    @property
    def in_work(self) -> int:
        """Events that were received and have not ended."""
        return int(self._received.n - sum(cell.n for cell in self._ended.values()))

    def began(self) -> None:
        """A request came in, with one event until its items are known."""
        self._received.n += 1
        self.requests += 1

    def more(self, events: int) -> None:
        """The request holds `events` more than were counted."""
        self._received.n += events

    def ended(self, outcome: Outcome, events: int = 1) -> None:
        """`events` events ended."""
        self._ended[outcome].n += events

    def finished(self, outcome: Outcome, left: int) -> None:
        """The request is done; what is left of its events ended with `outcome`."""
        self.requests -= 1
        if left:
            self.ended(outcome, left)

    def other(self, kind: str) -> None:
        """A request without an event: preflight, health, asset, not_found, method_not_allowed."""
        self.metrics.other_requests.at(kind).n += 1

    def refused(self, outcome: Outcome, status: int, path: str, message: str, request_id: str) -> None:
        """Log a refusal: 5xx as a warning, at most one line a second; the rest for those who debug."""
        if status < 500:
            if log.isEnabledFor(logging.DEBUG):
                log.debug(
                    "refused",
                    extra={"request_id": request_id, "status": status, "path": path, "why": message},
                )
            return
        now_s = time.monotonic()
        if now_s - self._logged_s.get(outcome, -1.0) < 1.0:
            self._silent[outcome] = self._silent.get(outcome, 0) + 1
            return
        self._logged_s[outcome] = now_s
        log.warning(
            "answered %d: %s",
            status,
            message,
            extra={"request_id": request_id, "path": path, "more_like_it": self._silent.pop(outcome, 0)},
        )
