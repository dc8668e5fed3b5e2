"""`headgate sources` and `keys` as processes, on real stores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from redis import Redis

from daemon.adapters.keystore.shared import read_announcement
from daemon.errors import NotFound, SettingsError, StoreUnavailable, UsageError
from tests.support.command import Command


@pytest.fixture
def headgate(postgres_dsn: str, redis_url: str, tmp_path: Path) -> Command:
    """The command on stores of this test's own, in development mode."""
    return Command(
        HEADGATE_POSTGRES__DSN=postgres_dsn,
        HEADGATE_REDIS__URL=redis_url,
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_MODE="development",
    )


def test_a_source_from_its_creation_to_its_end(headgate: Command) -> None:
    made = headgate.json(
        *("sources", "create", "--tenant", "acme", "--name", "shop"),
        *("--origin", "https://WWW.Acme.com:443", "--origin", "https://*.acme.com"),
        *("--rate", "50", "--burst", "75", "--cookie-domain", ".acme.com"),
    )
    assert made["id"].startswith("src_")
    assert made["pipeline_key"].startswith("dk_test_")
    assert made["secret_key"].startswith("sk_")
    assert (made["tenant"], made["name"], made["enabled"]) == ("acme", "shop", True)
    assert made["origins"] == ["https://www.acme.com", "https://*.acme.com"]
    assert (made["rate_per_s"], made["burst"], made["cookie_domain"]) == (50.0, 75, ".acme.com")

    [listed] = headgate.json("sources", "list")
    assert listed == {name: value for name, value in made.items() if not name.endswith("_key")}

    updated = headgate.json(
        "sources", "update", made["id"], "--name", "store", "--default-limits", "--no-origins"
    )
    assert (updated["name"], updated["rate_per_s"], updated["burst"], updated["origins"]) == (
        "store",
        None,
        None,
        [],
    )
    assert updated["cookie_domain"] == ".acme.com"
    assert headgate.json("sources", "update", made["id"], "--host-only-cookies")["cookie_domain"] is None

    assert headgate.json("sources", "disable", made["id"])["enabled"] is False
    assert [source["enabled"] for source in headgate.json("sources", "list")] == [False]
    assert headgate.json("sources", "update", made["id"], "--enable")["enabled"] is True
    headgate("sources", "disable", made["id"])
    assert headgate.json("sources", "enable", made["id"])["enabled"] is True


def test_for_people_a_new_source_is_a_list_of_fields_and_a_pipe_gets_columns(headgate: Command) -> None:
    done = headgate("sources", "create", "--tenant", "acme", "--name", "shop")
    fields = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert {"id", "tenant", "name", "pipeline_key", "secret_key"} <= fields.keys()
    assert "shown this once" in done.stderr
    head, row = headgate("sources", "list").stdout.splitlines()
    assert head.split("\t")[:4] == ["ID", "TENANT", "NAME", "STATE"]
    assert row.split("\t")[:4] == [fields["id"], "acme", "shop", "enabled"]
    assert fields["secret_key"] not in headgate("keys", "list").stdout


def test_keys_are_listed_with_their_source_and_never_in_clear(headgate: Command) -> None:
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")
    other = headgate.json("sources", "create", "--tenant", "acme", "--name", "blog")
    keys = headgate.json("keys", "list", "--source", made["id"])
    assert {key["kind"] for key in keys} == {"pipeline", "secret"}
    assert {key["source"] for key in keys} == {made["id"]}
    assert all(made[f"{key['kind']}_key"].startswith(key["prefix"]) for key in keys)
    everything = headgate("keys", "list", "--json").stdout
    for source in (made, other):
        assert source["pipeline_key"] not in everything
        assert source["secret_key"] not in everything


@pytest.mark.parametrize("named", ["id", "prefix", "whole key", "as the table shows it"])
def test_a_key_is_revoked_by_whatever_names_it(named: str, headgate: Command) -> None:
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")
    [key] = [key for key in headgate.json("keys", "list") if key["kind"] == "pipeline"]
    name = {
        "id": key["id"],
        "prefix": key["prefix"],
        "whole key": made["pipeline_key"],
        "as the table shows it": f"{key['prefix']}…",
    }[named]
    revoked = headgate.json("keys", "revoke", name)
    assert revoked["id"] == key["id"]
    assert revoked["revoked_at"]
    after = {one["id"]: one["revoked_at"] for one in headgate.json("keys", "list")}
    assert [name for name, at in after.items() if at] == [key["id"]]
    assert headgate.json("keys", "revoke", key["id"])["revoked_at"] == revoked["revoked_at"]


