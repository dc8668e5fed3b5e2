"""
POST /v1/cdp/events: one event of a customer (contracts B.2).

`steps` is the path of a request, step by step; each step goes on or refuses.
"""

from __future__ import annotations

from daemon.events import resultfly
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.events.resultfly import Accepted, Duplicate
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.resultfly.door import ResultflyEndpoint, caller, invalid
from daemon.frontend.resultfly.work import ResultflyWork, WorkMaker


class EventEndpoint(ResultflyEndpoint):
    """Single events."""

    def __init__(self, kit: Kit, maker: WorkMaker) -> None:
        super().__init__(kit, "cdp_events")
        self._maker = maker
        self._bytes_max = kit.settings.limits.body_bytes_max

    async def steps(self, call: Call) -> Reply:
        """Key, type and length, limit, body, event, contract, log."""
        key = await caller(self.kit, call.scope, resultfly.EVENTS_WRITE)
        length = self.declared(call, self._bytes_max)
        await self.limited(key)
        work = await self._work(key.tenant, await self.read(call, length, self._bytes_max))
        outcome = await self.published(work)
        if outcome is Outcome.CONFLICT:
            raise Refusal(outcome, CONFLICT)
        self.ended(call, outcome)
        if outcome is Outcome.DUPLICATE:
            return Reply(
                200, [JSON, ("x-headgate-duplicate", "1")], resultfly.encode_answer(Duplicate(work.id))
            )
        durability = work.durability or "local"
        return Reply(
            200, [JSON, ("x-headgate-durability", durability)], resultfly.encode_answer(Accepted(work.id))
        )

    async def _work(self, tenant: str, data: bytes) -> ResultflyWork:
        try:
            event = resultfly.decode(data)
            return self._maker.make(tenant, event, await self._maker.contracts(tenant), "server")
        except InvalidPayload as error:
            raise invalid(error) from None


#: What is said to the second of two.
CONFLICT = "an event of another eventType has this source and externalEventId already; sending it again will not help"
