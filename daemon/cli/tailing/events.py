"""How events are shown: the envelope on one line, or as a block in colours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from daemon.cli.output import cell_text, coloured
from daemon.cli.tailing.selection import Head
from daemon.ports import StoredRecord

Printer = Callable[[StoredRecord, Head], None]

#: Control characters other than line end and tab: a terminal would obey them.
_CONTROLS = {
    code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {0x09, 0x0A}
}


def line_printer() -> Printer:
    """Prints the envelope as one line, at once."""
    out = sys.stdout.buffer

    def show(stored: StoredRecord, head: Head) -> None:  # noqa: ARG001  a Printer's arguments
        value = stored.record.value
        # The callers' own JSON stands in there as it came, line ends included.
        if b"\n" in value or b"\r" in value:
            value = msgspec.json.format(value, indent=-1)
        out.write(value + b"\n")
        out.flush()

    return show


def pretty_printer() -> Printer:
    """Prints a dim line with time, tenant and place, and the envelope as an indented block below it."""
    from rich.console import Console
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    console = Console(
        color_system="auto" if coloured() else None,
        highlight=False,
        soft_wrap=True,
        markup=False,
        emoji=False,
    )
    highlighter = JSONHighlighter()

    def show(stored: StoredRecord, head: Head) -> None:
        record = stored.record
        moment = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).astimezone()
        what = f"{head.type} {head.event or head.name}".strip()
        place = f"{stored.log}/{stored.partition}@{stored.offset}"
        stamp = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{record.timestamp_ms % 1000:03d}"
        console.print(
            Text("── ", style="dim")
            + Text(stamp, style="dim")
            + Text(f"  {cell_text(what)}", style="bold")
            + Text(f"  {cell_text(head.tenant)}  {cell_text(head.source)}  {place}", style="dim")
        )
        text = msgspec.json.format(record.value, indent=2).decode("utf-8", "replace").translate(_CONTROLS)
        body = Text("\n".join("  " + line for line in text.split("\n")))
        highlighter.highlight(body)
        console.print(body)
        console.file.flush()

    return show
