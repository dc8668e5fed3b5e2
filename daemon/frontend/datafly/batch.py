"""
POST /v1/batch: up to 500 events at once, each with its own outcome (contracts A.3).

All items share one tick, so one claim call and one publish; a bad item fails alone and is named by its
index.
"""

from __future__ import annotations

import msgspec

from daemon.events import datafly
from daemon.events.datafly import Batch, BatchAnswer, BatchTooLarge, ItemError
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import body
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.signed import SignedEndpoint
from daemon.frontend.datafly.work import DataflyWork
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import JSON, Reply
from daemon.ports import Source

#: As names of their own: a member of an Enum is looked up through its metaclass, ten times as slowly.
_ACCEPTED = Outcome.ACCEPTED


class BatchEndpoint(SignedEndpoint):
    """Signed batches, and batches with a pipeline key."""

    media_types = (*body.JSON_TYPES, body.FORM_TYPE)

    def __init__(self, kit: Kit, recogniser: Recogniser) -> None:
        super().__init__(kit, "batch")
        self._recogniser = recogniser
        self._limits = kit.settings.limits

    async def steps(self, call: Call) -> Reply:
        """Signature or key, limit, body, items, log."""
        source, batch = await self._batch(call)
        self.found(call, len(batch.batch))
        works, errors = self._works(source, batch)
        self.ended_if(call, Outcome.INVALID_PAYLOAD, len(errors))
        await self.all_published(list(works.values()))
        return self._answer(call, works, errors)

    async def _batch(self, call: Call) -> tuple[Source, Batch]:
        bytes_max = self._limits.batch_bytes_max
        signature = self.signature(call)
        try:
            if signature is not None:
                length = self.declared(call, bytes_max)
                source, data = await self.signed_body(call, signature, length, bytes_max)
                await self.limited(source)
            else:
                source, data = await self.keyed_body(call, bytes_max)
        except Refusal as refusal:
            if refusal.outcome is not Outcome.TOO_LARGE:
                raise
            # documented: a batch over its limits is a 400, not a 413
            raise _BatchRefused(refusal) from None
        try:
            return source, datafly.decode_batch(data, self._limits.batch_items_max)
        except BatchTooLarge as error:
            raise Refusal(Outcome.INVALID_PAYLOAD, error.message, code=datafly.BATCH_TOO_LARGE) from None

    def _works(self, source: Source, batch: Batch) -> tuple[dict[int, DataflyWork], list[ItemError]]:
        """The good items as works, by index, and what is wrong with the others."""
        works: dict[int, DataflyWork] = {}
        errors: list[ItemError] = []
        now_s = self.kit.now()
        for index, item in enumerate(batch.batch):
            try:
                event = datafly.decode_item(item, self._limits.item_bytes_max)
            except InvalidPayload as error:
                errors.append(ItemError(index, error.message))
                continue
            datafly.correct_time(event, batch.sentAt, now_s)
            works[index] = self._recogniser.server(source, event, "batch", now_s)
        return works, errors

    def _answer(self, call: Call, works: dict[int, DataflyWork], errors: list[ItemError]) -> Reply:
        accepted = duplicates = 0
        durability = "kafka"
        waits_s: list[float] = []
        for index, work in works.items():
            if work.outcome is _ACCEPTED:
                accepted += 1
                if work.durability == "local":
                    durability = "local"
            elif work.outcome is Outcome.DUPLICATE:
                duplicates += 1
            else:
                waits_s.append(work.retry_after_s)
                errors.append(ItemError(index, "not durable now; send this event again"))
        self.ended_if(call, _ACCEPTED, accepted)
        self.ended_if(call, Outcome.DUPLICATE, duplicates)
        if waits_s and not accepted and not duplicates:
            raise unavailable("the batch could not be made durable now; try again", max(waits_s))
        self.ended_if(call, Outcome.UNAVAILABLE, len(waits_s))
        headers: Headers = [JSON]
        if accepted:
            headers.append(("x-headgate-durability", durability))
        if waits_s:
            headers.append(unavailable("", max(waits_s)).headers[0])
        answer = BatchAnswer(success=True, accepted=accepted + duplicates)
        if errors:
            answer.errors = sorted(errors, key=lambda error: error.index)
        return Reply(200, headers, msgspec.json.encode(answer))


class _BatchRefused(Refusal):
    """A body over the batch's limit, as 400 BATCH_TOO_LARGE."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(Outcome.INVALID_PAYLOAD, refusal.message, refusal.headers, datafly.BATCH_TOO_LARGE)
