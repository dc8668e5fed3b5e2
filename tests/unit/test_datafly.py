"""Datafly's events: what is taken, what is refused and how the refusal words it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.events import datafly
from daemon.events.datafly import DataflyEnvelope, Received, decode, page_url, to_envelope
from daemon.events.envelope import Envelope, encode
from daemon.events.payload import DEPTH_MAX, ID_CHARS_MAX, InvalidPayload

MINIMAL: dict[str, dict[str, Any]] = {
    "track": {"type": "track", "event": "Order Completed"},
    "page": {"type": "page"},
    "identify": {"type": "identify", "userId": "user_1"},
    "group": {"type": "group", "groupId": "group_1"},
}


def envelope_of(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The envelope of `event` as a reader of the log sees it."""
    fields: dict[str, Any] = {
        "id": "0" * 32, "tenant": "acme", "source": "src_1", "channel": "browser",
        "received_at": "2026-02-25T14:30:00.000Z", "anonymous_id": "anon", "user_id": None,
        "ip": "203.0.113.7", "user_agent": "UA/1", "clicks": {}, "vendors": {},
    }  # fmt: skip
    fields.update(changes)
    decoded = decode(json.dumps(event).encode(), event["type"])
    read: dict[str, Any] = json.loads(encode(to_envelope(decoded, Received(**fields))))
    return read


@pytest.mark.parametrize("kind", MINIMAL)
def test_the_least_that_each_type_needs_is_enough(kind: str) -> None:
    """Required members alone make an event; the timestamp is then the receipt time."""
    envelope = envelope_of(MINIMAL[kind])
    assert envelope["type"] == kind
    assert envelope["schema"] == 1
    assert envelope["contract"] == "datafly"
    assert envelope["timestamp"] == envelope["receivedAt"] == "2026-02-25T14:30:00.000Z"
    assert "messageId" not in envelope
    assert "properties" not in envelope


@pytest.mark.parametrize("kind", MINIMAL)
@pytest.mark.parametrize("path_kind", MINIMAL)
def test_the_type_must_match_the_path(kind: str, path_kind: str) -> None:
    """0.2.12: a type that is not the path's is a 400 that names `type`."""
    body = json.dumps(MINIMAL[kind]).encode()
    if kind == path_kind:
        assert decode(body, path_kind).type == kind
    else:
        with pytest.raises(InvalidPayload) as caught:
            decode(body, path_kind)
        assert caught.value.field == "type"


LONG = "x" * (ID_CHARS_MAX + 1)

