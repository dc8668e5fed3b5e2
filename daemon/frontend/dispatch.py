"""
POST /v1/events belongs to two products: the kind of credential decides whose a request is (contracts 0.2.16).

`X-Signature` is Datafly's and decides first; `Bearer tl_…` is TrackLayer's; both at once are refused,
whatever they hold. The body is never looked at for that.
"""

from __future__ import annotations

from daemon.events.outcome import Outcome
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.server import ServerEndpoint
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import Reply
from daemon.frontend.rsgi import Scope, Transport
from daemon.frontend.tracklayer.server import PREFIX, TrackEndpoint, bearer


class EventsEndpoint:
    """The shared path; what shows no credential, or one of neither product, is answered as Datafly's."""

    def __init__(self, kit: Kit, recogniser: Recogniser) -> None:
        self._datafly = SignedEventsEndpoint(kit, recogniser)
        self._tracklayer = TrackEndpoint(kit)

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        if not scope.headers.get("x-signature") and bearer(scope).startswith(PREFIX):
            await self._tracklayer(scope, transport)
        else:
            await self._datafly(scope, transport)


class SignedEventsEndpoint(ServerEndpoint):
    """Datafly's, which refuses what speaks for both products."""

    async def steps(self, call: Call) -> Reply:
        """As everywhere, unless there is a TrackLayer key beside the signature."""
        if bearer(call.scope).startswith(PREFIX):
            raise Refusal(
                Outcome.INVALID_PAYLOAD,
                "X-Signature and a tl_ key are two products' credentials; send one of them",
            )
        return await super().steps(call)
