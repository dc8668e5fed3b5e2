"""What of a record becomes a row, and what is poison."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.events.deadletter import ORIGINAL_BYTES_MAX, dead_letter
from daemon.events.envelope import Envelope, encode
from daemon.events.stored import COLUMN_CHARS_MAX, Poison, Reason, event_key, read

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def envelope(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef0123456789abcdef",
        "schema": 1,
        "contract": "datafly",
        "channel": "browser",
        "tenant": "acme",
        "source": "src_1",
        "type": "track",
        "event": "Order Completed",
        "anonymousId": "anon",
        "userId": "u1",
        "properties": {"total": 1.5},
        "timestamp": "2026-03-01T11:59:58.000Z",
        "receivedAt": "2026-03-01T11:59:59.123Z",
        "messageId": "m1",
        **changes,
    }


def reading(**changes: Any) -> Any:
    found = {name: value for name, value in envelope(**changes).items() if value is not ...}
    return read(json.dumps(found).encode(), NOW_MS, NOW)


def test_columns_of_an_event() -> None:
    value = json.dumps(envelope()).encode()
    event = read(value, NOW_MS, NOW)
    assert event.envelope is value
    assert event.key == event_key(event.id)
    assert len(event.key) == 32
    assert event.received_at == datetime(2026, 3, 1, 11, 59, 59, 123000, UTC)
    assert event.occurred_at == datetime(2026, 3, 1, 11, 59, 58, tzinfo=UTC)
    assert (event.tenant, event.contract, event.channel, event.source) == (
        "acme",
        "datafly",
        "browser",
        "src_1",
    )
    assert (event.type, event.name, event.message_id) == ("track", "Order Completed", "m1")
    assert (event.user_id, event.anonymous_id) == ("u1", "anon")
    assert event.identity == ()
    assert not event.lasting


def test_what_the_frontends_write_is_read() -> None:
    value = encode(
        Envelope(
            id="x",
            contract="datafly",
            channel="pixel",
            tenant="t",
            source="s",
            type="page",
            name="Home",
            timestamp="2026-03-01T11:59:58.000Z",
            receivedAt="2026-03-01T11:59:58.000Z",
        )
    )
    assert read(value, NOW_MS, NOW).name == "Home"


def test_identifiers_are_resultflys_alone() -> None:
    identity = [{"type": "EMAIL", "value": "a@x", "more": 1}, {"type": "EXTERNAL", "value": "u1"}]
    event = reading(contract="resultfly", identity=identity)
    assert [tuple(one) for one in event.identity] == [("EMAIL", "a@x"), ("EXTERNAL", "u1")]
    assert event.lasting
    assert reading(identity=identity).identity == ()


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"messageId": 5}, "message_id", None),
        ({"messageId": None}, "message_id", None),
        ({"userId": {"a": [1]}}, "user_id", None),
        ({"event": ...}, "name", None),
        ({"event": None, "name": "Home"}, "name", "Home"),
        ({"event": "a\0b"}, "name", "a\N{REPLACEMENT CHARACTER}b"),
        ({"event": "x" * 5000}, "name", "x" * COLUMN_CHARS_MAX),
        ({"source": "s" * 5000}, "source", "s" * COLUMN_CHARS_MAX),
        ({"channel": 1}, "channel", None),
        ({"timestamp": "yesterday"}, "occurred_at", datetime(2026, 3, 1, 11, 59, 59, 123000, UTC)),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "occurred_at", datetime(2026, 3, 1, 11, 59, 59, 123000, UTC)),
        ({"timestamp": "9999-12-31T23:59:59-12:00"}, "occurred_at", datetime(2026, 3, 1, 11, 59, 59, 123000, UTC)),
        ({"timestamp": 12}, "occurred_at", datetime(2026, 3, 1, 11, 59, 59, 123000, UTC)),
        ({"timestamp": "2026-03-01T10:00:00"}, "occurred_at", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ({"receivedAt": ...}, "received_at", NOW),
        ({"receivedAt": "x"}, "received_at", NOW),
        ({"receivedAt": "2099-01-01T00:00:00Z"}, "received_at", NOW),
        ({"receivedAt": "1999-01-01T00:00:00Z"}, "received_at", NOW),
        ({"contract": "resultfly", "identity": "x"}, "identity", ()),
        ({"contract": "resultfly", "identity": [5, {"type": "EMAIL"}, {"type": "EMAIL", "value": "v"}]}, "identity", (("EMAIL", "v"),)),
        ({"contract": "resultfly", "identity": None}, "identity", ()),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_column_does_not_keep_an_event_out(
    changes: dict[str, Any], name: str, expected: object
) -> None:
    assert getattr(reading(**changes), name) == expected


def test_numbers_and_nesting_that_python_has_no_place_for() -> None:
    text = json.dumps(envelope())[:-1]
    deep = "[" * 256 + "]" * 256
    value = f'{text},"properties":{{"n":1e999999,"m":-123456789012345678901234567890,"d":{deep},"z":"\\u0000"}},"userId":1e999}}'
    event = read(value.encode(), NOW_MS, NOW)
    assert event.user_id is None
    assert event.envelope == value.encode()


def test_a_receipt_time_that_nobody_knows_is_now() -> None:
    value = json.dumps(envelope(receivedAt="x")).encode()
    assert read(value, -1, NOW).received_at == NOW
    assert read(value, 10**18, NOW).received_at == NOW
    assert read(value, NOW_MS + 3_600_000, NOW).received_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b'{"id":"' + b"\xff" + b'"}', Reason.NOT_JSON),
        (b"nonsense", Reason.NOT_JSON),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, Reason.NOT_JSON),
        (b"null", Reason.SCHEMA),
        (b"[]", Reason.SCHEMA),
        (b"{}", Reason.SCHEMA),
        (b'{"schema":2}', Reason.VERSION),
        (b'{"schema":"one"}', Reason.VERSION),
        (b'{"schema":{}}', Reason.SCHEMA),
        (json.dumps(envelope(schema=2)).encode(), Reason.VERSION),
        (json.dumps(envelope(schema=1.5)).encode(), Reason.VERSION),
        (json.dumps(envelope(id="")).encode(), Reason.SCHEMA),
        (json.dumps(envelope(id=5)).encode(), Reason.SCHEMA),
        (json.dumps(envelope(id="x" * 256)).encode(), Reason.SCHEMA),
        (json.dumps(envelope(id="a\0b")).encode(), Reason.SCHEMA),
        (json.dumps(envelope(tenant="a\0b")).encode(), Reason.SCHEMA),
        (json.dumps(envelope(tenant=None)).encode(), Reason.SCHEMA),
        (json.dumps(envelope(contract="other")).encode(), Reason.SCHEMA),
        (json.dumps(envelope(source=[])).encode(), Reason.SCHEMA),
        (json.dumps({k: v for k, v in envelope().items() if k != "type"}).encode(), Reason.SCHEMA),
    ],
)
def test_poison(value: bytes, reason: Reason) -> None:
    with pytest.raises(Poison) as caught:
        read(value, NOW_MS, NOW)
    assert caught.value.reason is reason
    assert caught.value.details


def test_a_dead_letter_holds_the_original() -> None:
    value = json.dumps({"schema": 7}).encode()
    letter = dead_letter(Poison(Reason.VERSION, "why"), value, "raw-events", 3, 42)
    assert json.loads(letter.body) == {
        "error": "unknown_schema_version",
        "details": "why",
        "original_event": {"schema": 7},
        "log": "raw-events",
        "partition": 3,
        "offset": 42,
    }
    again = dead_letter(Poison(Reason.VERSION, "why"), value, "raw-events", 3, 42)
    assert again.id == letter.id
    assert dead_letter(Poison(Reason.VERSION, "why"), value, "raw-events", 3, 43).id != letter.id


@pytest.mark.parametrize("value", [b"\xff\x00{", b"", b'{"a":"\xff"}', b"{" * 3000])
def test_what_is_no_json_is_kept_as_base64(value: bytes) -> None:
    body = json.loads(dead_letter(Poison(Reason.NOT_JSON, "why"), value, "l", 0, 0).body)
    assert body["original_encoding"] == "base64"
    assert base64.b64decode(body["original_event"]) == value
    assert "original_bytes" not in body


def test_a_letter_fits_the_topic_however_large_its_original_is() -> None:
    value = b'{"a":"' + b"x" * (2 * ORIGINAL_BYTES_MAX) + b'"}'
    letter = dead_letter(Poison(Reason.SCHEMA, "why"), value, "l", 0, 0)
    body = json.loads(letter.body)
    assert len(letter.body) < 1024 * 1024
    assert body["original_bytes"] == len(value)
    assert value.startswith(base64.b64decode(body["original_event"]))
