"""Whatever a stranger sends and an operator writes: an event, or words about what is wrong, and never anything else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.events.payload import InvalidPayload
from daemon.events.signatures import BadSignature, SignedRequest
from daemon.events.webhooks import KINDS, BadConfig, Mapped, Mapper, WebhookLimits, read_config
from daemon.events.webhooks.paths import MISSING, Path
from tests.support.webhooks import SIGNING, WAYS, signed

LIMITS = WebhookLimits(event_bytes_max=64 * 1024, items_max=100, item_bytes_max=8 * 1024)
URI = "https://data.example.com/v1/webhook?source=wh_1"

MAPPERS = [
    Mapper(read_config({"source_type": kind, **({"scheme": "none"} if kind == "custom" else {})}))
    for kind in KINDS
]
MAPPERS.append(
    Mapper(
        read_config(
            {
                "source_type": "custom",
                "scheme": "none",
                "items_path": "$..items[*]",
                "mappings": {
                    "event": "$..id", "userId": "$.*", "timestamp": "$[0]", "properties.a": "$..type",
                    "properties.b": "$[?@.id]", "traits": "$.data", "context": "$", "messageId": "$..*",
                },
            }
        )
    )
)  # fmt: skip

#: Names that the presets look at, so that the documents are not all strangers.
NAMES = st.sampled_from(
    ["id", "type", "event", "data", "object", "created", "customer", "timestamp", "eventId", "subscriptionType",
     "items", "occurredAt", "userId", "messageId", "sender", "login", "line_items"]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=6),
    max_leaves=30,
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["x-shopify-topic", "x-github-event", "x-github-delivery", "webhook-id"]),
    st.text(max_size=8),
)


def _judged(mapper: Mapper, body: bytes, headers: dict[str, str]) -> None:
    try:
        found = mapper.events(body, headers, LIMITS)
    except InvalidPayload:
        return
    assert 1 <= len(found) <= LIMITS.items_max
    for one in found:
        if isinstance(one, Mapped):
            event = one.event
            assert event.type != "track" or event.event
            for name in ("event", "userId", "messageId", "anonymousId", "groupId", "name", "timestamp"):
                assert getattr(event, name) is None or isinstance(getattr(event, name), str)
            for raw in (event.properties, event.traits, *(event.context or {}).values()):
                assert not bytes(raw) or msgspec.json.decode(raw) is not Ellipsis
        else:
            assert one.message


@given(st.sampled_from(MAPPERS), DOCUMENTS, HEADERS)
@settings(max_examples=400)
def test_any_document_is_an_event_or_is_refused(
    mapper: Mapper, document: Any, headers: dict[str, str]
) -> None:
    _judged(mapper, json.dumps(document).encode("utf-8", "surrogatepass"), headers)


@given(st.sampled_from(MAPPERS), st.binary(max_size=200))
def test_any_bytes_are_an_event_or_are_refused(mapper: Mapper, body: bytes) -> None:
    _judged(mapper, body, {})


@given(
    st.text(st.sampled_from("$.@?*[]'\"()|&!=<>:,0123456789ab ~^_-\\u/"), max_size=24).map("$".__add__),
    DOCUMENTS,
)
@settings(max_examples=400)
def test_any_text_is_a_path_that_works_or_is_refused(text: str, document: Any) -> None:
    try:
        path = Path(text, "mappings: userId")
    except BadConfig:
        return
    found = list(path.all(document))
    assert path.first(document) is (found[0] if found else MISSING)
    if path.singular:
        assert len(found) <= 1


@given(DOCUMENTS)
def test_any_settings_are_taken_or_refused(document: Any) -> None:
    for mapping in (
        document,
        {"source_type": "stripe", "mappings": document},
        {"source_type": "stripe", "event_names": document},
    ):
        try:
            Mapper(read_config(mapping))
        except BadConfig:
            continue


@given(
    st.sampled_from(SIGNING),
    st.binary(max_size=60),
    st.integers(0, 2**41),
    st.binary(min_size=1, max_size=60),
)
def test_what_was_signed_fits_and_nothing_else_does(
    name: str, body: bytes, now_ms: int, other: bytes
) -> None:
    config, secret = WAYS[name]
    assert secret is not None
    scheme = Mapper(read_config(config)).scheme
    headers = signed(name, body, URI, now_s=now_ms / 1000)
    scheme.check(SignedRequest("POST", URI, headers, body), [secret.encode()], now_ms)
    try:
        scheme.check(SignedRequest("POST", URI, headers, other), [secret.encode()], now_ms)
        fits = True
    except BadSignature:
        fits = False
    assert fits == (other == body)