BAD: list[tuple[str, bytes, str]] = [
    ("track", b"", ""),
    ("track", b"   ", ""),
    ("track", b"nonsense", ""),
    ("track", b"[]", ""),
    ("track", b'"track"', ""),
    ("track", b"null", ""),
    ("track", b"{}", "type"),
    ("track", b'{"type":null}', "type"),
    ("track", b'{"type":"track"}', "event"),
    ("track", b'{"type":"track","event":""}', "event"),
    ("track", b'{"type":"track","event":"  "}', "event"),
    ("track", b'{"type":"track","event":null}', "event"),
    ("track", b'{"type":"track","event":7}', "event"),
    ("track", b'{"type":"track","event":["a"]}', "event"),
    ("track", b'{"type":"track","event":"' + b"x" * 1025 + b'"}', "event"),
    ("identify", b'{"type":"identify"}', "userId"),
    ("identify", b'{"type":"identify","userId":""}', "userId"),
    ("identify", b'{"type":"identify","userId":17}', "userId"),
    ("identify", b'{"type":"identify","userId":"' + LONG.encode() + b'"}', "userId"),
    ("identify", b'{"type":"identify","userId":"u","traits":"x"}', "traits"),
    ("group", b'{"type":"group"}', "groupId"),
    ("group", b'{"type":"group","groupId":false}', "groupId"),
    ("page", b'{"type":"page","name":{}}', "name"),
    ("page", b'{"type":"page","properties":[]}', "properties"),
    ("page", b'{"type":"page","properties":"a"}', "properties"),
    ("page", b'{"type":"page","properties":1}', "properties"),
    ("page", b'{"type":"page","context":[]}', "context"),
    ("page", b'{"type":"page","context":"a"}', "context"),
    ("page", b'{"type":"page","messageId":1}', "messageId"),
    ("page", b'{"type":"page","messageId":"' + LONG.encode() + b'"}', "messageId"),
    ("page", b'{"type":"page","anonymousId":{}}', "anonymousId"),
    ("page", b'{"type":"page","timestamp":1700000000}', "timestamp"),
    ("page", b'{"type":"page","timestamp":"yesterday"}', "timestamp"),
    ("page", b'{"type":"page","timestamp":"2026-02-30T00:00:00Z"}', "timestamp"),
    ("page", b'{"type":"page","timestamp":"2026-02-03T25:00:00Z"}', "timestamp"),
    ("page", b'{"type":"page","timestamp":"2026-02-03x10:00:00Z"}', "timestamp"),
    ("page", b'{"type":"page","timestamp":"02/03/2026"}', "timestamp"),
    ("page", b'{"type":"page","sentAt":"soon"}', "sentAt"),
    ("page", b'{"type":"page"', ""),
    ("page", b'{"type":"page"}}', ""),
    ("page", b'{"type":"page",}', ""),
    ("page", b"{'type':'page'}", ""),
    ("page", b'{"type":"page","properties":{"a":NaN}}', ""),
    ("page", b'{"type":"page","properties":{"a":Infinity}}', ""),
    ("page", b'{"type":"page","properties":{"a":01}}', ""),
    ("page", b'{"type":"page","properties":{"a":"\x01"}}', ""),
    ("page", b'{"type":"page","properties":{"a":"\\x41"}}', ""),
    ("page", b'{"type":"page","properties":{"a":"\xff"}}', ""),
    ("page", b'{"type":"page","unknown":"\xc3("}', ""),
    ("page", b'{"type":"page","properties":{"a":"\\ud800"}}', ""),
    ("page", b'{"type":"page","properties":{"a":"\\udc00"}}', ""),
    ("page", b'{"type":"page","unknown":"\\ud800x"}', ""),
    ("page", b'{"type":"page","name":"\\ud83d"}', ""),
    ("page", b'\xef\xbb\xbf{"type":"page"}', ""),
    ("page", '{"type":"page"}'.encode("utf-16"), ""),
    ("page", b'{"type":"page","properties":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", ""),
    ("page", b'{"type":"page","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ("page", b"[" * 5000, ""),
]


@pytest.mark.parametrize(("kind", "body", "field"), BAD, ids=[f"{k}-{b[:48]!r}" for k, b, _ in BAD])
def test_what_is_wrong_is_refused_by_its_field(kind: str, body: bytes, field: str) -> None:
    """0.1.7: bad input is an InvalidPayload that names the field, never another exception."""
    with pytest.raises(InvalidPayload) as caught:
        decode(body, kind)
    assert caught.value.field == field
    assert caught.value.message
    if field:
        assert field in caught.value.message


GOOD_TIMES = [
    "2026-02-25T14:30:00.000Z",
    "2026-02-25T14:30:00+01:00",
    "2026-02-25 14:30",
    "2026-02-25",
    "20260225T143000Z",
]


@pytest.mark.parametrize("time", GOOD_TIMES)
def test_iso_times_pass_as_they_are(time: str) -> None:
    """The caller's own time is opaque: checked, not rewritten."""
    assert envelope_of({"type": "page", "timestamp": time})["timestamp"] == time


def test_optional_members_may_be_null_or_empty() -> None:
    """SDKs send null for what they don't have: that is the same as leaving it out."""
    envelope = envelope_of(
        {"type": "page", "name": None, "userId": "", "properties": None, "traits": None, "context": None,
         "timestamp": None, "messageId": "", "event": None}
    )  # fmt: skip
    assert not {"name", "userId", "properties", "traits", "messageId", "event"} & envelope.keys()


def test_what_passes_through_is_unchanged() -> None:
    """Properties, traits and the members of context keep their values, big numbers and escapes included."""
    body = (
        b'{"type":"page","properties":{"n":12345678901234567890123,"f":1.10,"s":"\\u00e9\\n\xe2\x82\xac","a":[1,{"b":null}]},'
        b'"context":{"locale":"de-DE","app":{"v":"1"},"userAgent":"mine"}}'
    )
    envelope = encode(
        to_envelope(
            decode(body, "page"),
            Received(
                "i",
                "t",
                "s",
                "browser",
                "now",
                "a",
                None,
                "::1",
                "header",
                {"gclid": "g"},
                {"_ga": "GA1.1.1.1"},
            ),
        )
    )
    assert b'"n":12345678901234567890123,"f":1.10' in envelope
    read = json.loads(envelope)
    assert read["properties"]["s"] == "é\n€"
    assert read["context"] == {
        "locale": "de-DE", "app": {"v": "1"}, "userAgent": "mine", "ip": "::1",
        "clickIds": {"gclid": "g"}, "vendorIds": {"_ga": "GA1.1.1.1"},
    }  # fmt: skip


def test_a_page_cannot_say_what_the_gateway_says() -> None:
    """`ip`, `clickIds` and `vendorIds` are the gateway's own: a caller's are replaced or dropped."""
    event = {
        "type": "page",
        "context": {"ip": "1.1.1.1", "clickIds": {"gclid": "forged"}, "vendorIds": {"_ga": "x"}},
    }
    context = envelope_of(event)["context"]
    assert context["ip"] == "203.0.113.7"
    assert "clickIds" not in context
    assert "vendorIds" not in context


def test_the_last_of_duplicate_members_wins() -> None:
    """0.1.7: duplicate keys, last wins."""
    assert decode(b'{"type":"track","event":"a","event":"b"}', "track").event == "b"
    assert decode(b'{"type":"page","properties":5,"properties":{}}', "page").properties is not None


def test_a_user_known_before_stands_in_only_where_none_is_given() -> None:
    """The event's own userId wins over the one that identify linked."""
    assert envelope_of({"type": "page"}, user_id="known")["userId"] == "known"
    assert envelope_of({"type": "page", "userId": "own"}, user_id="known")["userId"] == "own"


@pytest.mark.parametrize(
    ("event", "url"),
    [
        (
            {"context": {"page": {"url": "https://a/?x=1"}}, "properties": {"url": "https://b/"}},
            "https://a/?x=1",
        ),
        ({"context": {"page": {"title": "t"}}, "properties": {"url": "https://b/"}}, "https://b/"),
        ({"context": {"page": "odd"}, "properties": {"url": "https://b/"}}, "https://b/"),
        ({"context": {"page": {"url": 5}}}, None),
        ({"properties": {"nested": {"url": "https://c/"}}}, None),
        ({}, None),
    ],
)
def test_where_the_page_is(event: dict[str, Any], url: str | None) -> None:
    """0.2.22: context.page.url, else properties.url."""
    assert page_url(decode(json.dumps({"type": "page", **event}).encode(), "page")) == url


def test_nesting_up_to_the_bound_is_taken() -> None:
    """Braces inside strings are no nesting."""
    deep = b'{"type":"page","properties":{"a":' + b"[" * (DEPTH_MAX - 2) + b"]" * (DEPTH_MAX - 2) + b"}}"
    assert decode(deep, "page").type == "page"
    flat = b'{"type":"page","properties":{"a":"' + b"[{" * 5000 + b'\\"["}}'
    assert decode(flat, "page").type == "page"


@pytest.mark.timeout(20)
def test_what_is_no_json_is_refused_at_once() -> None:
    """Looking for nesting in it took minutes: each quote began a string that was looked for to the body's end."""
    endless = b'"' + b"[" * 300 + b'"' + b'\\"' * 250_000
    with pytest.raises(InvalidPayload):
        decode(endless, "page")
    assert datafly.write_key(endless) is None


def test_the_error_body_has_the_documented_shape() -> None:
    """A.6."""
    assert json.loads(datafly.error_body("NOT_FOUND", 'a "quoted" message')) == {
        "error": {"code": "NOT_FOUND", "message": 'a "quoted" message'}
    }


def test_datafly_has_members_of_the_envelope_in_its_order() -> None:
    """What is built for Datafly alone must read as any other envelope does."""
    known = [field for field in Envelope.__struct_fields__ if field in DataflyEnvelope.__struct_fields__]
    assert list(DataflyEnvelope.__struct_fields__) == known
