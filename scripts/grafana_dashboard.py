"""
`python -m scripts.grafana_dashboard` prints `config/grafana/headgate.json`: the dashboard, ready to import.

Forty panels of JSON are nothing to write by hand: what they show is in `scripts/grafana_panels.py`, and the
rest follows. A test fails when the file is behind, when an expression is no PromQL, or when it names a
metric that the catalogue does not have.

The JSON is Grafana's classic model, which every version from 10 on imports (13 shows it as V2 by itself).
"""

from __future__ import annotations

import json
from typing import Any

from scripts.grafana_panels import COLUMNS, ROWS, Ask, Panel

#: Grafana 12.2 and later; older ones ignore what they do not know.
SCHEMA_VERSION = 42

HEIGHT = 8

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'instance=~"$instance"'

Json = dict[str, Any]


def dashboard() -> Json:
    """The whole dashboard."""
    return {
        "uid": "headgate",
        "title": "Headgate",
        "description": "Events in, durable envelopes out: traffic, latency, durability, stores and processes.",
        "tags": ["headgate"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "links": [],
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "panels": _panels(),
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def _variables() -> list[Json]:
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "current": {},
        },
        {
            "name": "instance",
            "label": "Headgate",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": "label_values(headgate_ready, instance)", "refId": "instance"},
            "definition": "label_values(headgate_ready, instance)",
            "refresh": 2,
            "sort": 1,
            "hide": 0,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "options": [],
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _annotations() -> list[Json]:
    events = (
        (
            "Crashes",
            "red",
            "sum by (role) (changes(headgate_slot_restarts_total{HERE}[$__interval])) > 0",
            "{{role}}",
        ),
        (
            "Reloads",
            "blue",
            "sum by (result) (changes(headgate_rolls_total{HERE}[$__interval])) > 0",
            "{{result}}",
        ),
    )
    return [
        {
            "name": name,
            "datasource": _DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": colour,
            "expr": expr.replace("HERE", _HERE),
            "titleFormat": name,
            "textFormat": words,
            "step": "30s",
        }
        for name, colour, expr, words in events
    ]


def _panels() -> list[Json]:
    """Rows one below the other; in a row, panels from left to right, as many as fit."""
    made: list[Json] = []
    y = 0
    for title, panels in ROWS:
        made.append({
            "id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        })  # fmt: skip
        y, x, height = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + height
            height = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
            x += panel.width
        y += height
    return made


def _panel(panel: Panel) -> Json:
    heatmap = panel.kind == "heatmap"
    targets = [
        _target(ask, chr(ord("A") + number), heatmap=heatmap, instant=panel.kind == "stat")
        for number, ask in enumerate(panel.asks)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _target(ask: Ask, ref: str, *, heatmap: bool, instant: bool) -> Json:
    return {
        "refId": ref,
        "datasource": _DATASOURCE,
        "expr": ask.expr.replace("HERE", _HERE),
        "legendFormat": ask.legend or "__auto",
        "editorMode": "code",
        "range": not instant,
        "instant": instant,
        "format": "heatmap" if heatmap else "time_series",
    }


def _defaults(panel: Panel) -> Json:
    steps = panel.steps or ((None, "green"),)
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.steps else "palette-classic"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in steps],
        },
        "mappings": [
            {"type": "value", "options": {value: {"text": words, "color": colour, "index": number}}}
            for number, (value, words, colour) in enumerate(panel.mappings)
        ],
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        if not panel.log:
            defaults["min"] = 0
        if panel.max is not None:
            defaults["max"] = panel.max
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            # From half a millisecond to seconds: only a logarithm shows both ends.
            "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        }
    if panel.kind == "state-timeline":
        defaults["custom"] = {"fillOpacity": 70, "lineWidth": 0}
    return defaults


_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["mean", "max", "lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value",
    },
    "state-timeline": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.8,
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange", "reverse": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    },
}  # fmt: skip


if __name__ == "__main__":
    print(text(), end="")
