"""
The frame around every endpoint that takes events.

It keeps the books (every event received ends once), turns failures into the product's own answers, asks
callers to leave while the process drains, and times it all. What an endpoint does itself stands in its
`steps`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from time import perf_counter

from msgspec import Struct

from daemon.errors import Unavailable
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend.body import DISCARD_BYTES_MAX, CallerGone
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import CLOSE, Reply
from daemon.frontend.rsgi import RequestHeaders, Scope, Transport

#: As names of their own: a member of an Enum is looked up through its metaclass, ten times as slowly.
_UNAVAILABLE = Outcome.UNAVAILABLE

log = logging.getLogger(__name__)


class Call(Struct, gc=False):
    """
    One request in work: its head, its body's way in, and the events of it that have not ended.

    `headers` are the scope's, asked for once: the server copies all of them each time. `started` is the moment
    it came in (`perf_counter`).
    """

    scope: Scope
    transport: Transport
    headers: RequestHeaders
    started: float
    #: CORS headers of the reply, once the origin is known to be allowed
    cors: Headers = []
    #: events received with this request that have no outcome yet; 1 until a batch's items are known
    left: int = 1
    #: whether the caller may still be sending the body
    unread: bool = True
    #: Content-Encoding, once it is known to be one that is read; None: as it is
    encoding: str | None = None

    @classmethod
    def of(cls, scope: Scope, transport: Transport) -> Call:
        """A request that has just come in."""
        return cls(scope, transport, scope.headers, perf_counter())

    @property
    def body_length(self) -> int:
        """Bytes of the body as far as the head tells; -1: unknown, as it comes in chunks."""
        headers = self.headers
        if headers.get("transfer-encoding") is not None:
            return -1
        return int(str(headers.get("content-length", "0"))[:18])


class EventEndpoint(ABC):
    """One path (or several) that takes events by one method."""

    method = "POST"

    def __init__(self, kit: Kit, label: str) -> None:
        """`label` is the endpoint's name in `headgate_request_seconds`."""
        self.kit = kit
        self._accounts = kit.accounts
        self._requests_max = kit.settings.server.requests_max
        self._seconds = kit.accounts.metrics.requests.at(label)

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request. Never raises: what is not answered is a fault of ours, and logged."""
        try:
            if scope.method != self.method:
                self.other_method(scope, transport)
                return
            call = Call(scope, transport, scope.headers, perf_counter())
            kit = self.kit
            accounts = self._accounts
            accounts.began()
            outcome = _UNAVAILABLE
            try:
                if kit.gate.why:
                    raise kit.gate.refusal()
                if accounts.requests > self._requests_max:
                    raise kit.gate.too_many()
                reply = await self.steps(call)
            except asyncio.CancelledError:
                # The process ends before the request did; granian would say 500 for us.
                reply = self._refused(call, unavailable("this process is ending; try again", 1.0))
                transport.response_bytes(reply.status, [*reply.headers, CLOSE], reply.body)
                raise
            except Exception as error:  # noqa: BLE001  every failure has its answer, see _refusal
                reply, outcome = self._failure(call, error)
            finally:
                accounts.finished(outcome, call.left)
            if self._sent(call, reply):
                await kit.bodies.discard(transport)
        except Exception as error:  # noqa: BLE001  whatever it is, the process goes on
            unanswered(scope, error)

    # --- requests without a task: an endpoint that can do without one has a `begin`

    def close(self, call: Call, reply: Reply) -> None:
        """Answer a request without a task. Never raises."""
        try:
            self._accounts.finished(_UNAVAILABLE, call.left)
            if self._sent(call, reply):
                self.kit.spawn(self.kit.bodies.discard(call.transport))
        except Exception as error:  # noqa: BLE001  whatever it is, the process goes on
            unanswered(call.scope, error)

    def fail(self, call: Call, error: Exception) -> None:
        """Answer a request without a task with why it is refused. Never raises."""
        try:
            reply, outcome = self._failure(call, error)
            self._accounts.finished(outcome, call.left)
            if self._sent(call, reply):
                self.kit.spawn(self.kit.bodies.discard(call.transport))
        except Exception as another:  # noqa: BLE001  whatever it is, the process goes on
            unanswered(call.scope, another)

    def _failure(self, call: Call, error: Exception) -> tuple[Reply, Outcome]:
        """The answer to a request that failed, and what became of its events that have no outcome yet."""
        if isinstance(error, CallerGone):
            # Perhaps it closed only its own direction, and waits for what we say.
            call.unread = False
            cut_short = "the body ended before it was complete"
            return self._refused(call, Refusal(Outcome.INVALID_PAYLOAD, cut_short, [CLOSE])), Outcome.TIMEOUT
        refusal = _refusal(error)
        return self._refused(call, refusal), refusal.outcome

    def _sent(self, call: Call, reply: Reply) -> bool:
        """Send the answer; whether the rest of the body is to be read and forgotten now."""
        discard = False
        if call.unread or self.kit.draining:
            discard = call.unread and 0 != call.body_length <= DISCARD_BYTES_MAX
            if self.kit.draining or (not discard and call.body_length):
                reply.headers.append(CLOSE)
        call.transport.response_bytes(reply.status, reply.headers, reply.body)
        self._seconds.observe(perf_counter() - call.started)
        return discard

    def found(self, call: Call, events: int) -> None:
        """The request holds `events` ≥ 1 events: from now on each has an outcome of its own."""
        self.kit.accounts.more(events - call.left)
        call.left = events

    def ended(self, call: Call, outcome: Outcome, events: int = 1) -> None:
        """`events` of the request's events ended with `outcome`."""
        self._accounts.ended(outcome, events)
        call.left -= events

    @abstractmethod
    async def steps(self, call: Call) -> Reply:
        """
        The path of a request: every event of it ends (`ended`), or all that is left ends with what is raised.

        Raises Refusal, InvalidPayload, Unavailable, CallerGone.
        """

    @abstractmethod
    def error(self, refusal: Refusal) -> Reply:
        """The refusal in the product's shape."""

    @abstractmethod
    def other_method(self, scope: Scope, transport: Transport) -> None:
        """Answer a request with another method: a preflight, or 405 with Allow."""

    def _refused(self, call: Call, refusal: Refusal) -> Reply:
        reply = self.error(refusal)
        request_id = self.kit.request_id(call.scope)
        reply.headers.append(("x-request-id", request_id))
        if refusal.outcome is not Outcome.FORBIDDEN:
            reply.headers += call.cors
        self.kit.accounts.refused(refusal.outcome, reply.status, call.scope.path, refusal.message, request_id)
        return reply


def unanswered(scope: Scope, error: Exception) -> None:
    """Log that a request got no answer: a fault of ours, unless the caller has hung up."""
    # granian's own exceptions, which only `server` may import by type
    if type(error).__name__ in ("RSGIProtocolClosed", "RSGIProtocolError"):
        log.debug("the caller hung up before the answer", extra={"path": scope.path})
    else:
        log.error("a request was not answered", extra={"path": scope.path}, exc_info=error)


def _refusal(error: Exception) -> Refusal:
    """Any failure as the refusal that answers it."""
    if isinstance(error, Refusal):
        # Its traceback leads to the very frame that is about to hold it: a cycle, which would keep the body and
        # what was inflated of it until the collector comes by, and that is seldom here.
        error.__traceback__ = None
        return error
    if isinstance(error, InvalidPayload):
        return Refusal(Outcome.INVALID_PAYLOAD, error.message)
    if isinstance(error, Unavailable):
        return unavailable(str(error), error.retry_after_s)
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return unavailable("an unexpected failure; try again", 1.0)
