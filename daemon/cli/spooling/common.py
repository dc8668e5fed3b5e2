"""What the commands share: which slots are meant, and how ages and sizes read."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.adapters.local.places import folder_of, slots_on_disk
from daemon.config.schema import Settings
from daemon.errors import NotFound


def chosen(settings: Settings, slots: Sequence[int]) -> list[int]:
    """The slots that are meant: those named, else all that have a file. Raises NotFound for one without a file."""
    there = slots_on_disk(folder_of(settings))
    for slot in slots:
        if slot not in there:
            have = ", ".join(map(str, there)) or "none"
            raise NotFound(
                f"publisher slot {slot} has no file in {folder_of(settings)}; those that have one: {have}"
            )
    return sorted(set(slots)) if slots else there


def age_text(seconds: float) -> str:
    """`seconds` as `12 s`, `3 min`, `5 h` or `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_text(count: int) -> str:
    """`count` bytes as `12.3 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
