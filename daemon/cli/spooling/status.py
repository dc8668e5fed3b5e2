"""`headgate spool status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from daemon.adapters.local.inspect import SlotState, states
from daemon.cli.output import print_json, print_table
from daemon.cli.spooling.common import age_text, chosen, size_text
from daemon.config.schema import Settings


def show_status(settings: Settings, slots: Sequence[int], *, as_json: bool) -> None:
    """Print the state of the files of `slots` (none: all). Raises NotFound."""
    picked = chosen(settings, slots)
    found = states(settings, picked) if picked else []
    now_s = time.time()
    if as_json:
        print_json(document(found, now_s))
        return
    print_table(
        ("SLOT", "WAITING", "OLDEST", "SIZE", "REFUSED ROWS", "DAMAGED ROWS", "KEPT", "DRAINED BY"),
        [
            (
                one.slot,
                one.waiting_records,
                age_text(_age_s(one, now_s)) if one.waiting_records else None,
                size_text(one.bytes),
                one.refused_rows,
                one.damaged_rows,
                one.kept_records,
                "a living process" if one.in_hand else "nobody",
            )
            for one in found
        ],
        "there is no spool: no publisher has written here yet",
    )
    for one in found:
        if one.error:
            click.echo(f"{one.file} can't be read: {one.error}", err=True)
        for path in one.to_salvage:
            click.echo(f"{path} was corrupt; its good records are still to be saved", err=True)
        for path in one.corrupt:
            click.echo(f"{path} was corrupt; its good records were saved", err=True)


def document(found: Sequence[SlotState], now_s: float) -> dict[str, Any]:
    """The state as `--json` prints it; ages in seconds."""
    return {
        "records": sum(one.waiting_records for one in found),
        "bytes": sum(one.bytes for one in found),
        "oldest_s": max((_age_s(one, now_s) for one in found), default=0.0),
        "refused_rows": sum(one.refused_rows for one in found),
        "damaged_rows": sum(one.damaged_rows for one in found),
        "slots": [
            {
                "slot": one.slot,
                "file": one.file,
                "records": one.waiting_records,
                "bytes": one.bytes,
                "oldest_s": _age_s(one, now_s),
                "refused_rows": one.refused_rows,
                "damaged_rows": one.damaged_rows,
                "kept_records": one.kept_records,
                "in_hand": one.in_hand,
                "to_salvage": one.to_salvage,
                "corrupt": one.corrupt,
                "error": one.error,
            }
            for one in found
        ],
    }


def _age_s(one: SlotState, now_s: float) -> float:
    return round(max(0.0, now_s - one.oldest_ms / 1000), 3) if one.waiting_records else 0.0
