"""
POST /v1/webhook?source=wh_…: what other services send, mapped to events (contracts A.5, 0.2.19).

The signature is checked over the bytes on the wire before anything is read of them. A body may hold
several events (HubSpot's do): a bad one fails alone, and unless all that are good are durable the
sender is asked to send again.
"""

from __future__ import annotations

import logging

import msgspec

from daemon.events import datafly
from daemon.events.datafly import BatchAnswer, ItemError
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.events.signatures import BadSignature, SignedRequest
from daemon.events.webhooks import WebhookLimits, form_payload
from daemon.frontend import body
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.work import DataflyWork
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.query import parameter
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.rsgi import RequestHeaders, Scope
from daemon.ports import Source, Webhook

log = logging.getLogger(__name__)


class WebhookEndpoint(DataflyEndpoint):
    """Webhooks of all kinds."""

    def __init__(self, kit: Kit, recogniser: Recogniser) -> None:
        super().__init__(kit, "webhook")
        self._recogniser = recogniser
        limits = kit.settings.limits
        self._bytes_max = limits.body_bytes_max
        self._mapped = WebhookLimits(limits.body_bytes_max, limits.batch_items_max, limits.item_bytes_max)
        self._told_s = 0.0

    async def steps(self, call: Call) -> Reply:
        """Webhook, signature, limit, mapping, log."""
        webhook, source = await self._webhook(call.scope)
        data = await self._signed_body(call, webhook)
        await self.limited(source)
        now_s = self.kit.now()
        found = webhook.mapper.events(data, call.headers, self._mapped)
        self.found(call, len(found))
        works: dict[int, DataflyWork] = {}
        errors: list[tuple[int, InvalidPayload]] = []
        for index, mapped in enumerate(found):
            if isinstance(mapped, InvalidPayload):
                errors.append((index, mapped))
            else:
                works[index] = self._recogniser.server(source, mapped.event, "webhook", now_s, mapped.unique)
        self.ended_if(call, Outcome.INVALID_PAYLOAD, len(errors))
        if not works:
            raise errors[0][1]
        if errors:
            self._tell(webhook, len(errors), len(found), errors[0][1].message)
        await self.all_published(list(works.values()))
        return self._answer(call, list(works.values()), errors)

    async def _webhook(self, scope: Scope) -> tuple[Webhook, Source]:
        """By `?source=wh_…`. Refuses (404) one that is unknown or disabled, or whose source is."""
        webhook_id = parameter(scope.query_string, "source")
        webhook = await self.kit.webhooks.webhook(webhook_id) if webhook_id else None
        source = await self.kit.directory.by_id(webhook.source_id) if webhook is not None else None
        if webhook is None or source is None:
            known = "unknown or disabled webhook" if webhook_id else "the request names no webhook"
            raise Refusal(
                Outcome.INVALID_KEY,
                f"{known}; send to /v1/webhook?source=wh_…, as `headgate webhooks list` shows it",
                code="NOT_FOUND",
            )
        return webhook, source

    async def _signed_body(self, call: Call, webhook: Webhook) -> bytes:
        """The JSON of a request that was signed with one of the webhook's secrets. Refuses (401)."""
        headers = call.headers
        media_types = _media_types(headers, webhook)
        length = self.declared(call, self._bytes_max, media_types)
        data = await self.kit.bodies.read(call.transport, length, None, self._bytes_max)
        call.unread = False
        now_s = self.kit.now()
        request = SignedRequest(call.scope.method, self.kit.clients.url(call.scope), headers, data)
        try:
            webhook.mapper.scheme.check(request, webhook.secrets(now_s), int(now_s * 1000))
        except BadSignature as error:
            code = datafly.TIMESTAMP_OUT_OF_RANGE if error.stale else datafly.INVALID_SIGNATURE
            raise Refusal(Outcome.INVALID_KEY, str(error), code=code) from None
        encoding = (headers.get("content-encoding") or "identity").strip().lower()
        if encoding != "identity":
            data = body.inflate(data, encoding, self._bytes_max)
        return (
            form_payload(data)
            if body.FORM_TYPE in media_types and _media(headers) == body.FORM_TYPE
            else data
        )

    def _answer(
        self, call: Call, works: list[DataflyWork], errors: list[tuple[int, InvalidPayload]]
    ) -> Reply:
        accepted = [work for work in works if work.outcome is Outcome.ACCEPTED]
        duplicates = sum(work.outcome is Outcome.DUPLICATE for work in works)
        self.ended_if(call, Outcome.ACCEPTED, len(accepted))
        self.ended_if(call, Outcome.DUPLICATE, duplicates)
        if len(accepted) + duplicates < len(works):
            wait_s = max(work.retry_after_s for work in works if work.outcome not in _DURABLE)
            raise unavailable("not durable now; send this again", wait_s)
        headers: Headers = [JSON]
        if accepted:
            weakest = "local" if any(work.durability == "local" for work in accepted) else "kafka"
            headers.append(("x-headgate-durability", weakest))
        else:
            headers.append(("x-headgate-duplicate", "1"))
        if not errors:
            return Reply(200, headers, datafly.SUCCESS)
        items = [ItemError(index, error.message) for index, error in errors]
        return Reply(
            200, headers, msgspec.json.encode(BatchAnswer(success=True, accepted=len(works), errors=items))
        )

    def _tell(self, webhook: Webhook, bad: int, found: int, message: str) -> None:
        """Log what was not mapped, a line a second at most: the sender gets a 200 and looks no further."""
        now_s = self.kit.now()
        if now_s - self._told_s >= 1.0:
            self._told_s = now_s
            text = "%d of %d events of a webhook's request could not be mapped: %s"
            log.warning(text, bad, found, message, extra={"webhook": webhook.id})

    def error(self, refusal: Refusal) -> Reply:
        """A.6; an unknown webhook is a 404."""
        reply = super().error(refusal)
        if refusal.code == "NOT_FOUND":
            reply.status = 404
        return reply


_DURABLE = (Outcome.ACCEPTED, Outcome.DUPLICATE)


def _media(headers: RequestHeaders) -> str:
    return str(headers.get("content-type") or "").partition(";")[0].strip().lower()


def _media_types(headers: RequestHeaders, webhook: Webhook) -> tuple[str, ...]:
    """What this webhook's sender may declare: JSON by any name, and for GitHub a form with JSON in it."""
    media = _media(headers)
    taken = (*body.JSON_TYPES, "text/json")
    if media.startswith("application/") and media.endswith("+json"):
        return (*taken, media)
    return (*taken, body.FORM_TYPE) if webhook.mapper.config.source_type == "github" else taken
