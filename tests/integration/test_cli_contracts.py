"""`headgate contracts` as a process, on real stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import NotFound, Unavailable, UsageError
from tests.support.cdp import PURCHASE, TYPE
from tests.support.command import Command

REFUND: dict[str, Any] = {"properties": {"order_id": {"type": "string"}}, "additionalProperties": "allow"}
TOML = """
[purchase_completed]
additionalProperties = "reject"

[purchase_completed.properties]
order_id = {type = "string", required = true}
amount = {type = "number"}
"a.b" = {type = "datetime"}
"""


@pytest.fixture
def headgate(postgres_dsn: str, redis_url: str, tmp_path: Path) -> Command:
    """The command on stores of this test's own."""
    return Command(
        HEADGATE_POSTGRES__DSN=postgres_dsn, HEADGATE_REDIS__URL=redis_url, HEADGATE_DATA_DIR=str(tmp_path)
    )


def written(folder: Path, contracts: Any, name: str = "contracts.json") -> str:
    path = folder / name
    path.write_text(contracts if isinstance(contracts, str) else json.dumps(contracts), encoding="utf-8")
    return str(path)


def test_from_the_first_file_to_the_third(headgate: Command, tmp_path: Path) -> None:
    first = written(tmp_path, {TYPE: PURCHASE, "refund": REFUND})
    tenant = ("--tenant", "acme")
    told = headgate.json("contracts", "diff", first, *tenant)
    assert told["breaking"] is False
    assert told["untouched"] == []
    assert [(one["eventType"], one["version"]) for one in told["differences"]] == [
        (TYPE, None),
        ("refund", None),
    ]
    assert headgate("contracts", "diff", first, *tenant, "--exit-code", code=1).stdout.startswith(TYPE)

    done = headgate.json("contracts", "apply", first, *tenant)
    assert [(one["eventType"], one["state"], one["version"]) for one in done["contracts"]] == [
        (TYPE, "created", 1),
        ("refund", "created", 1),
    ]
    assert headgate.json("contracts", "diff", first, *tenant)["differences"] == []
    assert headgate("contracts", "diff", first, *tenant, "--exit-code").stdout == ""
    assert {one["state"] for one in headgate.json("contracts", "apply", first, *tenant)["contracts"]} == {
        "unchanged"
    }

    second = written(tmp_path, TOML, "contracts.toml")
    told = headgate.json("contracts", "diff", second, *tenant)
    assert (told["breaking"], told["untouched"]) == (True, ["refund"])
    [only] = told["differences"]
    assert (only["eventType"], only["version"]) == (TYPE, 1)
    assert {"kind": "added", "path": "properties.a.b", "text": "properties.a.b (datetime, optional)",
            "breaking": False} in only["changes"]  # fmt: skip
    assert {"kind": "changed", "path": "properties.amount.required", "text": "properties.amount: required → optional",
            "breaking": False} in only["changes"]  # fmt: skip
    assert {"kind": "removed", "path": "properties.gift", "text": "properties.gift (boolean, optional)",
            "breaking": True} in only["changes"]  # fmt: skip
    shown = headgate("contracts", "diff", second, *tenant).stdout
    assert f"{TYPE} (version 1)\n" in shown
    assert "  - properties.gift (boolean, optional) (breaking)\n" in shown
    assert "  + properties.a.b (datetime, optional)\n" in shown
    done_ = headgate("contracts", "apply", second, *tenant)
    head, row = done_.stdout.splitlines()
    assert head.split("\t") == ["EVENT TYPE", "STATE", "VERSION", "CHANGES"]
    assert row.split("\t")[:3] == [TYPE, "changed", "2"]
    assert f"events that were good may be refused now: {TYPE}" in done_.stderr

    listed = headgate.json("contracts", "list", *tenant)
    assert [(one["eventType"], one["version"]) for one in listed] == [(TYPE, 2), ("refund", 1)]
    assert listed[0]["properties"]["a.b"] == {"type": "datetime", "required": False}
    lines = [line.split("\t") for line in headgate("contracts", "list", *tenant).stdout.splitlines()]
    assert [one[0] for one in lines] == ["EVENT TYPE", TYPE, "refund"]
    assert lines[1][-1] == "order_id:string amount:number? a.b:datetime?"


def test_tenants(headgate: Command, tmp_path: Path) -> None:
    file = written(tmp_path, {TYPE: REFUND})
    assert "there is no tenant 'acme'" in headgate.error(
        "contracts", "list", "--tenant", "acme", code=NotFound.exit_code
    )
    headgate("contracts", "apply", file, "--tenant", "acme")
    headgate("sources", "create", "--tenant", "other", "--name", "shop")
    assert headgate.json("contracts", "list", "--tenant", "other") == []
    assert headgate.json("contracts", "diff", file, "--tenant", "nobody")["differences"]
    assert len(headgate.json("contracts", "list", "--tenant", "acme")) == 1
    for bad in ("a/b", "", " ", "\udcff", "x" * 101):
        for args in (("apply", file), ("diff", file), ("list",)):
            headgate.error("contracts", *args, "--tenant", bad, code=UsageError.exit_code)
    headgate.error("contracts", "apply", file, code=UsageError.exit_code)
    assert headgate.json("contracts", "apply", written(tmp_path, {}), "--tenant", "acme")["contracts"] == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.json", "{", "is not JSON"),
        ("c.json", "", "is not JSON"),
        ("c.json", "[]", "does not hold an object"),
        ("c.json", TOML, "is not JSON"),
        ("c.toml", "a = ", "is not TOML"),
        ("c.toml", "a = " + "9" * 5000, "is not TOML"),
        ("c.toml", "a = " + "[" * 5000, "nested too deep"),
        ("c.json", "[" * 5000, "nested too deep"),
        ("c.toml", "[a.properties]\nb = 2026-01-01", "'a': properties.b must be an object"),
        ("c.json", '{"a": {}}', "'a': properties is required"),
        ("c.json", '{"a": {"properties": {"b": {"type": "text"}}}}', "'a': properties.b.type must be one of"),
        ("c.json", '{"": {"properties": {}}}', "eventType must not be empty"),
        ("c.json", '{"a": 1}', "'a': the contract must be an object, not a number"),
        ("c.json", "{" + ",".join(f'"{n}": 0' for n in range(1001)) + "}", "at most 1000"),
    ],
)
def test_files_that_are_none(headgate: Command, tmp_path: Path, name: str, text: str, says: str) -> None:
    file = written(tmp_path, text, name)
    for what in ("apply", "diff"):
        message = headgate.error("contracts", what, file, "--tenant", "acme", code=UsageError.exit_code)
        assert file in message
        assert says in message


def test_a_file_or_a_server_that_is_not_there(headgate: Command, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.json")
    assert missing in headgate.error(
        "contracts", "apply", missing, "--tenant", "acme", code=NotFound.exit_code
    )
    away = headgate.with_(HEADGATE_POSTGRES__DSN="postgresql://127.0.0.1:1/none")
    file = written(tmp_path, {})
    away.error("contracts", "apply", file, "--tenant", "acme", code=Unavailable.exit_code)
