"""
What commands print: JSON for programs, tables for people, plain columns for everything in between.

rich is imported for a terminal only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

#: A wider line is cut; only a source with very many origins comes near it.
TABLE_CHARS_MAX = 4000


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def coloured() -> bool:
    """Whether to colour standard output: a terminal, and NO_COLOR is not set (no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR")


def print_json(value: Any) -> None:
    """Print `value` (anything that msgspec encodes) as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """
    Print `rows` under `columns`: a table on a terminal, tab-separated lines with a head in a pipe.

    Without rows, a terminal gets the sentence `empty`, and a pipe the head alone.
    """
    texts = [[cell_text(cell) for cell in row] for row in rows]
    if not on_terminal():
        for line in (list(columns), *texts):
            sys.stdout.write("\t".join(line) + "\n")
        return
    if not texts:
        sys.stdout.write(empty + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for line in texts:
        table.add_row(*(Text(text, style=_style(text)) for text in line))
    # As wide as its content: the terminal breaks what is too long, and what is copied stays whole.
    Console(color_system="auto" if coloured() else None, width=TABLE_CHARS_MAX, soft_wrap=True).print(table)


def print_fields(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print names and values below each other; on a terminal the names are dim."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        head = f"{name:<{width}}"
        sys.stdout.write(f"{paint(head, '2')}  {cell_text(value)}\n")


def paint(text: str, code: str) -> str:
    """`text` in the colour of the SGR `code`, if colours are wanted."""
    return f"\x1b[{code}m{text}\x1b[0m" if coloured() else text


def cell_text(value: Any) -> str:
    """A value as people read it: nothing is a dash, lists are joined, times have no fractions."""
    if value is None or (not value and isinstance(value, str | list | tuple)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    # What came from outside may hold control characters, which a terminal would obey.
    return "".join(character if character.isprintable() else "�" for character in str(value))


_STYLES = {
    "READY": "green",
    "PARKED": "bold red",
    "BACKOFF": "red",
    "STARTING": "yellow",
    "DRAINING": "yellow",
    "STOPPING": "yellow",
    "enabled": "green",
    "disabled": "red",
    "active": "green",
    "revoked": "red",
}


def _style(text: str) -> str:
    return _STYLES.get(text, "")
