"""Sending a signed request to the running instance, and finding on the log what became of it."""

from __future__ import annotations

import asyncio
import http.client
import time
from contextlib import aclosing, suppress
from typing import Any, cast

import msgspec
from msgspec import Struct

from daemon.adapters.postgres.webhooks import WebhookInfo
from daemon.cli.tailing.follow import reader_for
from daemon.cli.webhooking.samples import delivery_id, sample_body, sample_headers
from daemon.config.address import reachable
from daemon.config.schema import Settings
from daemon.errors import HeadgateError, LogUnavailable, Unavailable
from daemon.events.envelope import IdDeriver
from daemon.events.payload import InvalidPayload
from daemon.events.signatures import SignedRequest
from daemon.events.webhooks import Mapped, Mapper, WebhookLimits

#: Seconds for the answer; a front gives up on a body after 30 itself.
ANSWER_S = 15.0
#: Seconds that the envelope is looked for. It is on the log before the answer is sent, unless it waits in a spool.
ENVELOPE_S = 5.0
#: How far another clock on the way may be off, for reading the log from a time on.
_EARLIER_MS = 2_000


class Trial(Struct, frozen=True, kw_only=True):
    """What was sent, what came back, and the first event on the log (None: not found)."""

    url: str
    status: int
    answer: Any
    durability: str | None
    duplicate: bool
    envelope: Any


def webhook_url(settings: Settings, webhook_id: str) -> str:
    """The address on this machine."""
    server = settings.server
    return f"http://{reachable(server.host)}:{server.ingest_port}{webhook_path(webhook_id)}"


def webhook_path(webhook_id: str) -> str:
    """Path and query, the same on every host."""
    return f"/v1/webhook?source={webhook_id}"


def attempt(
    settings: Settings, info: WebhookInfo, secret: str | None, body: bytes | None, topic: str | None
) -> Trial:
    """Send `body` (None: a sample) as the webhook's sender would. Raises Unavailable when nobody answers."""
    mapper = Mapper(info.config)
    sent = body if body is not None else sample_body(info.kind)
    delivery = delivery_id()
    headers = sample_headers(info.config, delivery, topic)
    now_ms = int(time.time() * 1000)
    url = webhook_url(settings, info.id)
    if secret is not None:
        request = SignedRequest("POST", url, headers, sent)
        headers |= mapper.scheme.sign(request, secret.encode(), now_ms, delivery)
    reply, data = _post(settings, info.id, sent, headers)
    duplicate = reply.getheader("x-headgate-duplicate") is not None
    envelope = None
    if reply.status < 300 and not duplicate:
        event_id = _expected_id(settings, info, mapper, sent, headers)
        envelope = asyncio.run(_envelope(settings, info, event_id, now_ms - _EARLIER_MS))
    return Trial(
        url=url,
        status=reply.status,
        answer=_decoded(data),
        durability=reply.getheader("x-headgate-durability"),
        duplicate=duplicate,
        envelope=envelope,
    )


def _post(
    settings: Settings, webhook_id: str, body: bytes, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    server = settings.server
    host = reachable(server.host)
    connection = http.client.HTTPConnection(host.strip("[]"), server.ingest_port, timeout=ANSWER_S)
    try:
        connection.request("POST", webhook_path(webhook_id), body, headers)
        reply = connection.getresponse()
        return reply, reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"no instance answers at {host}:{server.ingest_port} ({error}); start it with: headgate run"
        ) from None
    finally:
        connection.close()


def _expected_id(
    settings: Settings, info: WebhookInfo, mapper: Mapper, body: bytes, headers: dict[str, str]
) -> str | None:
    """The id of the first event; None where it is a random one."""
    limits = settings.limits
    mapping = WebhookLimits(limits.body_bytes_max, limits.batch_items_max, limits.item_bytes_max)
    with suppress(InvalidPayload):
        for mapped in mapper.events(body, headers, mapping):
            if isinstance(mapped, Mapped):
                told_by = mapped.unique or mapped.event.messageId
                return IdDeriver("datafly", info.tenant, info.source).of(told_by) if told_by else None
    return None


class _Envelope(Struct):
    id: str = ""
    channel: str = ""
    source: str = ""


_heads = msgspec.json.Decoder(_Envelope)


async def _envelope(settings: Settings, info: WebhookInfo, event_id: str | None, since_ms: int) -> Any:
    """The event on the log, as soon as it is there; None when it does not come or the log can't be read."""
    reader = reader_for(settings)
    try:
        async with asyncio.timeout(ENVELOPE_S):
            records = reader.read(settings.kafka.topic_raw, since_ms, True)  # noqa: FBT003  the port's signature
            async with aclosing(cast("Any", records)) as stored:
                async for one in stored:
                    if _is_it(one.record.value, info, event_id):
                        return msgspec.json.decode(one.record.value)
    except (TimeoutError, LogUnavailable, HeadgateError):
        return None
    finally:
        with suppress(Exception):
            await reader.stop()
    return None


def _is_it(value: bytes, info: WebhookInfo, event_id: str | None) -> bool:
    try:
        head = _heads.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # somebody else's record on the topic
    if event_id is not None:
        return head.id == event_id
    return head.channel == "webhook" and head.source == info.source


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data.decode("utf-8", "replace")
