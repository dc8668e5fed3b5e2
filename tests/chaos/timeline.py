"""The run as a picture: traffic, latency and the spool over the faults, as one SVG file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from tests.chaos.faults import Played
from tests.chaos.figures import quantile
from tests.chaos.ledger import Attempt
from tests.chaos.stage import Sample

WIDTH, LEFT, RIGHT = 1280, 110, 20
#: Name, height in pixels.
CHART_PX, GAP_PX, LANE_PX = 110, 34, 18
LATENCY_S = (0.001, 10.0)

COLOURS = {
    "frontend": "#4c78a8", "publisher": "#72b7b2", "processor": "#54a24b", "stores": "#eeca3b", "roll": "#b279a2",
    "supervisor": "#9d755d", "kafka": "#e45756", "everything": "#333333",
}  # fmt: skip


def svg(
    title: str, began_at: float, seconds: float, attempts: Sequence[Attempt], samples: Sequence[Sample],
    played: Sequence[Played],
) -> str:  # fmt: skip
    """The picture of a run that began at `began_at` (monotonic) and took `seconds`."""
    steps = max(1, math.ceil(seconds))
    good, bad = [0] * steps, [0] * steps
    times: list[list[float]] = [[] for _ in range(steps)]
    for one in attempts:
        step = int(one.sent_at - began_at)
        if 0 <= step < steps:
            (good if one.ok else bad)[step] += 1
            times[step].append(one.came_at - one.sent_at)
    p99 = [quantile(sorted(found), 0.99) for found in times]
    x_of = _Scale(0.0, seconds, LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    top = 40
    most = max([g + b for g, b in zip(good, bad, strict=True)], default=1) or 1
    y = _Scale(0, most, top + CHART_PX, top)
    parts += _axis("requests/s", top, [(y(0), "0"), (y(most), f"{most}")])
    parts.append(_area(x_of, y, good, [0] * steps, "#54a24b"))
    parts.append(_area(x_of, y, [g + b for g, b in zip(good, bad, strict=True)], good, "#e45756"))
    top += CHART_PX + GAP_PX
    low, high = map(math.log10, LATENCY_S)
    y = _Scale(low, high, top + CHART_PX, top)
    parts += _axis(
        "p99", top, [(y(math.log10(s)), t) for s, t in ((0.001, "1 ms"), (0.1, "100 ms"), (10, "10 s"))]
    )
    line = " ".join(
        f"{x_of(step + 0.5):.1f},{y(math.log10(min(max(value, LATENCY_S[0]), LATENCY_S[1]))):.1f}"
        for step, value in enumerate(p99)
        if times[step]
    )
    parts.append(f'<polyline points="{line}" fill="none" stroke="#4c78a8" stroke-width="1.4"/>')
    top += CHART_PX + GAP_PX
    spool = [
        (one.at - began_at, one.spool_records or 0.0) for one in samples if 0 <= one.at - began_at <= seconds
    ]
    most_spooled = max((count for _, count in spool), default=0.0) or 1.0
    y = _Scale(0, most_spooled, top + CHART_PX, top)
    parts += _axis("in the spool", top, [(y(0), "0"), (y(most_spooled), f"{most_spooled:.0f}")])
    points = " ".join(f"{x_of(at):.1f},{y(count):.1f}" for at, count in spool)
    if spool:
        ends = f"{x_of(spool[0][0]):.1f},{y(0):.1f} {points} {x_of(spool[-1][0]):.1f},{y(0):.1f}"
        parts.append(f'<polygon points="{ends}" fill="#eeca3b" fill-opacity="0.6" stroke="#b79f1b"/>')
    top += CHART_PX + GAP_PX
    areas = [area for area in COLOURS if any(one.fault.area == area for one in played)]
    for lane, area in enumerate(areas):
        at_y = top + lane * (LANE_PX + 4)
        parts.append(_text(LEFT - 8, at_y + LANE_PX - 5, area, anchor="end"))
        parts += [_bar(x_of, at_y, one, began_at) for one in played if one.fault.area == area]
    bottom = top + len(areas) * (LANE_PX + 4) + 4
    every = max(1, round(seconds / 12 / 5) * 5) if seconds > 30 else 5
    for at in range(0, steps + 1, every):
        parts.append(
            f'<line x1="{x_of(at):.1f}" y1="40" x2="{x_of(at):.1f}" y2="{bottom}" stroke="#ddd" stroke-width="0.5"/>'
        )
        parts.append(_text(x_of(at), bottom + 14, f"{at} s", anchor="middle"))
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 26}" '
                'font-family="sans-serif" font-size="11">'
            ),
            f'<rect width="{WIDTH}" height="{bottom + 26}" fill="white"/>',
            _text(LEFT, 22, title, size=14),
            *parts,
            "</svg>\n",
        ]
    )


class _Scale:
    """Values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._per, self._start = low, (end - start) / ((high - low) or 1.0), start

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._per


def _area(x_of: _Scale, y_of: _Scale, upper: Sequence[int], lower: Sequence[int], colour: str) -> str:
    points: list[str] = []
    for step, value in enumerate(upper):
        points += [f"{x_of(step):.1f},{y_of(value):.1f}", f"{x_of(step + 1):.1f},{y_of(value):.1f}"]
    for step in reversed(range(len(lower))):
        points += [
            f"{x_of(step + 1):.1f},{y_of(lower[step]):.1f}",
            f"{x_of(step):.1f},{y_of(lower[step]):.1f}",
        ]
    return f'<polygon points="{" ".join(points)}" fill="{colour}" fill-opacity="0.8"/>'


def _axis(name: str, top: float, marks: Iterable[tuple[float, str]]) -> list[str]:
    found = [_text(10, top + CHART_PX / 2, name)]
    for at_y, text in marks:
        found.append(
            f'<line x1="{LEFT}" y1="{at_y:.1f}" x2="{WIDTH - RIGHT}" y2="{at_y:.1f}" stroke="#ccc"/>'
        )
        found.append(_text(LEFT - 8, at_y + 4, text, anchor="end"))
    return found


def _bar(x_of: _Scale, at_y: float, one: Played, began_at: float) -> str:
    begin, end = one.began_at - began_at, one.ended_at - began_at
    recovered = one.recovered_at - began_at
    colour = COLOURS.get(one.fault.area, "#888888")
    told = f"{one.fault.number}: {one.fault.kind} {one.what}, {begin:.1f} to {end:.1f} s, well at {recovered:.1f} s"
    mark = ' stroke="red" stroke-width="2"' if one.failed else ""
    return (
        f"<g><title>{escape(told + (' FAILED ' + one.failed if one.failed else ''))}</title>"
        f'<rect x="{x_of(begin):.1f}" y="{at_y}" width="{max(1.5, x_of(recovered) - x_of(begin)):.1f}" '
        f'height="{LANE_PX}" fill="{colour}" fill-opacity="0.3"/>'
        f'<rect x="{x_of(begin):.1f}" y="{at_y}" width="{max(1.5, x_of(end) - x_of(begin)):.1f}" '
        f'height="{LANE_PX}" fill="{colour}"{mark}/></g>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#333">{escape(text)}</text>'
