"""docs/user-data.md says of every field and every destination what the code does."""

from __future__ import annotations

import re

import pytest

from daemon.events.userdata import META, TIKTOK, Table
from daemon.events.userdata.tables import VALUES_MAX
from tests.servers.tools import ROOT

TEXT = (ROOT / "docs/user-data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
ROW = re.compile(r"^\| `([\w.]+)` \| `(\w+)` \| (\w+) \| .+? \| `(.+?)` \| `(.+?)` \|$", re.MULTILINE)


@pytest.mark.parametrize(("title", "table"), [("Meta", META), ("TikTok", TIKTOK)])
def test_the_tables_are_those_of_the_code(title: str, table: Table) -> None:
    rows = ROW.findall(SECTIONS[title])
    assert [(source, key.name, key.form.value) for key in table.keys for source in key.sources] == [
        row[:3] for row in rows
    ]
    keys = {key.name: key for key in table.keys}
    for _, name, _, example, becomes in rows:
        key = keys[name]
        assert (key.normalise(example, "") if key.by_country else key.normalise(example)) == becomes


def test_every_difference_to_the_sdk_is_listed() -> None:
    [table] = re.findall(
        r"### Where this differs from Meta's SDK\n(.*?)\nWhat the SDK answers", TEXT, re.DOTALL
    )
    listed = len(re.findall(r"^\| (?!what |---)", table, flags=re.MULTILINE))
    tests = (ROOT / "tests/unit/test_userdata_sdk.py").read_text(encoding="utf-8")
    assert listed == tests.count("\ndef test_difference_") > 20


def test_figures_are_current() -> None:
    assert f"the first {VALUES_MAX} count" in TEXT
    [told] = map(int, re.findall(r"has (\d+) user agents", TEXT))
    there = len((ROOT / "tests/unit/user_agents.tsv").read_text(encoding="utf-8").splitlines()) - 1
    assert told <= there < told + 20
