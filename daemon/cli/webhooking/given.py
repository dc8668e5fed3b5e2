"""What the operator gave: a mapping file, options, durations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from daemon.errors import NotFound, UsageError
from daemon.events.webhooks import KINDS, WebhookConfig, read_config

#: A mapping of a hundred paths has some kilobytes.
_FILE_BYTES_MAX = 1024 * 1024
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def config_from(kind: str | None, mapping: str | None, options: dict[str, Any]) -> WebhookConfig:
    """
    A webhook's settings out of its mapping file and the options, which win.

    Raises UsageError (BadConfig names the offending part), NotFound for a file that is not there.
    """
    document: Any = {}
    if mapping is not None:
        try:
            document = msgspec.json.decode(read_file(mapping, "the mapping"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{mapping} is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise UsageError(f'{mapping} does not hold an object such as {{"mappings": {{…}}}}')
    named = document.get("source_type")
    if kind is not None and named not in {None, kind}:
        raise UsageError(f"--kind {kind}, but {mapping} says source_type {named!r}: one of them is wrong")
    if kind is None and named is None:
        raise UsageError(f"--kind is missing: one of {', '.join(KINDS)}")
    given = {name: value for name, value in options.items() if value is not None}
    return read_config({**document, "source_type": kind or named, **given})


def read_file(name: str, what: str) -> bytes:
    """The bytes of a file of some size. Raises NotFound, UsageError."""
    path = Path(name)
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}") from None
    if len(data) > _FILE_BYTES_MAX:
        raise UsageError(f"{name}: {what} is larger than {_FILE_BYTES_MAX} bytes")
    return data


def seconds(text: str) -> float:
    """`90s`, `5m`, `24h`, `7d` or a bare 0 as seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd])", text.strip().lower())
    if match is not None:
        return float(match[1]) * _UNITS_S[match[2]]
    if text.strip() == "0":
        return 0.0
    raise UsageError(f"--overlap {text!r} is no duration: write 90s, 5m, 24h, 7d, or 0")
