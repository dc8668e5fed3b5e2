"""What the endpoints of all products share: the limit, the body, the wait for durability."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daemon.events.outcome import Outcome
from daemon.frontend import body, limits
from daemon.frontend.endpoint import Call, EventEndpoint
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import unavailable
from daemon.frontend.work import Work
from daemon.ports import Limited

#: As names of their own: a member of an Enum is looked up through its metaclass, ten times as slowly.
_ACCEPTED = Outcome.ACCEPTED

#: Seconds between looks at an id that another request has claimed and not finished.
PENDING_POLL_S = 0.02
#: Seconds after which such a request is answered 503 with Retry-After: 1.
PENDING_WAIT_S = 1.0


class Intake(EventEndpoint):
    """Base of the products' endpoints."""

    #: what Allow says
    allow = "POST"
    #: media types that are read as JSON
    media_types: tuple[str, ...] = body.JSON_TYPES
    #: the caller's own id of an event, as the product calls it
    id_name = "messageId"

    def __init__(self, kit: Kit, label: str) -> None:
        super().__init__(kit, label)
        self._limits = kit.settings.limits

    def taken(self, caller: Limited) -> bool:
        """Whether a request out of the caller's bucket was at hand, as nearly always; ask `limited` else."""
        return limits.taken(self.kit.limiter, caller, self._limits)

    async def limited(self, caller: Limited) -> None:
        """One request out of the caller's bucket. Refuses (429)."""
        await limits.take(self.kit.limiter, caller, self._limits)

    def declared(self, call: Call, bytes_max: int, media_types: tuple[str, ...] | None = None) -> int | None:
        """The body's declared length. Refuses its type and encoding (415) and its length (413) before it is read."""
        headers = call.headers
        body.check_type(headers, media_types or self.media_types)
        encoding = headers.get("content-encoding")
        if encoding is not None:
            body.check_encoding(encoding)
            call.encoding = encoding
        return body.check_length(headers, bytes_max)

    async def read(self, call: Call, length: int | None, bytes_max: int) -> bytes:
        """The body of a request that was `declared`, inflated, at most `bytes_max` bytes of it."""
        data = await self.kit.bodies.read(call.transport, length, call.encoding, bytes_max)
        call.unread = False
        return data

    async def published(self, work: Work) -> Outcome:
        """The event's outcome, once it is durable or a duplicate. Refuses (503) otherwise."""
        await self.kit.ticker.add(work)
        return work.outcome if work.outcome is _ACCEPTED else await self.not_accepted(work)

    async def not_accepted(self, work: Work) -> Outcome:
        """What else has become of a work whose tick is over. Refuses (503) what is not durable."""
        if work.outcome is None:
            await self.settled((work,))
        return self.decided(work)

    def decided(self, work: Work) -> Outcome:
        """The outcome of a work that is not waited for any longer. Refuses (503) what is not durable."""
        if work.outcome is None:
            raise unavailable(f"another request with this {self.id_name} is being published; try again", 1.0)
        if work.outcome is Outcome.UNAVAILABLE:
            raise unavailable("the event could not be made durable now; try again", work.retry_after_s)
        return work.outcome

    async def settled(self, works: Sequence[Work]) -> None:
        """
        Wait for works whose ids somebody else has claimed: their outcome decides ours.

        Those that are not settled after PENDING_WAIT_S keep an outcome of None.
        """
        waited_s = 0.0
        while waited_s < PENDING_WAIT_S:
            pending = [work for work in works if work.outcome is None]
            if not pending:
                return
            await asyncio.sleep(PENDING_POLL_S)
            waited_s += PENDING_POLL_S
            await self.kit.ticker.add_all(pending)

    async def all_published(self, works: Sequence[Work]) -> None:
        """Every work of one request through one tick; a second copy of an id takes the first one's outcome."""
        firsts: dict[str, Work] = {}
        copies: list[tuple[Work, Work]] = []
        for work in works:
            first = firsts.setdefault(work.id, work)
            if first is not work:
                copies.append((work, first))
        if firsts:
            once = list(firsts.values())
            await self.kit.ticker.add_all(once)
            await self.settled(once)
        unlike: list[Work] = []
        for copy, first in copies:
            copy.retry_after_s = first.retry_after_s
            copy.outcome = first.outcome
            if copy.visit.claim_tag == first.visit.claim_tag:
                if first.outcome is _ACCEPTED:
                    copy.outcome = Outcome.DUPLICATE
            elif first.outcome in (_ACCEPTED, Outcome.DUPLICATE):
                copy.outcome = Outcome.CONFLICT
            elif first.outcome is Outcome.CONFLICT:
                unlike.append(copy)  # the id was durable before the first came: perhaps as what the copy is
        if unlike:
            await self.kit.ticker.add_all(unlike)

    def ended_if(self, call: Call, outcome: Outcome, events: int) -> None:
        """`ended`, unless there are none."""
        if events:
            self.ended(call, outcome, events)
