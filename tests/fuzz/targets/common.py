"""What several targets promise: an accepted event can be written, read by anybody, and stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from daemon.events import stored
from daemon.events.datafly import DataflyEnvelope
from daemon.events.envelope import Envelope, encode
from daemon.events.payload import ID_CHARS_MAX, NAME_CHARS_MAX
from daemon.events.stored import StoredEvent

#: The present, for everything that is told it.
NOW = datetime(2026, 2, 25, 14, 30, tzinfo=UTC)
NOW_S = NOW.timestamp()
NOW_MS = int(NOW_S * 1000)
NOW_TEXT = "2026-02-25T14:30:00.000Z"

#: What an envelope may be longer than its body, for which six bytes for one are counted (a character that has to be
#: escaped): ids, times, address, user agent, the page's address out of a header.
ENVELOPE_BYTES_MORE = 48 * 1024


def written(envelope: Envelope | DataflyEnvelope, body_bytes: int) -> StoredEvent:
    """
    The envelope as it goes to the log, read back as the processor does.

    It is JSON by the letter for other readers too, says what was put in, encodes to the same bytes again, is not
    much longer than what came, and becomes a row whose columns PostgreSQL takes.
    """
    data = encode(envelope)
    assert len(data) <= 6 * body_bytes + ENVELOPE_BYTES_MORE, f"{body_bytes} bytes became {len(data)}"
    data.decode()
    members: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    assert msgspec.json.encode(members) == data, "read and written again it differs"
    assert json.loads(bytes(members["id"])) == envelope.id
    row = stored.read(data, NOW_MS, NOW)
    assert row.id == envelope.id
    assert row.tenant == envelope.tenant
    check_row(row)
    return row


def check_row(row: StoredEvent) -> None:
    """What the columns of the table take."""
    assert len(row.key) == 32
    assert row.received_at.tzinfo is not None
    assert row.occurred_at.tzinfo is not None
    texts = (
        row.id,
        row.tenant,
        row.channel,
        row.source,
        row.type,
        row.name,
        row.message_id,
        row.user_id,
        row.anonymous_id,
    )
    for text in texts:
        if text is not None:
            assert "\0" not in text
            assert len(text) <= max(ID_CHARS_MAX, NAME_CHARS_MAX)
            text.encode()
