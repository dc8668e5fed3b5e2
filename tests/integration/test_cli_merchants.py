"""`headgate merchants` and `headgate keys create` as processes, on real stores."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from daemon.cli import app
from daemon.errors import NotFound, UsageError
from tests.support.command import Command

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def headgate(postgres_dsn: str, redis_url: str, tmp_path: Path) -> Command:
    """The command on stores of this test's own, in development mode."""
    return Command(
        HEADGATE_POSTGRES__DSN=postgres_dsn,
        HEADGATE_REDIS__URL=redis_url,
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_MODE="development",
    )


def test_a_merchant_from_its_creation_to_its_end(headgate: Command) -> None:
    made = headgate.json("merchants", "create", "--name", "Acme Shop")
    assert str(uuid.UUID(made["merchant_id"])) == made["merchant_id"]
    assert (made["tenant"], made["name"], made["enabled"]) == ("acme-shop", "Acme Shop", True)
    assert made["api_key"].startswith("tl_test_")

    [listed] = headgate.json("merchants", "list")
    assert listed == {name: value for name, value in made.items() if name not in {"api_key", "key_id"}}
    [key] = headgate.json("keys", "list", "--merchant-id", made["merchant_id"])
    assert (key["id"], key["kind"], key["source"]) == (made["key_id"], "merchant", None)
    assert key["merchant_id"] == made["merchant_id"]
    assert key["scopes"] == ["events:write"]
    assert made["api_key"].startswith(key["prefix"])
    assert len(key["prefix"]) == len("tl_test_XXXXXX")

    assert headgate.json("merchants", "disable", made["merchant_id"])["enabled"] is False
    assert headgate.json("merchants", "list")[0]["enabled"] is False
    assert headgate.json("merchants", "enable", made["merchant_id"].upper())["enabled"] is True
    revoked = headgate.json("keys", "revoke", key["id"])
    assert revoked["revoked_at"]


def test_keys_of_both_products(headgate: Command) -> None:
    """Shown once, with id and prefix; limits and scopes as asked for; an unknown tenant is made."""
    cdp = headgate.json(
        *("keys", "create", "--kind", "cdp", "--tenant", "new", "--rate", "5", "--burst", "7"),
        *("--scope", "cdp:contracts:read", "--scope", "cdp:events:write", "--scope", "cdp:events:write"),
    )
    assert cdp["api_key"].startswith("cdp_test_")
    assert cdp["api_key"].startswith(cdp["prefix"])
    assert (cdp["kind"], cdp["tenant"], cdp["merchant_id"], cdp["source"]) == ("cdp", "new", None, None)
    assert cdp["scopes"] == ["cdp:events:write", "cdp:contracts:read"]
    assert (cdp["rate_per_s"], cdp["burst"]) == (5.0, 7)
    merchant = headgate.json("merchants", "create", "--name", "Shop")
    key = headgate.json(
        "keys", "create", "--kind", "merchant", "--merchant-id", merchant["merchant_id"], "--scope", "admin"
    )
    assert key["api_key"].startswith("tl_test_")
    assert (key["tenant"], key["merchant_id"]) == (merchant["tenant"], merchant["merchant_id"])
    assert key["scopes"] == ["admin"]

    listed = {one["id"]: one for one in headgate.json("keys", "list")}
    assert listed[cdp["id"]] == {name: value for name, value in cdp.items() if name != "api_key"}
    everything = headgate("keys", "list", "--json").stdout + headgate("keys", "list").stdout
    for secret in (cdp, merchant, key):
        assert secret["api_key"] not in everything


def test_for_people(headgate: Command) -> None:
    done = headgate("merchants", "create", "--name", "Shop")
    fields = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert fields.keys() == {"merchant_id", "tenant", "name", "enabled", "api_key"}
    assert "shown this once" in done.stderr
    head, row = headgate("merchants", "list").stdout.splitlines()
    assert head.split("\t") == ["MERCHANT", "TENANT", "NAME", "STATE", "CREATED"]
    assert row.split("\t")[:4] == [fields["merchant_id"], "shop", "Shop", "enabled"]
    key = headgate("keys", "create", "--kind", "merchant", "--merchant-id", fields["merchant_id"])
    assert "as in the settings" in key.stdout
    assert "shown this once" in key.stderr
    head, *rows = headgate("keys", "list").stdout.splitlines()
    assert "SCOPES" in head
    assert {row.split("\t")[5] for row in rows} == {fields["merchant_id"]}
    revoked = headgate("keys", "revoke", rows[0].split("\t")[0])
    assert f"merchant, {fields['merchant_id']}) is revoked" in revoked.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "cdp"), "--tenant"),
        (("--kind", "merchant"), "--merchant-id"),
        (("--kind", "pipeline", "--tenant", "a"), "'cdp', 'merchant'"),
        (("--kind", "cdp", "--tenant", "a", "--merchant-id", UNKNOWN), "takes no"),
        (("--kind", "merchant", "--merchant-id", UNKNOWN, "--tenant", "a"), "takes no"),
    ],
)
def test_called_wrongly(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["keys", "create", *arguments]) == UsageError.exit_code
    assert said in capsys.readouterr().err


def test_what_is_not_there(headgate: Command) -> None:
    for arguments in (
        ("keys", "create", "--kind", "merchant", "--merchant-id", UNKNOWN),
        ("keys", "list", "--merchant-id", UNKNOWN),
        ("merchants", "disable", UNKNOWN),
    ):
        assert UNKNOWN in headgate.error(*arguments, code=NotFound.exit_code)
