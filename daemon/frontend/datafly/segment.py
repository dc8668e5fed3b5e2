"""
POST /v1/track, /v1/page, /v1/identify, /v1/group, /v1/screen, /v1/alias: where Segment-style SDKs send.

The key comes as Basic's user name or as the body's `writeKey`, the path says the type, and `timestamp` is corrected by `sentAt`
(contracts 0.2.13, 0.2.23, 0.2.23b).
"""

from __future__ import annotations

from daemon.events import datafly
from daemon.frontend import body
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.reply import Reply


class SegmentEndpoint(DataflyEndpoint):
    """One of the six paths; `kind` is its last part."""

    media_types = (*body.JSON_TYPES, body.FORM_TYPE)

    def __init__(self, kit: Kit, kind: str, recogniser: Recogniser) -> None:
        super().__init__(kit, "segment")
        self._kind = kind
        self._recogniser = recogniser
        self._bytes_max = kit.settings.limits.body_bytes_max

    async def steps(self, call: Call) -> Reply:
        """Key, limit, body, event, time, log."""
        source, data = await self.keyed_body(call, self._bytes_max)
        event = datafly.decode_by_path(data, self._kind)
        now_s = self.kit.now()
        datafly.correct_time(event, None, now_s)
        work = self._recogniser.server(source, event, "server", now_s)
        outcome = await self.published(work)
        self.ended(call, outcome)
        return self.accepted(call, outcome, work.durability)
