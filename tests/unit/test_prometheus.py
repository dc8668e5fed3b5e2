"""The scrape settings, rules and alerts are accepted by promtool, tested, and name only metrics that exist."""

from __future__ import annotations

import re
import subprocess

import pytest

from scripts.metrics_reference import entries
from tests.servers.tools import ROOT, need

FOLDER = ROOT / "config/prometheus"
RULES = (FOLDER / "rules.yml").read_text("utf-8")
RULES_TEST = (FOLDER / "rules_test.yml").read_text("utf-8")

ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE)
RECORDS = re.findall(r"^ +- record: (\S+)$", RULES, re.MULTILINE)

#: A name in an expression; recorded ones have colons in them.
NAME = re.compile(r"(?<![\w:])(?:[a-z_]+:)?headgate_\w+(?::\w+)*")
SELECTOR = re.compile(r"(headgate_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"')

#: Labels that are not in the catalogue: Prometheus' own and the supervisor's.
ADDED = {"instance", "job", "role", "slot", "le"}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [need("promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_config() -> None:
    said = promtool("check", "config", "config/prometheus/prometheus.yml")
    assert "1 rule files found" in said
    assert f"{len(ALERTS) + len(RECORDS)} rules found" in said


def test_rules() -> None:
    assert f"{len(ALERTS) + len(RECORDS)} rules found" in promtool(
        "check", "rules", "config/prometheus/rules.yml"
    )


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "config/prometheus/rules_test.yml")


def test_every_alert_is_tested() -> None:
    assert len(ALERTS) == len(set(ALERTS)) > 20
    assert [name for name in ALERTS if f'alertname="{name}"' not in RULES_TEST] == []


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    blocks = re.split(r"^ +- alert: ", RULES, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(ALERTS)
    for block in blocks:
        for part in ("severity: (critical|warning)", 'summary: ".+"', "description: >-", "action: >-"):
            assert re.search(part, block), f"{block.split()[0]} lacks {part}"


@pytest.mark.parametrize("text", [RULES, RULES_TEST], ids=["rules", "tests"])
def test_every_metric_exists(text: str) -> None:
    known = {name for entry in entries() for name in entry.samples} | set(RECORDS)
    # groups are called headgate_… too, and the names of alerts and files are none of ours
    groups = set(re.findall(r"^ +- name: (headgate_\w+)$", text, re.MULTILINE))
    used = set(NAME.findall(text)) - groups
    assert len(used) > 20
    assert used - known == set()


@pytest.mark.parametrize("text", [RULES, RULES_TEST], ids=["rules", "tests"])
def test_every_label_and_its_values_exist(text: str) -> None:
    by_sample = {name: entry for entry in entries() for name in entry.samples}
    seen = 0
    for name, inside in SELECTOR.findall(text):
        entry = by_sample[name]
        for label, _, wanted in MATCHER.findall(inside):
            if label in ADDED:
                continue
            seen += 1
            assert label == entry.label, f"{name} has no label {label}"
            assert set(wanted.split("|")) <= set(entry.values), f"{name}: {label}={wanted}"
    assert seen >= 5
