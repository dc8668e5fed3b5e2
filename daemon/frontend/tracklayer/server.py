"""POST /v1/events with a `tl_` key: what a merchant's server says (contracts C.2, 0.4.29)."""

from __future__ import annotations

from daemon.events import tracklayer
from daemon.events.outcome import Outcome
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import Reply
from daemon.frontend.rsgi import Scope
from daemon.frontend.tracklayer.door import TrackLayerEndpoint
from daemon.frontend.tracklayer.work import WorkMaker
from daemon.ports import ApiKey

#: Class prefix of the keys.
PREFIX = "tl_"

#: What a key may have to be allowed to send: the scope itself, or the one that stands for all.
SCOPES = frozenset({"events:write", "admin"})


class TrackEndpoint(TrackLayerEndpoint):
    """Events of servers."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit, "track")
        self._makes = WorkMaker(kit, "server")
        self._bytes_max = kit.settings.limits.body_bytes_max

    async def steps(self, call: Call) -> Reply:
        """Key, scope, type and length, limit, body, event, merchant, log."""
        key = await self._key(call.scope)
        if SCOPES.isdisjoint(key.scopes):
            raise Refusal(
                Outcome.FORBIDDEN,
                f"this key lacks the scope events:write; it has {', '.join(key.scopes) or 'none'}",
            )
        length = self.declared(call, self._bytes_max)
        await self.limited(key)
        event = self.decoded(await self.read(call, length, self._bytes_max))
        if event.merchant_id != key.merchant_id:
            raise Refusal(
                Outcome.FORBIDDEN,
                f"merchant_id {event.merchant_id} is not the one that this key belongs to",
                code=tracklayer.MERCHANT_MISMATCH,
            )
        return await self.durable(call, self._makes.work(key.tenant, event, self.kit.now()))

    async def _key(self, scope: Scope) -> ApiKey:
        token = bearer(scope)
        key = self.kit.keys.cached_api_key(token) or await self.kit.keys.find_api_key(token)
        if key is None or key.kind != "merchant":
            raise Refusal(Outcome.INVALID_KEY, "unknown or revoked API key, or its merchant is disabled")
        return key


def bearer(scope: Scope) -> str:
    """The token of `Authorization: Bearer …`; empty where there is none."""
    scheme, _, token = str(scope.headers.get("authorization", "")).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
