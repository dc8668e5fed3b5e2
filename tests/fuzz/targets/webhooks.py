"""Webhooks: bodies of strangers, settings of operators, paths into documents, signatures."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec

from daemon.events import datafly
from daemon.events.datafly import TYPES, DataflyEnvelope
from daemon.events.payload import InvalidPayload, JsonReader
from daemon.events.signatures import BadSignature, SignedRequest, check_datafly, datafly_signature
from daemon.events.webhooks import (
    KINDS,
    BadConfig,
    Mapped,
    Mapper,
    WebhookConfig,
    WebhookLimits,
    effective,
    form_payload,
    read_config,
)
from daemon.events.webhooks.paths import Path
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.common import NOW_MS, written
from tests.fuzz.targets.datafly import received
from tests.fuzz.targets.target import Target, headers_of, refused
from tests.support.webhooks import WAYS

LIMITS = WebhookLimits(event_bytes_max=64 * 1024, items_max=100, item_bytes_max=8 * 1024)
URI = "https://data.example.com/v1/webhook?source=wh_1"

#: A mapping of every sort of path.
_WILD = {
    "source_type": "custom",
    "scheme": "none",
    "items_path": "$..items[*]",
    "mappings": {
        "event": "$..id", "userId": "$.*", "timestamp": "$[0]", "properties.a": "$..type", "properties.b": "$[?@.id]",
        "traits": "$.data", "context": "$", "messageId": "$..*",
    },
}  # fmt: skip
MAPPERS = {name: Mapper(read_config(settings)) for name, (settings, _) in WAYS.items()}
MAPPERS["wild"] = Mapper(read_config(_WILD))

NAMES = (
    "id", "type", "event", "data", "object", "created", "customer", "timestamp", "eventId", "subscriptionType", "items",
    "occurredAt", "userId", "messageId", "sender", "login", "line_items", "amount", "metadata", "portalId", "objectId",
    "updated_at", "payload",
)  # fmt: skip
BODY = Grammar(
    "json",
    NAMES,
    ('[{"eventId":1,"subscriptionType":"a"}]', '{"items":[{"id":1},{"id":"x"}]}', "19.90", "1700000000"),
)
WAY = Grammar("text", tuple(MAPPERS))
HEADERS = Grammar(
    "text",
    (
        "x-shopify-topic: orders/create", "x-shopify-webhook-id: 1", "x-github-event: push", "webhook-id: a",
        "stripe-signature: t=1772029800,v1=00", "x-hubspot-signature-v3: aGVsbG8=", "x-hubspot-request-timestamp: 1772029800000",
        "webhook-timestamp: 1772029800", "webhook-signature: v1,aGVsbG8=", "x-sig: 00", "authorization: Bearer hush", "\n",
    ),
)  # fmt: skip


def _mapper(part: bytes) -> tuple[str, Mapper]:
    name = text_of(part)
    return (name, MAPPERS[name]) if name in MAPPERS else ("wild", MAPPERS["wild"])


def event(data: bytes) -> str:
    """A body through one of the mappings."""
    way, head, body = split(data, 3)
    _, mapper = _mapper(way)
    if body.startswith(b"payload="):
        try:
            body = form_payload(body)
        except InvalidPayload as error:
            return refused(error, error.message)
    try:
        found = mapper.events(body, headers_of(text_of(head)), LIMITS)
    except InvalidPayload as error:
        return refused(error, error.message)
    assert 1 <= len(found) <= LIMITS.items_max
    return _told([_stored(one, len(data)) for one in found])


def _stored(one: Mapped | InvalidPayload, data_bytes: int) -> bool:
    if isinstance(one, InvalidPayload):
        refused(one, one.message)
        return False
    assert one.event.type in TYPES
    # a mapping may take the same part many times; the limit on the mapped event bounds that
    written(_envelope(one), max(data_bytes, LIMITS.event_bytes_max))
    return True


def _envelope(one: Mapped) -> DataflyEnvelope:
    return datafly.to_envelope(one.event, received(one.event, "webhook", one.event.anonymousId, None))


def _told(stored: list[bool]) -> str:
    return "all accepted" if all(stored) else "some accepted" if any(stored) else "none accepted"


def config(data: bytes) -> str:
    """Settings as an operator may write them, compiled and used."""
    body, payload = split(data, 2)
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "no JSON"
    try:
        found = read_config(document)
        mapper = Mapper(found)
    except BadConfig as error:
        return refused(error)
    stored = msgspec.json.encode(found)
    assert msgspec.json.decode(stored, type=WebhookConfig) == found
    Mapper(effective(found))
    try:
        mapper.events(payload[:2048], headers_of(""), LIMITS)
    except InvalidPayload as error:
        refused(error, error.message)
    return "settings"


_DOCUMENT = json.loads(
    '{"id":1,"data":{"object":{"id":"a","list":[1,2,{"x":"y"}],"":0}},"items":[{"id":1},{"id":2,"items":[]}],"n":null}'
)


_documents = JsonReader.of(Any)


def path(data: bytes) -> str:
    """A JSONPath, and what it selects of a small document."""
    text, body = split(data, 2)
    try:
        found = Path(text_of(text), "mappings: event")
    except BadConfig as error:
        return refused(error)
    document = _DOCUMENT
    if body:
        with contextlib.suppress(InvalidPayload):
            document = _documents.read(body[:4096])
    selected = list(found.all(document))
    assert not found.singular or len(selected) <= 1
    assert len(selected) <= 4096
    found.first(document)
    found.value(document)
    return "one value" if found.singular else "any number of values"


def signature(data: bytes) -> str:
    """A request of any sender: a signature that is not theirs is refused, and theirs is taken."""
    way, head, body = split(data, 3)
    name, mapper = _mapper(way)
    headers = headers_of(text_of(head))
    secret = (WAYS.get(name, ({}, None))[1] or "").encode()
    outcome = "signed"
    try:
        mapper.scheme.check(SignedRequest("POST", URI, headers, body), (secret, b"whsec_b3RoZXI="), NOW_MS)
    except BadSignature as error:
        outcome = refused(error)
    theirs = mapper.scheme.sign(SignedRequest("POST", URI, {}, body), secret, NOW_MS, "msg_1")
    mapper.scheme.check(SignedRequest("POST", URI, theirs, body), (secret,), NOW_MS)
    _datafly(headers, body)
    return outcome


def _datafly(headers: Any, body: bytes) -> None:
    given = headers.get("x-signature")
    if given is not None:
        try:
            check_datafly(b"sk_1", given, headers.get("x-timestamp"), body, NOW_MS)
        except BadSignature as error:
            refused(error)
    check_datafly(b"sk_1", datafly_signature(b"sk_1", str(NOW_MS), body), str(NOW_MS), body, NOW_MS)


_SETTINGS = WebhookConfig.__struct_fields__
_SETTING_VALUES = (
    *(f'"{kind}"' for kind in KINDS), '"$.data.object.id"', '"$..id"', '"$[?@.a==1]"', '"$"', '"X-Sig"', '"sha256"', '"base64"',
    '"hmac"', '"none"', '"shared-secret"', '{"properties.a":"$.a"}', '{"properties":"$"}', '{"event":"$..*"}',
    '{"messageId":"$.id","properties.a.b":"$.x","properties.a":"$.y"}',
)  # fmt: skip
_PATHS = (
    "$", ".a", "..", "[*]", "[0]", "[-1]", "[1:2:3]", "[::-1]", "[?@.id]", "[?@.id==1]", "[?@.a<'b'&&!@.c]", "['a']", "[\"a\"]",
    "[?count(@.*)>1]", "[?match(@.a,'(a+)+$')]", "[?$.id==@.id]", "~", "^", "|", "&", "[0,1]", "[?@==-0.0e1]", "\\u0061",
    "[99999999999999999999]", "[?(@.a)]", " ", "[?@[?@.a]]",
)  # fmt: skip

TARGETS = (
    Target("webhook-event", "a webhook's body through a mapping", event, (WAY, HEADERS, BODY), 32 * 1024, share=2),
    Target(
        "webhook-config", "a webhook's settings", config,
        (Grammar("json", (*_SETTINGS, "event", "properties", "traits.a"), _SETTING_VALUES), BODY), share=1,
    ),
    Target(
        "webhook-path", "a JSONPath and a document", path,
        (Grammar("text", _PATHS), Grammar("json", NAMES)), 8 * 1024, share=1,
    ),
    Target("signature", "signatures of webhooks and of Datafly's servers", signature, (WAY, HEADERS, BODY), 8 * 1024, share=1),
)  # fmt: skip
