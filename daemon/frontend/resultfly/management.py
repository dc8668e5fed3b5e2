"""
The frame around requests that carry no event: contracts to look at and to change.

They are counted among the other requests, not among events, and few of them are in work at a time: each
waits for PostgreSQL, and events go before.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from time import perf_counter
from typing import ClassVar

from daemon.errors import NotFound, Unavailable, UsageError
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import body, limits
from daemon.frontend.body import DISCARD_BYTES_MAX, CallerGone
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal, unavailable
from daemon.frontend.reply import CLOSE, Reply
from daemon.frontend.resultfly import door
from daemon.frontend.rsgi import Scope, Transport
from daemon.ports import ApiKey

log = logging.getLogger(__name__)

#: Such requests in work in one process; more are answered 503.
REQUESTS_MAX = 64


class Management(ABC):
    """One path (or several) about contracts."""

    #: methods → the scope that each needs
    scopes: ClassVar[Mapping[str, str]]
    in_work = 0

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._seconds = kit.accounts.metrics.requests.at("cdp_contracts")

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        needed = self.scopes.get(scope.method)
        if needed is None:
            door.other_method(self.kit, scope, transport, ", ".join(self.scopes))
            return
        call = Call.of(scope, transport)
        self.kit.accounts.other("contracts")
        Management.in_work += 1
        try:
            if Management.in_work > REQUESTS_MAX:
                raise unavailable("too many requests about contracts in work", 1.0)
            key = await door.caller(self.kit, scope, needed)
            await limits.take(self.kit.limiter, key, self.kit.settings.limits)
            reply = await self.steps(call, key)
        except asyncio.CancelledError:
            reply = self._refused(call, unavailable("this process is ending; try again", 1.0))
            transport.response_bytes(reply.status, [*reply.headers, CLOSE], reply.body)
            raise
        except Exception as error:  # noqa: BLE001  every failure has its answer
            reply = self._refused(call, _refusal(error))
        finally:
            Management.in_work -= 1
        discard = call.unread and 0 != call.body_length <= DISCARD_BYTES_MAX
        if self.kit.draining or (call.unread and not discard and call.body_length):
            reply.headers.append(CLOSE)
        if reply.body:
            transport.response_bytes(reply.status, reply.headers, reply.body)
        else:
            transport.response_empty(reply.status, reply.headers)
        self._seconds.observe(perf_counter() - call.started)
        if discard:
            await self.kit.bodies.discard(transport)

    @abstractmethod
    async def steps(self, call: Call, key: ApiKey) -> Reply:
        """Answer a request whose key may do what it asks for. Raises what `_refusal` knows."""

    async def read(self, call: Call, bytes_max: int) -> bytes:
        """The request's body, inflated. Refuses (413, 415, …)."""
        headers = call.headers
        body.check_type(headers)
        encoding = headers.get("content-encoding")
        body.check_encoding(encoding)
        length = body.check_length(headers, bytes_max)
        data = await self.kit.bodies.read(call.transport, length, encoding, bytes_max)
        call.unread = False
        return data

    def _refused(self, call: Call, refusal: Refusal) -> Reply:
        reply = door.error_reply(refusal)
        request_id = self.kit.request_id(call.scope)
        reply.headers.append(("x-request-id", request_id))
        self.kit.accounts.refused(refusal.outcome, reply.status, call.scope.path, refusal.message, request_id)
        return reply


def not_found(message: str) -> Refusal:
    """404."""
    return Refusal(Outcome.INVALID_PAYLOAD, message, code="not_found")


def _refusal(error: Exception) -> Refusal:
    """Any failure as the refusal that answers it."""
    match error:
        case Refusal():
            error.__traceback__ = None  # see daemon.frontend.endpoint
            return error
        case CallerGone():
            return Refusal(Outcome.INVALID_PAYLOAD, "the body ended before it was complete", [CLOSE])
        case InvalidPayload():
            return Refusal(Outcome.INVALID_PAYLOAD, error.message)
        case UsageError():
            return Refusal(Outcome.INVALID_PAYLOAD, str(error), code="validation_failed")
        case NotFound():
            return not_found(str(error))
        case Unavailable():
            return unavailable(str(error), error.retry_after_s)
    log.error("a request about contracts failed in a way that nobody foresaw", exc_info=error)
    return unavailable("an unexpected failure; try again", 1.0)
