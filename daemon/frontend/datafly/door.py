"""What Datafly's endpoints share: the key, and the answers."""

from __future__ import annotations

from daemon.events import datafly
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import auth
from daemon.frontend.endpoint import Call
from daemon.frontend.intake import Intake
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import JSON, Reply, datafly_error
from daemon.frontend.rsgi import Scope, Transport
from daemon.ports import Durability, Source

#: As names of their own: a member of an Enum is looked up through its metaclass, ten times as slowly.
_DUPLICATE = Outcome.DUPLICATE

_COPY = ("x-headgate-duplicate", "1")
_DURABLE: dict[Durability, tuple[str, str]] = {
    "kafka": ("x-headgate-durability", "kafka"),
    "local": ("x-headgate-durability", "local"),
}


class DataflyEndpoint(Intake):
    """Base of Datafly's endpoints."""

    def __init__(self, kit: Kit, label: str) -> None:
        super().__init__(kit, label)
        self._cached = kit.keys.cached

    async def by_key(self, call: Call, *, in_query: bool = True) -> Source:
        """The source of the request's pipeline key. Refuses (401)."""
        return await self.source_of(auth.pipeline_key(call.scope, call.headers, in_query=in_query))

    async def source_of(self, token: str) -> Source:
        """The source of a pipeline key. Refuses (401)."""
        source = self._cached(token)
        if source is None:
            source = await self.kit.keys.find(token)
            if source is None:
                raise auth.bad_key()
        return source

    async def keyed_body(self, call: Call, bytes_max: int) -> tuple[Source, bytes]:
        """
        The source and the inflated body of a server's request with a pipeline key, within its limit.

        The key stands in the Authorization header. Without one it is looked for in the body, where some of
        Segment's SDKs put it: in one of a single event's size, as whoever sends it is not known yet. Refuses (401,
        429, and what is wrong with the body of a known caller).
        """
        if call.headers.get("authorization") is not None:
            source = await self.by_key(call, in_query=False)
            length = self.declared(call, bytes_max)
            if not self.taken(source):
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

    def accepted(self, call: Call, outcome: Outcome, durability: Durability | None) -> Reply:
        """200 for a single event."""
        said = _COPY if outcome is _DUPLICATE else _DURABLE[durability or "local"]
        return Reply(200, [JSON, said, *call.cors], datafly.SUCCESS)

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
