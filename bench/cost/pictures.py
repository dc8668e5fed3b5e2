"""
The figures as pictures (SVG), drawn from the JSON that `bench.cost --json` wrote.

    python -m bench.cost.pictures docs/performance/figures.json docs/performance
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

#: Roles in the order of the stacks, with their colours (readable on light and dark, and without colour by order).
ROLES = (("frontend", "#2f6fb0"), ("publisher", "#d98a29"), ("supervisor", "#8a8a8a"))

WIDTH, LEFT, RIGHT, ROW, TOP, FOOT = 760, 150, 90, 26, 56, 44

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#444}.t{font-weight:600}.s{font-size:11px}"
    "line{stroke:#999;stroke-width:1}.g{stroke:#9996;stroke-dasharray:2 3}.w{stroke:#000;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.w{stroke:#fff}}"
)


def bars(title: str, rows: Sequence[dict[str, Any]], marks: Sequence[tuple[float, str]]) -> str:
    """
    A row of `bench.cost` each: CPU per event in units of the bare server's request, split by role.

    The whisker is the spread of the pairs; `marks` are vertical lines: position and what they mean.
    """
    most = max(
        [at for at, _ in marks]
        + [max(one["ratio"], one["ratio_pairs"]["most"] if one["ratio_pairs"] else 0.0) for one in rows]
    )
    scale = (WIDTH - LEFT - RIGHT) / (most * 1.05)
    height = TOP + ROW * len(rows) + FOOT
    parts = [
        _opening(title, height),
        f'<text class="t" x="8" y="20">{escape(title)}</text>',
    ]
    bottom = TOP + ROW * len(rows)
    for at, meaning in marks:
        x = LEFT + at * scale
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text class="s" x="{x:.1f}" y="{TOP - 12}" text-anchor="middle">{escape(meaning)}</text>'
        )
    for place, one in enumerate(rows):
        parts += _bar(one, TOP + ROW * place, scale)
    x = LEFT
    for role, colour in ROLES:
        parts.append(f'<rect x="{x}" y="{bottom + 16}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text class="s" x="{x + 18}" y="{bottom + 26}">{role}</text>')
        x += 110
    parts.append(f'<text class="s" x="{x}" y="{bottom + 26}">whisker: spread of the rounds</text></svg>')
    return "\n".join(parts) + "\n"


def _opening(title: str, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>'
    )


def _bar(row: dict[str, Any], y: float, scale: float) -> list[str]:
    parts = [f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(row["scenario"])}</text>']
    x = float(LEFT)
    whole = sum(row["cpu_us_by_role"].get(role, 0.0) for role, _ in ROLES)
    for role, colour in ROLES:
        width = row["ratio"] * scale * row["cpu_us_by_role"].get(role, 0.0) / whole if whole else 0.0
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 10}" fill="{colour}"/>'
        )
        x += width
    end = x
    if (pairs := row["ratio_pairs"]) is not None:
        low, high = LEFT + pairs["least"] * scale, LEFT + pairs["most"] * scale
        middle = y + 4 + (ROW - 10) / 2
        parts.append(f'<line class="w" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
        end = max(end, high)
    parts.append(f'<text x="{end + 6:.1f}" y="{y + 16}">{row["ratio"]:.2f}</text>')
    return parts


def curve(title: str, x_name: str, points: Sequence[tuple[str, float, float, float]]) -> str:
    """Points at equal distances: their names, least, median and most, in units."""
    height, bottom = 300, 240
    most = max(point[3] for point in points) * 1.1
    step = (WIDTH - LEFT - RIGHT) / max(1, len(points) - 1)
    parts = [
        _opening(title, height),
        f'<text class="t" x="8" y="20">{escape(title)}</text>',
        f'<line x1="{LEFT - 30}" y1="{bottom}" x2="{WIDTH - RIGHT + 30}" y2="{bottom}"/>',
    ]
    line = []
    for place, (name, least, median, highest) in enumerate(points):
        x = LEFT + place * step
        low, middle, high = (bottom - (bottom - TOP) * value / most for value in (least, median, highest))
        line.append(f"{x:.1f},{middle:.1f}")
        parts += [
            f'<line class="w" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>',
            f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="3.5" fill="{ROLES[0][1]}"/>',
            f'<text class="s" x="{x + 8:.1f}" y="{middle - 6:.1f}">{median:.2f}</text>',
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(name)}</text>',
        ]
    parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{ROLES[0][1]}"/>')
    parts.append(
        f'<text class="s" x="{WIDTH / 2}" y="{bottom + 40}" text-anchor="middle">{escape(x_name)}</text></svg>'
    )
    return "\n".join(parts) + "\n"


def draw(found: dict[str, Any]) -> dict[str, str]:
    """All pictures of a run: file name → SVG."""
    pictures: dict[str, str] = {}
    for part, name in (("mock", "mock broker"), ("kafka", "real Kafka")):
        measured = found["parts"].get(part)
        if not measured:
            continue
        rows = measured["rows"]
        single = [one for one in rows if not one["scenario"].startswith("batch")]
        batches = [one for one in rows if one["scenario"].startswith("batch")]
        if single:
            title = f"CPU per event in units of the bare server's request ({name})"
            pictures[f"{part}-single.svg"] = bars(title, single, [(1, "bare server"), (2.5, "limit")])
        if batches:
            title = f"CPU per event of a batch, same unit ({name})"
            pictures[f"{part}-batch.svg"] = bars(title, batches, [(0.4, "limit for 100")])
    for name, measured in found.get("scaling", {}).items():
        points = [
            (one["at"], one["ratio_pairs"]["least"], one["ratio_pairs"]["median"], one["ratio_pairs"]["most"])
            for one in measured["rows"]
        ]
        pictures[f"scaling-{name}.svg"] = curve(measured["title"], measured["axis"], points)
    return pictures


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="bench.cost.pictures", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("figures", type=Path, help="what `bench.cost --json` wrote")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, text in draw(json.loads(given.figures.read_text("utf-8"))).items():
        (given.folder / name).write_text(text, "utf-8")
        print(given.folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
