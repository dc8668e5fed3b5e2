"""`headgate webhooks` as processes, on real stores; `test` against a running instance is in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import NotFound, Unavailable, UsageError
from daemon.events.webhooks import KINDS
from tests.support.command import Command


@pytest.fixture
def headgate(postgres_dsn: str, redis_url: str, tmp_path: Path) -> Command:
    """The command on stores of this test's own."""
    return Command(
        HEADGATE_POSTGRES__DSN=postgres_dsn,
        HEADGATE_REDIS__URL=redis_url,
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_INGEST_PORT="1",
    )


@pytest.fixture
def source(headgate: Command) -> str:
    """A source's id."""
    found: str = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")["id"]
    return found


def test_a_webhook_from_its_creation_to_its_end(headgate: Command, source: str) -> None:
    made = headgate.json("webhooks", "create", "--source", source, "--kind", "stripe", "--secret", "whsec_x")
    assert made["id"].startswith("wh_")
    assert (made["secret"], made["kind"], made["name"], made["source"]) == (
        "whsec_x",
        "stripe",
        "stripe",
        source,
    )
    assert made["url"] == f"http://127.0.0.1:1/v1/webhook?source={made['id']}"
    assert made["path"] == f"/v1/webhook?source={made['id']}"
    [listed] = headgate.json("webhooks", "list")
    assert listed == {name: value for name, value in made.items() if name not in {"secret", "url", "path"}}
    assert headgate.json("webhooks", "list", "--source", "src_other") == []

    rotated = headgate.json("webhooks", "rotate", made["id"])
    assert rotated["secret"] not in {"whsec_x", None}
    assert rotated["previous_until"] > rotated["updated_at"]
    assert (
        headgate.json("webhooks", "rotate", made["id"], "--overlap", "0", "--secret", "y")["previous_until"]
        is None
    )

    assert headgate.json("webhooks", "disable", made["id"])["enabled"] is False
    assert headgate.json("webhooks", "enable", made["id"])["enabled"] is True
    assert headgate.json("webhooks", "delete", made["id"])["id"] == made["id"]
    assert headgate.json("webhooks", "list") == []


def test_for_people_there_are_fields_columns_and_advice(headgate: Command, source: str) -> None:
    done = headgate("webhooks", "create", "--source", source, "--kind", "hubspot", "--name", "crm")
    fields = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert {"id", "kind", "secret", "url", "path"} <= fields.keys()
    assert "HubSpot signs with the app's client secret" in done.stderr
    head, row = headgate("webhooks", "list").stdout.splitlines()
    assert head.split("\t")[:4] == ["ID", "KIND", "NAME", "STATE"]
    assert row.split("\t")[:4] == [fields["id"], "hubspot", "crm", "enabled"]
    assert fields["secret"] not in row
    shown = dict(
        line.split(None, 1) for line in headgate("webhooks", "rotate", fields["id"]).stdout.splitlines()
    )
    assert shown["secret"] != fields["secret"]
    assert "old secret until" in headgate("webhooks", "rotate", fields["id"], "--overlap", "2d").stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_is_a_mapping_to_create_another_with(
    headgate: Command, source: str, kind: str, tmp_path: Path
) -> None:
    signing = ("--header", "X-Sig", "--algorithm", "sha1", "--encoding", "base64", "--prefix", "v1=")
    made = headgate.json(
        "webhooks", "create", "--source", source, "--kind", kind, *(signing if kind == "custom" else ())
    )
    shown = headgate.json("webhooks", "show", made["id"])["config"]
    assert shown["mappings"]
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(shown))
    again = headgate.json("webhooks", "create", "--source", source, "--mapping", str(path))
    assert again["config"] == shown
    if kind == "custom":
        assert (shown["header"], shown["algorithm"], shown["encoding"], shown["prefix"]) == (
            "X-Sig", "sha1", "base64", "v1=",
        )  # fmt: skip
    assert json.loads(headgate("webhooks", "show", made["id"]).stdout.partition("\n\n")[2]) == shown


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"mappings": {"userId": "$.data["}}, r"mappings: userId: '$.data[' is no JSONPath"),
        ({"mappings": {"userId": "data.id"}}, "'data.id' is no JSONPath: it begins with $"),
        ({"mappings": {"user": "$.id"}}, "'user' is no place in an event"),
        ({"event_type": "$.type"}, "did you mean 'event_type_path'"),
        ({"source_type": "github"}, "--kind stripe, but"),
        ([], "does not hold an object"),
        ("text", "does not hold an object"),
        (None, "does not hold an object"),
    ],
)
def test_a_bad_mapping_is_named(
    headgate: Command, source: str, mapping: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(mapping))
    line = headgate.error(
        *("webhooks", "create", "--source", source, "--kind", "stripe", "--mapping", str(path)),
        code=UsageError.exit_code,
    )
    assert message in line
    assert headgate.json("webhooks", "list") == []


def test_what_else_goes_wrong_is_said(headgate: Command, source: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    create = ("webhooks", "create", "--source", source)
    for arguments, code, message in [
        ((*create, "--kind", "stripe", "--mapping", str(broken)), UsageError.exit_code, "is not JSON"),
        (
            (*create, "--kind", "stripe", "--mapping", "/nowhere"),
            NotFound.exit_code,
            "there is no file /nowhere",
        ),
        ((*create, "--kind", "paypal"), UsageError.exit_code, "'paypal' is none of stripe, shopify"),
        (create, UsageError.exit_code, "--kind is missing: one of stripe"),
        ((*create, "--kind", "custom"), UsageError.exit_code, "needs the name of the header"),
        ((*create, "--kind", "stripe", "--header", "X"), UsageError.exit_code, "stripe signs in its own way"),
        (
            (*create, "--kind", "custom", "--header", "X", "--algorithm", "md5"),
            UsageError.exit_code,
            "sha512",
        ),
        (("webhooks", "create", "--source", "src_no", "--kind", "stripe"), NotFound.exit_code, "src_no"),
        (("webhooks", "rotate", "wh_no"), NotFound.exit_code, "wh_no"),
        (("webhooks", "rotate", "wh_no", "--overlap", "soon"), UsageError.exit_code, "--overlap 'soon'"),
        (("webhooks", "test", "wh_no"), NotFound.exit_code, "wh_no"),
    ]:
        assert message in headgate.error(*arguments, code=code)


def test_without_an_instance_a_test_says_so(headgate: Command, source: str) -> None:
    made = headgate.json("webhooks", "create", "--source", source, "--kind", "github")
    assert "no instance answers at 127.0.0.1:1" in headgate.error(
        "webhooks", "test", made["id"], code=Unavailable.exit_code
    )
