"""The dashboard is up to date, is what Grafana imports, and asks only for what there is."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from scripts.grafana_dashboard import text
from scripts.metrics_reference import entries
from tests.servers.tools import ROOT, need

FILE = ROOT / "config/grafana/headgate.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]

ROWS = [
    "Now",
    "Traffic and outcomes",
    "Latency",
    "Durability",
    "From the log to PostgreSQL",
    "Stores",
    "Limits and keys",
    "Processes",
]


def expressions() -> list[str]:
    asked = [target["expr"] for panel in SHOWN for target in panel["targets"]]
    return asked + [one["expr"] for one in BOARD["annotations"]["list"]]


def test_file_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == text(), (
        "run: python -m scripts.grafana_dashboard > config/grafana/headgate.json"
    )


def test_it_is_a_dashboard() -> None:
    assert BOARD["schemaVersion"] >= 39
    assert (BOARD["uid"], BOARD["title"]) == ("headgate", "Headgate")
    assert "id" not in BOARD, "the id is the Grafana's that imports it"
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == ROWS
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))


def test_every_panel_takes_the_data_source_and_the_instances_that_are_chosen() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["instance"]["multi"] is True
    for panel in SHOWN:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for expr in expressions():
        selectors = len(re.findall(r"headgate_\w+", expr))
        assert expr.count('instance=~"$instance"') == selectors, expr


def test_every_panel_says_what_it_shows() -> None:
    for panel in SHOWN:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
        assert panel["fieldConfig"]["defaults"]["unit"]
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None, "the first step is from minus infinity on"
        assert "HERE" not in json.dumps(panel)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells


def test_it_shows_every_metric_that_there_is_and_no_other() -> None:
    known = {name: entry for entry in entries() for name in entry.samples}
    used = {name for expr in expressions() for name in re.findall(r"headgate_\w+", expr)}
    assert used - known.keys() == set()
    assert {entry.name for entry in entries()} - {known[name].name for name in used} == set()


def test_expressions_are_promql(tmp_path: Path) -> None:
    rules = []
    for number, expr in enumerate(expressions()):
        asked = expr.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$instance", ".*")
        rules.append({"record": f"panel:{number}", "expr": asked})
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [need("promtool"), "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