@pytest.mark.parametrize("change", [("sources", "disable"), ("keys", "revoke")])
def test_a_change_is_announced_to_the_frontends_at_once(
    change: tuple[str, str], headgate: Command, redis_url: str
) -> None:
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")
    [key] = [key for key in headgate.json("keys", "list") if key["kind"] == "pipeline"]
    with Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe("hg:k:changes")
        while not client.pubsub_numsub("hg:k:changes")[0][1]:
            news.get_message(timeout=0.1)
        headgate(*change, made["id"] if change[0] == "sources" else key["id"])
        message = None
        while message is None:
            message = news.get_message(timeout=5.0)
    assert [one.source_id for one in read_announcement(message["data"])] == [made["id"]]


def test_without_redis_a_change_is_made_and_the_delay_is_told(headgate: Command) -> None:
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")
    done = headgate.with_(HEADGATE_REDIS__URL="redis://127.0.0.1:1")(
        "sources", "disable", made["id"], "--json"
    )
    assert '"enabled": false' in done.stdout
    assert "headgate: note: Redis is away" in done.stderr


def test_what_is_not_there_is_named_and_66(headgate: Command) -> None:
    for arguments in (
        ("sources", "disable", "src_nothing"),
        ("sources", "update", "src_nothing", "--rate", "5"),
        ("keys", "revoke", "key_nothing"),
        ("keys", "list", "--source", "src_nothing"),
        ("tail", "--source", "no such shop"),
    ):
        text = headgate.error(*arguments, code=NotFound.exit_code)
        assert ("nothing" in text) or ("no such shop" in text)
        assert "list" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--origin", "www.acme.com"), "https://"),
        (("--origin", "https://acme.com/path"), "origin"),
        (("--origin", "ftp://acme.com"), "http or https"),
        (("--rate", "0"), "rate"),
        (("--rate", "nan"), "rate"),
        (("--burst", "0"), "burst"),
        (("--cookie-domain", "localhost"), "cookie domain"),
        (("--tenant", " "), "tenant"),
    ],
)
def test_values_that_do_not_fit_are_64_and_make_nothing(
    arguments: tuple[str, str], said: str, headgate: Command
) -> None:
    text = headgate.error("sources", "create", "--tenant", "acme", "--name", "shop", *arguments, code=64)
    assert said in text
    assert headgate.json("sources", "list") == []


def test_an_update_says_what_it_is_to_change_and_does_not_contradict_itself(headgate: Command) -> None:
    assert "nothing to change" in headgate.error("sources", "update", "src_x", code=64)
    for both in (
        ("--rate", "5", "--default-limits"),
        ("--origin", "https://a.com", "--no-origins"),
        ("--cookie-domain", "a.com", "--host-only-cookies"),
    ):
        assert "not both" in headgate.error("sources", "update", "src_x", *both, code=64)


def test_a_prefix_of_several_keys_names_them_and_revokes_none(headgate: Command) -> None:
    for name in ("shop", "blog"):
        headgate("sources", "create", "--tenant", "acme", "--name", name)
    text = headgate.error("keys", "revoke", "dk_test_", code=UsageError.exit_code)
    keys = headgate.json("keys", "list")
    assert all(key["id"] in text for key in keys if key["kind"] == "pipeline")
    assert not any(key["revoked_at"] for key in keys)


def test_a_database_that_is_away_or_unusable_is_told_without_its_password(headgate: Command) -> None:
    away = headgate.with_(HEADGATE_POSTGRES__DSN="postgresql://u:topsecret@127.0.0.1:1/d")
    text = away.error("sources", "list", code=StoreUnavailable.exit_code)
    assert "PostgreSQL" in text
    assert "topsecret" not in text
    bad = headgate.with_(HEADGATE_POSTGRES__DSN="nonsense://u:topsecret@h/d")
    assert "topsecret" not in bad.error("keys", "list", code=SettingsError.exit_code)


def test_without_an_instance_a_command_brings_its_own_servers_and_two_at_once_take_turns(
    tmp_path: Path,
) -> None:
    headgate = Command(HEADGATE_DATA_DIR=str(tmp_path / "data"))
    both = [
        headgate.start("sources", "create", "--tenant", "acme", "--name", name, "--json")
        for name in ("one", "two")
    ]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)
    assert {source["name"] for source in headgate.json("sources", "list")} == {"one", "two"}
    # Nothing is left running, and nothing says so.
    assert not (tmp_path / "data" / "run.json").exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""
