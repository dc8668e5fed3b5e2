"""What Datafly's endpoints share: the key, the limit, the body, the wait for durability, the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daemon.events import datafly
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import auth, body, limits
from daemon.frontend.datafly.work import DataflyWork
from daemon.frontend.endpoint import Call, EventEndpoint
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import JSON, Reply, datafly_error
from daemon.frontend.rsgi import Scope, Transport
from daemon.ports import Durability, Source

#: Seconds between looks at an id that another request has claimed and not finished.
PENDING_POLL_S = 0.02
#: Seconds after which such a request is answered 503 with Retry-After: 1.
PENDING_WAIT_S = 1.0


class DataflyEndpoint(EventEndpoint):
    """Base of Datafly's endpoints."""

    #: what Allow says
    allow = "POST"
    #: media types that are read as JSON
    media_types: tuple[str, ...] = body.JSON_TYPES

    async def by_key(self, scope: Scope, *, in_query: bool = True) -> Source:
        """The source of the request's pipeline key. Refuses (401)."""
        return await self.source_of(auth.pipeline_key(scope, in_query=in_query))

    async def source_of(self, token: str) -> Source:
        """The source of a pipeline key. Refuses (401)."""
        source = self.kit.keys.cached(token)
        if source is None:
            source = await self.kit.keys.find(token)
            if source is None:
                raise auth.bad_key()
        return source

    async def limited(self, source: Source) -> None:
        """One request out of the source's bucket. Refuses (429)."""
        await limits.take(self.kit.limiter, source, self.kit.settings.limits)

    def declared(self, call: Call, bytes_max: int, media_types: tuple[str, ...] | None = None) -> int | None:
        """The body's declared length. Refuses its type and encoding (415) and its length (413) before it is read."""
        headers = call.scope.headers
        body.check_type(headers, media_types or self.media_types)
        body.check_encoding(headers.get("content-encoding"))
        return body.check_length(headers, bytes_max)

    async def read(self, call: Call, length: int | None, bytes_max: int) -> bytes:
        """The request's body, inflated, at most `bytes_max` bytes of it."""
        encoding = call.scope.headers.get("content-encoding")
        data = await self.kit.bodies.read(call.transport, length, encoding, bytes_max)
        call.unread = False
        return data

    async def keyed_body(self, call: Call, bytes_max: int) -> tuple[Source, bytes]:
        """
        The source and the inflated body of a server's request with a pipeline key, within its limit.

        The key stands in the Authorization header. Without one it is looked for in the body, where some of
        Segment's SDKs put it: in one of a single event's size, as whoever sends it is not known yet. Refuses (401,
        429, and what is wrong with the body of a known caller).
        """
        if call.scope.headers.get("authorization") is not None:
            source = await self.by_key(call.scope, in_query=False)
            length = self.declared(call, bytes_max)
            await self.limited(source)
            return source, await self.read(call, length, bytes_max)
        try:
            bytes_max = self.kit.settings.limits.body_bytes_max
            data = await self.read(call, self.declared(call, bytes_max), bytes_max)
        except InvalidPayload:
            raise auth.no_key() from None
        except Refusal as refusal:
            if refusal.outcome in (Outcome.TOO_LARGE, Outcome.UNSUPPORTED):
                raise auth.no_key() from None
            raise
        key = datafly.write_key(data)
        if key is None:
            raise auth.no_key()
        source = await self.source_of(auth.checked(key))
        await self.limited(source)
        return source, data

    async def published(self, work: DataflyWork) -> Outcome:
        """The event's outcome, once it is durable or a duplicate. Refuses (503) otherwise."""
        await self.kit.ticker.add(work)
        if work.outcome is None:
            await self.settled((work,))
        if work.outcome is None:
            raise unavailable("another request with this messageId is being published; try again", 1.0)
        if work.outcome is Outcome.UNAVAILABLE:
            raise unavailable("the event could not be made durable now; try again", work.retry_after_s)
        return work.outcome

    async def settled(self, works: Sequence[DataflyWork]) -> None:
        """
        Wait for works whose ids somebody else has claimed: their outcome decides ours.

        Those that are not settled after PENDING_WAIT_S keep an outcome of None.
        """
        waited_s = 0.0
        while waited_s < PENDING_WAIT_S:
            pending = [work for work in works if work.outcome is None]
            if not pending:
                return
            await asyncio.sleep(PENDING_POLL_S)
            waited_s += PENDING_POLL_S
            await self.kit.ticker.add_all(pending)

    async def all_published(self, works: Sequence[DataflyWork]) -> None:
        """Every work of one request through one tick; a second copy of an id takes the first one's outcome."""
        firsts: dict[str, DataflyWork] = {}
        copies: list[tuple[DataflyWork, DataflyWork]] = []
        for work in works:
            first = firsts.setdefault(work.received.id, work)
            if first is not work:
                copies.append((work, first))
        if firsts:
            once = list(firsts.values())
            await self.kit.ticker.add_all(once)
            await self.settled(once)
        for copy, first in copies:
            copy.outcome = Outcome.DUPLICATE if first.outcome is Outcome.ACCEPTED else first.outcome
            copy.retry_after_s = first.retry_after_s

    def ended_if(self, call: Call, outcome: Outcome, events: int) -> None:
        """`ended`, unless there are none."""
        if events:
            self.ended(call, outcome, events)

    def accepted(self, call: Call, outcome: Outcome, durability: Durability | None) -> Reply:
        """200 for a single event."""
        headers: Headers = [JSON, *call.cors]
        if outcome is Outcome.DUPLICATE:
            headers.append(("x-headgate-duplicate", "1"))
        else:
            headers.append(("x-headgate-durability", durability or "local"))
        return Reply(200, headers, datafly.SUCCESS)

    def error(self, refusal: Refusal) -> Reply:
        """A.6."""
        return datafly_error(refusal)

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """405 with Allow."""
        named = self.kit.turned_away(scope, "method_not_allowed")
        transport.response_bytes(
            405,
            [JSON, ("allow", self.allow), *named],
            datafly.error_body(
                "METHOD_NOT_ALLOWED", f"{scope.method} is not allowed here; use {self.method}"
            ),
        )
