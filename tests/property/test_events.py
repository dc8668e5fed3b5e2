"""Rules with a shape: ids, JSON that passes through, and input that nobody foresaw."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.events import datafly, identity
from daemon.events.envelope import IdDeriver, derived_id, encode, partition_of, partitions_of
from daemon.events.payload import InvalidPayload

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def refusal_of(body: bytes) -> InvalidPayload | None:
    """What decoding refuses, if it does; any other exception is the test's failure."""
    try:
        datafly.decode(body, "track")
    except InvalidPayload as refused:
        return refused
    return None


json_objects = st.dictionaries(text, json_values, max_size=5)


@given(st.lists(text, min_size=1, max_size=5), st.lists(text, min_size=1, max_size=5))
def test_ids_differ_where_their_parts_do(one: list[str], other: list[str]) -> None:
    """0.1.4: unambiguously joined; the prepared prefix gives the same id as the whole."""
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
    assert IdDeriver(*one[:-1]).of(one[-1]) == derived_id(*one)


@given(st.binary(max_size=60), st.integers(1, 200))
def test_a_key_has_one_partition(key: bytes, partitions: int) -> None:
    """In range, and the same each time."""
    assert 0 <= partition_of(key, partitions) < partitions
    assert partitions_of([key, b"x", key], partitions) == [
        partition_of(one, partitions) for one in (key, b"x", key)
    ]


@given(json_objects, json_objects, json_objects)
def test_any_json_passes_through(
    properties: dict[str, Any], traits: dict[str, Any], context: dict[str, Any]
) -> None:
    """What a caller sends in the open parts is what the log's reader gets."""
    body = json.dumps(
        {"type": "identify", "userId": "u", "properties": properties, "traits": traits, "context": context}
    ).encode()
    event = datafly.decode(body, "identify")
    received = datafly.Received("i", "t", "s", "browser", "now", "a", None, "::1", None, {}, {})
    read = json.loads(encode(datafly.to_envelope(event, received)))
    assert read["properties"] == properties
    assert read["traits"] == traits
    kept = {name: value for name, value in context.items() if name not in ("ip", "clickIds", "vendorIds")}
    assert {name: value for name, value in read["context"].items() if name != "ip"} == kept
    assert not any(isinstance(value, float) and math.isnan(value) for value in properties.values())


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    """Whatever the bytes: an event or an InvalidPayload."""
    refused = refusal_of(body)
    assert refused is None or refused.message


@given(
    st.dictionaries(
        st.sampled_from(["type", "event", "userId", "properties", "context", "timestamp", "x"]), json_values
    )
)
def test_wrong_shapes_are_refused_and_nothing_else(event: dict[str, Any]) -> None:
    """Valid JSON with members of any type: an event or an InvalidPayload that names a field."""
    refused = refusal_of(json.dumps(event).encode())
    assert refused is None or refused.field in (
        "type",
        "event",
        "userId",
        "properties",
        "context",
        "timestamp",
    )


@given(st.text(max_size=200))
def test_any_cookie_header_is_survived(header: str) -> None:
    """And what comes out of it is well-formed."""
    cookies = identity.read_cookies(header)
    assert cookies.visitor is None or identity.is_visitor_id(cookies.visitor)
    assert all(identity.VENDOR_COOKIES[name].fullmatch(value) for name, value in cookies.vendors.items())


@given(st.dictionaries(text, text))
def test_any_identity_hash_is_survived(known: dict[str, str]) -> None:
    """The hash comes from Redis, where anybody may have written."""
    identity.known_clicks(known, 1e9, 1e6)
    identity.known_vendors(known)
