"""
POST /v1/t, /v1/p, /v1/i, /v1/g: the browser endpoints (contracts A.1, A.8, 0.2).

`steps` is the path of a request, step by step; each step goes on or refuses.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter

from daemon.events import datafly
from daemon.events.outcome import Outcome
from daemon.frontend import auth, cookies, cors
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.work import DataflyWork
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import Reply
from daemon.frontend.rsgi import RequestHeaders, Scope, Transport
from daemon.ports import Source

_ACCEPTED = Outcome.ACCEPTED


class BrowserEndpoint(DataflyEndpoint):
    """One of the four paths. `letter` is its last part: t, p, i or g."""

    allow = "POST, OPTIONS"

    def __init__(self, kit: Kit, letter: str, recogniser: Recogniser) -> None:
        super().__init__(kit, letter)
        self._type = datafly.BROWSER_TYPES[letter]
        self._recogniser = recogniser
        self._development = kit.settings.development
        self._bodies, self._ticker = kit.bodies, kit.ticker
        self._bytes_max = kit.settings.limits.body_bytes_max
        stages = kit.accounts.metrics.stages
        self._body_s, self._decode_s = stages.at("body"), stages.at("decode")

    async def steps(self, call: Call) -> Reply:
        """Key, origin, type and length, limit, body, event, visitor, log."""
        # `by_key`, `limited`, `read` and `published` by hand: each coroutine less is a hundredth of a request, and
        # what is nearly always at hand (the key's source, a token) needs none.
        token = auth.pipeline_key(call.scope, call.headers)
        source = self._cached(token) or await self.source_of(token)
        length = self._admitted(call, source)
        if not self.taken(source):
            await self.limited(source)
        data = await self._bodies.read(call.transport, length, call.encoding, self._bytes_max)
        work = self._work(call, source, data)
        await self._ticker.add(work)
        if work.outcome is not _ACCEPTED:
            await self.not_accepted(work)
        return self._reply(call, source, work)

    def begin(
        self,
        scope: Scope,
        headers: RequestHeaders,
        transport: Transport,
        reading: asyncio.Future[bytes],
        started: float,
    ) -> bool:
        """
        The same without a task, for a request whose body is here and that needs to wait only for its tick.

        False: it is `steps`', and nothing was done or counted. A task, its coroutines and their turns in the loop cost
        as much as decoding the event; the tick calls `_published` in place of them.
        """
        accounts = self._accounts
        if scope.method != "POST" or self.kit.gate.why or accounts.requests >= self._requests_max:
            return False
        call = Call(scope, transport, headers, started)
        try:
            source = self._cached(auth.pipeline_key(scope, headers))
            if source is None:
                return False
            self._admitted(call, source)
            data = reading.result()
        except Exception:  # noqa: BLE001  `steps` meets the same, and says what it was
            return False
        if call.encoding is not None or not self.taken(source):
            return False
        accounts.began()
        try:
            work = self._work(call, source, data)
            self._ticker.add_then(work, partial(self._published, call, source, work))
        except Exception as error:  # noqa: BLE001  every failure has its answer
            self.fail(call, error)
        return True

    def _published(self, call: Call, source: Source, work: DataflyWork) -> None:
        if work.outcome is None:
            # another request has claimed the id: this one waits for it
            self.kit.spawn(self._settled(call, source, work))
            return
        try:
            if work.outcome is not _ACCEPTED:
                self.decided(work)
            reply = self._reply(call, source, work)
        except Exception as error:  # noqa: BLE001  every failure has its answer
            self.fail(call, error)
        else:
            self.close(call, reply)

    async def _settled(self, call: Call, source: Source, work: DataflyWork) -> None:
        try:
            await self.not_accepted(work)
            reply = self._reply(call, source, work)
        except asyncio.CancelledError:
            self.fail(call, unavailable("this process is ending; try again", 1.0))
            raise
        except Exception as error:  # noqa: BLE001  every failure has its answer
            self.fail(call, error)
        else:
            self.close(call, reply)

    # --- the steps

    def _admitted(self, call: Call, source: Source) -> int | None:
        """The declared length of a body that may be sent. Refuses its origin (403), type (415) and length (413)."""
        origin = call.headers.get("origin")
        if origin is not None:
            self._check_origin(origin, source)
            call.cors = cors.reply_headers(origin)
        return self.declared(call, self._bytes_max)

    def _work(self, call: Call, source: Source, data: bytes) -> DataflyWork:
        """What the tick takes, out of the body. Raises InvalidPayload."""
        call.unread = False
        read = perf_counter()
        self._body_s.observe(read - call.started)
        event = datafly.decode(data, self._type)
        work = self._recogniser.browser(call, source, event)
        self._decode_s.observe(perf_counter() - read)
        return work

    def _reply(self, call: Call, source: Source, work: DataflyWork) -> Reply:
        """The answer to a work that has its outcome, and its cookies."""
        outcome = work.outcome
        assert outcome is not None
        self.ended(call, outcome)
        reply = self.accepted(call, outcome, work.durability)
        if to_set := work.cookies():
            secure = not self._development or self.kit.clients.https(call.scope)
            reply.headers += cookies.set_cookies(to_set, source.cookie_domain, secure)
        return reply

    def _check_origin(self, origin: str, source: Source) -> None:
        if not cors.allowed(origin, source.origins, self._development):
            raise Refusal(
                Outcome.FORBIDDEN,
                f"origin {origin[:200]!r} is not among the source's origins; add it to the source",
            )

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """A preflight (contracts 0.2.20), or 405."""
        if scope.method != "OPTIONS":
            super().other_method(scope, transport)
            return
        self.kit.accounts.other("preflight")
        origin = scope.headers.get("origin")
        headers: Headers = [("allow", self.allow), ("vary", "Origin")]
        if origin is not None:
            wanted = cors.normal(origin)
            if (self._development and cors.is_local(wanted)) or self.kit.keys.origin_listed(wanted):
                headers = [("allow", self.allow), *cors.preflight_headers(origin)]
        transport.response_empty(204, headers)
