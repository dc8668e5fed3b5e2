"""`headgate spool verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from daemon.adapters.local.inspect import STATES, faults, rows
from daemon.adapters.local.places import file_of
from daemon.cli.output import print_json
from daemon.cli.spooling.common import chosen
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable, Unavailable

#: Bad rows that are named one by one; more are counted.
NAMED_MAX = 1000


def verify_all(settings: Settings, slots: Sequence[int], *, as_json: bool) -> int:
    """Check the files of `slots` (none: all); gives the exit code. Raises NotFound."""
    found = [_verified(settings, slot) for slot in chosen(settings, slots)]
    bad = any(one["faults"] or one["bad_rows"] for one in found)
    if as_json:
        print_json({"ok": not bad, "slots": found})
    else:
        for one in found:
            _tell(one)
        if not found:
            click.echo("there is no spool: no publisher has written here yet")
    return Unavailable.exit_code if bad else 0


def _verified(settings: Settings, slot: int) -> dict[str, Any]:
    path = file_of(settings, slot)
    result: dict[str, Any] = {
        "slot": slot, "file": str(path), "rows": 0, "records": 0, "without_checksum": 0, "bad_rows": 0,
        "faults": faults(path), "bad": [],
    }  # fmt: skip
    try:
        for row in rows(path, tuple(STATES)):
            result["rows"] += 1
            result["records"] += row.records
            result["without_checksum"] += not row.checked
            if row.fault:
                result["bad_rows"] += 1
                if len(result["bad"]) < NAMED_MAX:
                    result["bad"].append(
                        {"row": row.id, "state": STATES.get(row.state, str(row.state)), "records": row.records,
                         "fault": row.fault}
                    )  # fmt: skip
    except LogUnavailable as error:
        if not result["faults"]:
            result["faults"].append(str(error))
    return result


def _tell(one: dict[str, Any]) -> None:
    good = not one["faults"] and not one["bad_rows"]
    counted = f"{one['rows']} rows, {one['records']} records"
    if one["without_checksum"]:
        counted += f", {one['without_checksum']} rows of an early version without a checksum"
    click.echo(f"{'ok' if good else 'BAD':<4} {one['file']}: {counted}")
    for fault in one["faults"]:
        click.echo(f"     the file: {fault}")
    for row in one["bad"]:
        click.echo(f"     row {row['row']} ({row['state']}, {row['records']} records): {row['fault']}")
    if one["bad_rows"] > len(one["bad"]):
        click.echo(f"     … and {one['bad_rows'] - len(one['bad'])} rows more")
