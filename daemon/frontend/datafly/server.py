"""
POST /v1/events, signed: one event that a server speaks for (contracts A.2, 0.2.15).

The path is shared with TrackLayer; `frontend.dispatch` decides by the kind of credential.
"""

from __future__ import annotations

from daemon.events import datafly
from daemon.frontend import auth
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.signed import SignedEndpoint
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.reply import Reply


class ServerEndpoint(SignedEndpoint):
    """Signed single events."""

    def __init__(self, kit: Kit, recogniser: Recogniser) -> None:
        super().__init__(kit, "events")
        self._recogniser = recogniser
        self._bytes_max = kit.settings.limits.body_bytes_max

    async def steps(self, call: Call) -> Reply:
        """Signature, limit, event, log."""
        signature = self.signature(call)
        if signature is None:
            raise auth.bad_key("events on this path are signed; send X-Signature and X-Timestamp")
        length = self.declared(call, self._bytes_max)
        source, data = await self.signed_body(call, signature, length, self._bytes_max)
        await self.limited(source)
        work = self._recogniser.server(source, datafly.decode_server(data), "server", self.kit.now())
        outcome = await self.published(work)
        self.ended(call, outcome)
        return self.accepted(call, outcome, work.durability)
