"""
POST /v1/t, /v1/p, /v1/i, /v1/g: the browser endpoints (contracts A.1, A.8, 0.2).

`steps` is the path of a request, step by step; each step goes on or refuses.
"""

from __future__ import annotations

from time import perf_counter

from daemon.events import datafly
from daemon.events.outcome import Outcome
from daemon.frontend import auth, cookies, cors
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal
from daemon.frontend.reply import Reply
from daemon.frontend.rsgi import Scope, Transport
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
        origin = call.headers.get("origin")
        if origin is not None:
            self._check_origin(origin, source)
            call.cors = cors.reply_headers(origin)
        length = self.declared(call, self._bytes_max)
        if not self.taken(source):
            await self.limited(source)
        data = await self._bodies.read(call.transport, length, call.encoding, self._bytes_max)
        call.unread = False
        read = perf_counter()
        self._body_s.observe(read - call.started)
        event = datafly.decode(data, self._type)
        work = self._recogniser.browser(call, source, event)
        self._decode_s.observe(perf_counter() - read)
        await self._ticker.add(work)
        outcome = work.outcome
        if outcome is not _ACCEPTED:
            outcome = await self.not_accepted(work)
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
