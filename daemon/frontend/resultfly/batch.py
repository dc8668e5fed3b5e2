"""
POST /v1/cdp/events/batch: up to 500 events at once, each with its own outcome (contracts B.3).

All items share one tick, so one claim call and one publish; a bad item fails alone, in its place among the
results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon.events import resultfly
from daemon.events.contract.validator import Validator
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.events.resultfly import Accepted, Answer, BatchAnswer, Duplicate, ErrorAnswer
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, unavailable
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.resultfly.door import ResultflyEndpoint, caller, invalid
from daemon.frontend.resultfly.events import CONFLICT
from daemon.frontend.resultfly.work import ResultflyWork, WorkMaker


class BatchEndpoint(ResultflyEndpoint):
    """Batches."""

    def __init__(self, kit: Kit, maker: WorkMaker) -> None:
        super().__init__(kit, "cdp_batch")
        self._maker = maker
        self._limits = kit.settings.limits

    async def steps(self, call: Call) -> Reply:
        """Key, type and length, limit, body, items, contracts, log."""
        limits = self._limits
        key = await caller(self.kit, call.scope, resultfly.EVENTS_WRITE)
        length = self.declared(call, limits.batch_bytes_max)
        await self.limited(key)
        data = await self.read(call, length, limits.batch_bytes_max)
        try:
            items = resultfly.decode_batch(data, limits.batch_items_max)
        except InvalidPayload as error:
            raise invalid(error) from None
        contracts = await self._maker.contracts(key.tenant)
        self.found(call, len(items))
        results = [self._begun(call, key.tenant, item, contracts) for item in items]
        await self.all_published([one for one in results if isinstance(one, ResultflyWork)])
        return self._answer(call, results)

    def _begun(
        self, call: Call, tenant: str, item: Any, contracts: Mapping[str, Validator]
    ) -> ResultflyWork | ErrorAnswer:
        """An item as a work, or what is wrong with it."""
        try:
            event = resultfly.decode_item(item, self._limits.item_bytes_max)
            return self._maker.make(tenant, event, contracts, "batch")
        except InvalidPayload as error:
            code = resultfly.code_of(error)
            self.ended(call, Outcome.TOO_LARGE if code == "payload_too_large" else Outcome.INVALID_PAYLOAD)
            return ErrorAnswer(code, error.message)

    def _answer(self, call: Call, results: list[ResultflyWork | ErrorAnswer]) -> Reply:
        """One result per item; 503 where nothing is durable for a reason of ours."""
        answers: list[Answer] = []
        counts = dict.fromkeys(Outcome, 0)
        durability = "kafka"
        wait_s = 0.0
        for one in results:
            if isinstance(one, ErrorAnswer):
                answers.append(one)
                continue
            outcome = one.outcome or Outcome.UNAVAILABLE
            counts[outcome] += 1
            if outcome is Outcome.ACCEPTED:
                answers.append(Accepted(one.id))
                durability = "local" if one.durability != "kafka" else durability
            elif outcome is Outcome.DUPLICATE:
                answers.append(Duplicate(one.id))
            elif outcome is Outcome.CONFLICT:
                answers.append(ErrorAnswer("event_conflict", CONFLICT))
            else:
                wait_s = max(wait_s, one.retry_after_s)
                answers.append(ErrorAnswer("unavailable", "not durable now; send this event again"))
        for outcome in (Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CONFLICT):
            self.ended_if(call, outcome, counts[outcome])
        if wait_s and not counts[Outcome.ACCEPTED] and not counts[Outcome.DUPLICATE]:
            raise unavailable("the batch could not be made durable now; try again", wait_s)
        self.ended_if(call, Outcome.UNAVAILABLE, counts[Outcome.UNAVAILABLE])
        headers: Headers = [JSON]
        if counts[Outcome.ACCEPTED]:
            headers.append(("x-headgate-durability", durability))
        if wait_s:
            headers += unavailable("", wait_s).headers
        return Reply(200, headers, resultfly.encode_answer(BatchAnswer(answers)))
