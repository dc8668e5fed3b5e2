"""`headgate spool export`."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from daemon.adapters.local.inspect import STATES, StoredRow, rows
from daemon.adapters.local.places import file_of
from daemon.cli.output import print_json
from daemon.cli.spooling.common import chosen
from daemon.config.schema import Settings
from daemon.errors import UsageError
from daemon.ports import Record


def export_all(
    settings: Settings, slots: Sequence[int], wanted: Sequence[str], output: str | None, *, as_json: bool
) -> None:
    """
    Write the records in the states `wanted` to `output` (None: standard output).

    Raises NotFound, LogUnavailable, and UsageError for a file that is there already or can't be written.
    """
    numbers = [number for number, name in STATES.items() if name in wanted]
    lines = _lines(settings, chosen(settings, slots), numbers)
    if output is None:
        for line in lines:
            sys.stdout.buffer.write(line)
        return
    path = Path(output)
    draft = path.with_name(f"{path.name}.part")
    try:
        if path.exists():
            raise UsageError(f"{path} is there already; name a new file")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            count = _write(file, lines)
        draft.rename(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    if as_json:
        print_json({"file": str(path), "records": count})
    else:
        click.echo(f"{count} records are in {path}")


def _write(file: BinaryIO, lines: Iterator[bytes]) -> int:
    count = 0
    for line in lines:
        file.write(line)
        count += 1
    file.flush()
    os.fsync(file.fileno())
    return count


def _lines(settings: Settings, slots: Sequence[int], wanted: Sequence[int]) -> Iterator[bytes]:
    for slot in slots:
        for row in rows(file_of(settings, slot), wanted):
            for batch in row.batches:
                for record in batch.records:
                    yield msgspec.json.encode(_line(slot, row, batch.partition, record)) + b"\n"


def _line(slot: int, row: StoredRow, partition: int, record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {
        "slot": slot,
        "row": row.id,
        "state": STATES[row.state],
        "topic": row.topic,
        "partition": partition,
        "timestamp_ms": record.timestamp_ms,
        "id": record.id,
        "contract": record.contract,
        "type": record.type,
        "tenant": record.tenant,
        **_bytes("key", record.key),
    }
    if row.fault:
        line["fault"] = row.fault
    try:
        msgspec.json.decode(record.value)
        line["value"] = msgspec.Raw(record.value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        line |= _bytes("value", record.value)
    return line


def _bytes(name: str, data: bytes) -> dict[str, str]:
    """As text where it is some, else in base64 under `<name>_base64`."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
