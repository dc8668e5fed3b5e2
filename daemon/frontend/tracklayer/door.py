"""What TrackLayer's endpoints share: reading an event, publishing it, and the answers (contracts 0.4.30)."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.events import tracklayer
from daemon.events.outcome import Outcome
from daemon.events.tracklayer import FieldProblem, InvalidEvent, TrackEvent
from daemon.events.userdata import hashed
from daemon.frontend.endpoint import Call
from daemon.frontend.intake import Intake
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.rsgi import Scope, Transport
from daemon.frontend.tracklayer.work import TrackLayerWork


class EventRefusal(Refusal):
    """A refusal that says more than its code: what is wrong with which field, or which event was seen before."""

    def __init__(
        self,
        outcome: Outcome,
        message: str,
        headers: Headers | None = None,
        code: str | None = None,
        *,
        problems: Sequence[FieldProblem] = (),
        event_id: str | None = None,
    ) -> None:
        super().__init__(outcome, message, headers, code)
        self.problems = problems
        self.event_id = event_id


class TrackLayerEndpoint(Intake):
    """Base of TrackLayer's endpoints."""

    id_name = "event_id"
    #: CORS headers of every answer
    cors: Sequence[tuple[str, str]] = ()

    def __init__(self, kit: Kit, label: str) -> None:
        super().__init__(kit, label)
        self._hashes = kit.settings.tracklayer.pii == "hashed"

    def decoded(self, body: bytes) -> TrackEvent:
        """The event in a body, its person as it goes to the log. Refuses (400) with everything that is wrong with it."""
        try:
            event = tracklayer.decode(body)
            if self._hashes and event.user_data is not None:
                event.user_data = hashed(event.user_data) or None
            return event
        except InvalidEvent as error:
            raise EventRefusal(Outcome.INVALID_PAYLOAD, error.message, problems=error.problems) from None

    async def durable(self, call: Call, work: TrackLayerWork) -> Reply:
        """202 once the event is durable. Refuses a copy (409), one over its window (429), and as `published` (503)."""
        outcome = await self.published(work)
        event_id = work.event.event_id
        if outcome is Outcome.DUPLICATE:
            raise EventRefusal(
                outcome,
                f"an event with this event_id came in within {self._window()} on the same channel",
                event_id=event_id,
            )
        if outcome is Outcome.RATE_LIMITED:
            raise self.over_window(work)
        self.ended(call, outcome)
        durability = work.durability or "local"
        headers = [JSON, ("x-headgate-durability", durability), *self.cors]
        return Reply(202, headers, tracklayer.accepted_body(event_id))

    def over_window(self, work: TrackLayerWork) -> Refusal:
        """429 for a work whose sliding window is full."""
        raise NotImplementedError(f"no event of this endpoint has a window: {work.id}")

    def error(self, refusal: Refusal) -> Reply:
        """`{"success":false,"error","message","details"}`."""
        reply = tracklayer_reply(refusal)
        reply.headers += self.cors
        return reply

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """405 with Allow."""
        named = self.kit.turned_away(scope, "method_not_allowed")
        text = f"{scope.method} is not allowed here; use {self.method}"
        transport.response_bytes(
            405,
            [JSON, ("allow", self.allow), *self.cors, *named],
            tracklayer.error_body("method_not_allowed", text),
        )

    def _window(self) -> str:
        seconds = self.kit.settings.claims.window_s
        return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} seconds"


def tracklayer_reply(refusal: Refusal) -> Reply:
    """A refusal in TrackLayer's shape."""
    status, code = tracklayer.refusal_of(refusal.outcome, refusal.code)
    headers = [JSON, *refusal.headers]
    problems: Sequence[FieldProblem] = ()
    if refusal.outcome is Outcome.INVALID_PAYLOAD:
        problems = (FieldProblem("", refusal.message),)
    if isinstance(refusal, EventRefusal):
        if refusal.event_id is not None:
            body = tracklayer.duplicate_body(refusal.message, refusal.event_id)
            return Reply(status, headers, body)
        problems = refusal.problems
    return Reply(status, headers, tracklayer.error_body(code, refusal.message, problems))
