"""Which events are wanted: times as people write them, and the filter."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from daemon.errors import UsageError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to show.

    `since_ms` is Unix milliseconds (None: from the oldest). `limit` ends it (None: never). `backlog` is how
    many of the newest events are shown before following. `source` is an id, a name, or empty, `type` likewise.
    """

    since_ms: int | None = None
    follow: bool = False
    limit: int | None = None
    backlog: int = 0
    type: str = ""
    source: str = ""


class Head(msgspec.Struct, gc=False):
    """The few fields of an envelope that the filter and the head line need."""

    tenant: str = ""
    source: str = ""
    type: str = ""
    event: str = ""
    name: str = ""


_decoder = msgspec.json.Decoder(Head)


def head_of(value: bytes) -> Head | None:
    """The head of an envelope; None when `value` is no envelope (somebody else's record on the topic)."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def matches(head: Head, kind: str, sources: Container[str] | None) -> bool:
    """Whether an event is of the type `kind` (empty: any) and of one of `sources` (None: any)."""
    return (not kind or head.type == kind) and (sources is None or head.source in sources)


def since_ms(text: str, now_s: float | None = None) -> int:
    """
    `5m`, `2h`, … before now, or an ISO 8601 time, as Unix milliseconds. Raises UsageError for anything else.

    A time without a zone is local time.
    """
    now_s = time.time() if now_s is None else now_s
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if match is not None:
        return max(0, int((now_s - float(match[1]) * _UNITS_S[match[2]]) * 1000))
    try:
        moment = datetime.fromisoformat(text.strip())
        return max(0, int(moment.astimezone(UTC).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--since {text!r} is no time: write 30s, 5m, 2h, 1d, or 2026-01-31T09:00:00Z"
        ) from None


def started_ms() -> int:
    """When this process was started, Unix milliseconds: importing and connecting take their time after it."""
    # Field 22 of /proc/self/stat, in clock ticks since the boot; the name in field 2 may hold spaces (proc(5)).
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return int((time.time() - age_s) * 1000) - 10
