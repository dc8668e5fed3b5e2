"""
GET /v1/pixel/{type}: an event in a query, for mail clients, AMP and pages without scripts (contracts A.4).

The GIF is always the body, whatever happened; the status and X-Headgate-Error tell.
"""

from __future__ import annotations

from daemon.events import datafly, pixel
from daemon.frontend import cookies
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal
from daemon.frontend.reply import Reply
from daemon.frontend.rsgi import Scope, Transport

#: What keeps a pixel from being cached, so that each view is an event (contracts A.4).
GIF_HEADERS: Headers = [
    ("content-type", "image/gif"),
    ("cache-control", "no-store, no-cache, must-revalidate"),
    ("pragma", "no-cache"),
    ("expires", "0"),
]


class PixelEndpoint(DataflyEndpoint):
    """One of the four pixels; `kind` is its last part."""

    method = "GET"
    allow = "GET"

    def __init__(self, kit: Kit, kind: str, recogniser: Recogniser) -> None:
        super().__init__(kit, "pixel")
        self._kind = kind
        self._recogniser = recogniser
        self._development = kit.settings.development

    async def steps(self, call: Call) -> Reply:
        """Key, limit, query, visitor, log."""
        scope = call.scope
        source = await self.by_key(call)
        if not self.taken(source):
            await self.limited(source)
        event, anonymous_id = pixel.decode(scope.query_string, self._kind)
        work = self._recogniser.browser(call, source, event, "pixel", anonymous_id)
        outcome = await self.published(work)
        self.ended(call, outcome)
        reply = self.accepted(call, outcome, work.durability)
        reply.headers[:1] = GIF_HEADERS
        reply.body = pixel.GIF
        if to_set := work.cookies():
            secure = not self._development or self.kit.clients.https(scope)
            reply.headers += cookies.set_cookies(to_set, source.cookie_domain, secure)
        return reply

    def error(self, refusal: Refusal) -> Reply:
        """The GIF, with the reason in a header."""
        status, code = datafly.ERRORS[refusal.outcome]
        return gif_error(status, refusal.code or code, refusal.headers)

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """405, with the GIF."""
        named = self.kit.turned_away(scope, "method_not_allowed")
        reply = gif_error(405, "METHOD_NOT_ALLOWED", [("allow", self.allow), *named])
        transport.response_bytes(reply.status, reply.headers, reply.body)


def gif_error(status: int, code: str, headers: Headers) -> Reply:
    """A refused pixel."""
    return Reply(status, [*GIF_HEADERS, ("x-headgate-error", code), *headers], pixel.GIF)
