"""
POST /v1/events belongs to two products: the kind of credential decides whose a request is (contracts 0.2.16).

`X-Signature` is Datafly's and decides first; `Bearer tl_…` is TrackLayer's; both at once are refused,
whatever they hold. The body is never looked at for that.
"""

from __future__ import annotations

from daemon.events.outcome import Outcome
from daemon.frontend.datafly.server import ServerEndpoint
from daemon.frontend.endpoint import Call
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import Reply, tracklayer_error

TRACKLAYER_PREFIX = "tl_"


class EventsEndpoint(ServerEndpoint):
    """The shared path, with Datafly's rules for whatever is not TrackLayer's."""

    async def steps(self, call: Call) -> Reply:
        """Refuse what speaks for both products; the rest is Datafly's."""
        headers = call.scope.headers
        scheme, _, token = str(headers.get("authorization", "")).partition(" ")
        tracklayer = scheme.lower() == "bearer" and token.strip().startswith(TRACKLAYER_PREFIX)
        if not tracklayer:
            return await super().steps(call)
        if self.signature(call.scope) is not None:
            raise Refusal(
                Outcome.INVALID_PAYLOAD,
                "X-Signature and a tl_ key are two products' credentials; send one of them",
            )
        raise TrackLayerRefusal(Outcome.INVALID_KEY, "unknown API key")

    def error(self, refusal: Refusal) -> Reply:
        """In the shape of the product that the credential belongs to."""
        if isinstance(refusal, TrackLayerRefusal):
            return tracklayer_error(refusal)
        return super().error(refusal)


class TrackLayerRefusal(Refusal):
    """A request with a TrackLayer key ends here."""
