from __future__ import annotations

import os

import msgspec
import pytest

from daemon.config.schema import Settings
from daemon.errors import SettingsError
from daemon.roles import EMBEDDED, FRONTEND, PROCESSOR, PUBLISHER, ROLES
from daemon.supervisor.plan import Plan, changed_keys, check_limits, count_of, rollable


def settings(**sections: dict[str, object]) -> Settings:
    return msgspec.convert(sections, Settings)


def test_counts_follow_the_settings() -> None:
    assert count_of(FRONTEND, settings()) == len(os.sched_getaffinity(0))
    assert count_of(FRONTEND, settings(frontend={"count": 3})) == 3
    assert count_of(PUBLISHER, settings(publisher={"count": 2})) == 2
    assert count_of(PROCESSOR, settings(processor={"count": 0})) == 0


@pytest.mark.parametrize(
    ("dsn", "url", "count"), [("", "", 1), ("pg", "", 1), ("", "re", 1), ("pg", "re", 0)]
)
def test_embedded_servers_run_while_one_address_is_missing(dsn: str, url: str, count: int) -> None:
    assert count_of(EMBEDDED, settings(postgres={"dsn": dsn}, redis={"url": url})) == count


def test_only_the_embedded_process_sees_what_is_not_resolved() -> None:
    asked = []

    def resolve(given: Settings) -> Settings:
        asked.append(given)
        return msgspec.structs.replace(
            given, postgres=msgspec.structs.replace(given.postgres, dsn="pg://run")
        )

    plan = Plan(settings(), ROLES, resolve)
    embedded = plan.setup(EMBEDDED, 0, -1, [])
    assert msgspec.json.decode(embedded.settings, type=Settings).postgres.dsn == ""
    assert not asked, "the embedded servers are not there yet"
    for _ in range(2):
        frontend = plan.setup(FRONTEND, 0, 3, ["/q"])
        assert msgspec.json.decode(frontend.settings, type=Settings).postgres.dsn == "pg://run"
    assert len(asked) == 1


def test_what_the_supervisor_hangs_on_stays_and_is_named() -> None:
    old = settings(server={"ingest_port": 8080}, limits={"burst": 10})
    new = settings(server={"ingest_port": 9999, "drain_limit_s": 3.0}, limits={"burst": 20})
    merged, fixed = rollable(old, new)
    assert fixed == ["server.ingest_port"]
    assert merged.server.ingest_port == 8080
    assert (merged.server.drain_limit_s, merged.limits.burst) == (3.0, 20)


def test_a_store_may_move_but_not_between_ours_and_the_operators() -> None:
    external, other, embedded = (settings(redis={"url": url}) for url in ("redis://a", "redis://b", ""))
    assert rollable(external, other) == (other, [])
    assert rollable(embedded, external) == (embedded, ["redis.url"])
    assert rollable(external, embedded) == (external, ["redis.url"])


def test_changes_are_named_without_their_values() -> None:
    old, new = settings(), settings(postgres={"dsn": "postgresql://u:secret@h/d"}, limits={"burst": 7})
    assert changed_keys(old, new) == ["limits.burst", "postgres.dsn"]


def test_more_frontends_than_connections_is_refused() -> None:
    with pytest.raises(SettingsError, match="connections_max = 16") as refused:
        check_limits(
            Plan(settings(frontend={"count": 17}, server={"connections_max": 16}), ROLES, lambda one: one)
        )
    assert refused.value.key == "server.connections_max"
