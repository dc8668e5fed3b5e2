"""Sources, keys, the schema and the demo credentials on a real PostgreSQL (and Valkey)."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.adapters.postgres import checks
from daemon.adapters.postgres.demo import EVENT_TYPE, ensure_demo
from daemon.adapters.postgres.migrate import migrate, migrations
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.sealing import Sealer, load_sealer
from daemon.config.schema import Postgres
from daemon.errors import HeadgateError, NotFound, SettingsError, StoreUnavailable, UsageError
from tests.support.catalog import KEY, running_catalog
from tests.support.stores import settings_for


@asynccontextmanager
async def running_pool(dsn: str, pool_max: int = 4) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(settings_for(postgres_dsn=dsn, postgres__pool_max=pool_max).postgres)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def test_many_processes_migrate_at_once(postgres_dsn: str) -> None:
    async with running_pool(postgres_dsn, pool_max=8) as pool:
        newest = len(migrations())
        assert await asyncio.gather(*(migrate(pool) for _ in range(8))) == [newest] * 8
        rows = await pool.fetch("SELECT version FROM headgate_schema ORDER BY version")
        assert [row["version"] for row in rows] == list(range(1, newest + 1))


async def test_a_newer_schema_is_refused(postgres_dsn: str) -> None:
    async with running_pool(postgres_dsn) as pool:
        await migrate(pool)
        await pool.fetch("INSERT INTO headgate_schema (version, name) VALUES (99, 'future')")
        with pytest.raises(SettingsError, match=r"schema 99.*newer Headgate") as caught:
            await migrate(pool)
        assert caught.value.exit_code == 78


async def test_a_failed_migration_leaves_nothing(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.adapters.postgres import migrate as module

    good = migrations()
    bad = module.Migration(len(good) + 1, "bad", "CREATE TABLE half (); SELECT no_such_function()")
    async with running_pool(postgres_dsn) as pool:
        monkeypatch.setattr(module, "migrations", lambda: [*good, bad])
        with pytest.raises(Exception, match="no_such_function"):
            await migrate(pool)
        monkeypatch.undo()
        assert await migrate(pool) == len(good)
        assert (await pool.fetch("SELECT to_regclass('half') AS half"))[0]["half"] is None


async def test_a_source_is_created_with_both_keys_shown_once(postgres_dsn: str) -> None:
    async with running_catalog(postgres_dsn) as catalog:
        created = await catalog.create_source(
            "acme",
            "Web shop",
            ["HTTPS://Shop.Example.com:443/", "https://*.example.com"],
            50,
            100,
            ".Example.com",
        )
        source = created.source
        assert source.id.startswith("src_")
        assert (source.tenant, source.name, source.enabled, source.version) == ("acme", "Web shop", True, 1)
        assert source.origins == ("https://shop.example.com", "https://*.example.com")
        assert (source.rate_per_s, source.burst, source.cookie_domain) == (50.0, 100, ".example.com")
        assert created.pipeline_key.startswith("dk_live_")
        assert created.secret_key.startswith("sk_")
        assert await catalog.list_sources() == [source]
        assert await catalog.secret_of(source.id) == created.secret_key
        rows = await catalog._pool.fetch("SELECT t::text AS row FROM (SELECT * FROM keys, sources) t")
        everything = " ".join(row["row"] for row in rows)
        assert created.pipeline_key not in everything
        assert created.secret_key not in everything
        assert created.secret_key.encode().hex() not in everything
        keys = {key.kind: key for key in await catalog.list_keys()}
        assert keys["pipeline"].prefix == created.pipeline_key[:12]
        assert keys["secret"].prefix == created.secret_key[:7]
        assert {key.source_id for key in keys.values()} == {source.id}


async def test_a_source_changes_and_its_version_grows(postgres_dsn: str) -> None:
    async with running_catalog(postgres_dsn) as catalog:
        created = await catalog.create_source("acme", "a")
        changed = await catalog.update_source(
            created.source.id,
            name="b",
            origins=["http://localhost:3000"],
            rate=2.5,
            burst=3,
            cookie_domain="a.com",
        )
        assert (changed.name, changed.origins, changed.rate_per_s, changed.burst, changed.cookie_domain) == (
            "b", ("http://localhost:3000",), 2.5, 3, "a.com",
        )  # fmt: skip
        assert changed.version == 2
        back = await catalog.update_source(
            created.source.id, rate=None, burst=None, cookie_domain=None, origins=None
        )
        assert (back.rate_per_s, back.burst, back.cookie_domain, back.origins) == (None, None, None, ())
        assert not (await catalog.disable_source(created.source.id)).enabled
        assert (await catalog.enable_source(created.source.id)).enabled
        with pytest.raises(UsageError, match="'colour'"):
            await catalog.update_source(created.source.id, colour="red")
        with pytest.raises(NotFound, match="src_none"):
            await catalog.update_source("src_none", name="x")


async def test_keys_are_revoked_by_id_prefix_or_themselves(postgres_dsn: str) -> None:
    async with running_catalog(postgres_dsn) as catalog:
        one = await catalog.create_source("acme", "a")
        two = await catalog.create_source("acme", "b")
        with pytest.raises(UsageError, match=r"fits 2 keys: key_.*key_.*by its id"):
            await catalog.revoke_key("dk_live_")
        with pytest.raises(NotFound, match="no key 'dk_live_nope'"):
            await catalog.revoke_key("dk_live_nope")
        with pytest.raises(UsageError):
            await catalog.revoke_key(" ")
        revoked = await catalog.revoke_key(one.pipeline_key[:12])
        assert revoked.revoked_at is not None
        # The only one left with that beginning.
        assert (await catalog.revoke_key("dk_live_")).source_id == two.source.id
        again = await catalog.revoke_key(revoked.id)
        assert again.revoked_at == revoked.revoked_at
        secret = await catalog.revoke_key(one.secret_key)
        assert secret.kind == "secret"
        assert await catalog.secret_of(one.source.id) is None
        assert await catalog.secret_of(two.source.id) == two.secret_key


async def test_every_change_is_numbered_without_gaps(postgres_dsn: str) -> None:
    async with running_catalog(postgres_dsn) as catalog:
        await asyncio.gather(*(catalog.create_source("acme", f"s{n}") for n in range(20)))
        rows = await catalog._pool.fetch(
            "SELECT seq, (SELECT seq FROM catalog_state) AS newest FROM changes ORDER BY 1"
        )
        assert [row["seq"] for row in rows] == list(range(1, rows[0]["newest"] + 1))


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://Example.COM", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("https://example.com:8443/", "https://example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("https://*.shop.example.com", "https://*.shop.example.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_origins_are_brought_into_their_normal_form(given: str, normal: str) -> None:
    assert checks.origin(given) == normal


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("example.com", "begins with https://"),
        ("*", "begins with https://"),
        ("ftp://example.com", "http or https"),
        ("https://", "host is missing"),
        ("https://example.com/path", "no user or path"),
        ("https://user@example.com", "no user or path"),
        ("https://example.com:0", "no port"),
        ("https://example.com:70000", "no port"),
        ("https://*", "part of a host name|whole first label"),
        ("https://*.com", "two labels"),
        ("https://a.*.com", "whole first label"),
        ("https://exa mple.com", "part of a host name"),
        ("https://-a.com", "part of a host name"),
        ("https://1.2.3", "neither a name nor an IPv4"),
        ("http://[::g]", "no user or path|no IPv6"),
    ],
)
def test_bad_origins_are_refused_with_the_reason(given: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        checks.origin(given)


@pytest.mark.parametrize(
    "bad", ["https://a.com", "a.com:80", "localhost", "127.0.0.1", "a..com", "a b.com", "com"]
)
def test_bad_cookie_domains_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cookie domain"):
        checks.cookie_domain(bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), True])
def test_bad_rates_are_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="rate"):
        checks.rate(bad)


@pytest.mark.parametrize("bad", [0, -5, 1.5, True, 2**60])
def test_bad_bursts_are_refused(bad: int) -> None:
    with pytest.raises(UsageError, match="burst"):
        checks.burst(bad)


def test_rates_and_bursts_have_no_hidden_cap() -> None:
    assert checks.rate(5e7) == 5e7
    assert checks.burst(10**9) == 10**9
    assert [checks.rate(None), checks.burst(None), checks.cookie_domain("")] == [None] * 3


@pytest.mark.parametrize("bad", ["", " a", "a/b", "a\nb", "x" * 101])
def test_bad_names_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="tenant"):
        checks.name(bad, "tenant")


async def test_the_demo_is_made_once(postgres_dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / "credentials.json"
    async with running_catalog(postgres_dsn) as catalog:
        made = await asyncio.gather(*(ensure_demo(catalog, path.parent, "development") for _ in range(4)))
        assert len(set(made)) == 1
        demo = made[0]
        assert json.loads(path.read_text()) == {
            "sources": [
                {
                    "id": demo.source.id,
                    "tenant": "demo",
                    "pipeline_key": demo.source.pipeline_key,
                    "secret_key": demo.source.secret_key,
                }
            ],
            "cdp_keys": [
                {
                    "tenant": "demo",
                    "api_key": demo.cdp_key.api_key,
                    "scopes": ["cdp:events:write", "cdp:contracts:write", "cdp:contracts:read"],
                }
            ],
            "merchants": [
                {
                    "merchant_id": demo.merchant.merchant_id,
                    "tenant": "demo",
                    "api_key": demo.merchant.api_key,
                }
            ],
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [source.id for source in await catalog.list_sources()] == [demo.source.id]
        assert (await catalog.get_source(demo.source.id)).origins
        [merchant] = await catalog.merchants.list()
        assert (merchant.merchant_id, merchant.tenant) == (demo.merchant.merchant_id, "demo")
        keys = {key.kind: key for key in await catalog.list_keys()}
        assert len(keys) == 4
        assert demo.cdp_key.api_key.startswith(f"{keys['cdp'].prefix}")
        assert keys["merchant"].scopes == ("events:write",)
        assert [one.eventType for one in await catalog.contracts.in_force("demo")] == [EVENT_TYPE]
        # A revoked demo key stays revoked.
        for token in (demo.source.pipeline_key, demo.cdp_key.api_key, demo.merchant.api_key):
            await catalog.revoke_key(token)
        assert await ensure_demo(catalog, path.parent, "development") == demo
        # Neither does a contract come back that somebody has deleted.
        await catalog.contracts.delete("demo", EVENT_TYPE)
        await ensure_demo(catalog, path.parent, "development")
        assert await catalog.contracts.in_force("demo") == []


async def test_a_lost_credentials_file_gets_new_keys(
    postgres_dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "credentials.json"
    async with running_catalog(postgres_dsn) as catalog:
        old = await ensure_demo(catalog, tmp_path, "production")
        path.write_text("{ not json")
        new = await ensure_demo(catalog, tmp_path, "production")
        assert new.source.id == old.source.id
        assert new.source.pipeline_key != old.source.pipeline_key
        assert "was lost" in caplog.text
        assert await catalog.secret_of(new.source.id) == new.source.secret_key
        assert json.loads(path.read_text())["sources"][0]["pipeline_key"] == new.source.pipeline_key
        assert (await catalog.get_source(new.source.id)).origins == ()
        assert new.merchant.merchant_id == old.merchant.merchant_id
        assert new.merchant.api_key != old.merchant.api_key
        assert new.cdp_key.api_key != old.cdp_key.api_key
        assert len(await catalog.merchants.list()) == 1


async def test_credentials_of_another_database_are_replaced(postgres_dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    other = {
        "sources": [{"id": "src_x", "tenant": "demo", "pipeline_key": "dk_live_x", "secret_key": "sk_x"}],
        "cdp_keys": [{"tenant": "demo", "api_key": "cdp_live_x", "scopes": ["cdp:events:write"]}],
        "merchants": [{"merchant_id": "m", "tenant": "demo", "api_key": "tl_live_x"}],
        "more": 1,
    }
    path.write_text(json.dumps(other))
    async with running_catalog(postgres_dsn) as catalog:
        demo = await ensure_demo(catalog, tmp_path, "production")
        written = json.loads(path.read_text())
        assert written.keys() == {"sources", "cdp_keys", "merchants"}
        assert written["sources"][0]["pipeline_key"] == demo.source.pipeline_key
        assert written["cdp_keys"][0]["api_key"] == demo.cdp_key.api_key != "cdp_live_x"
        assert written["merchants"][0]["merchant_id"] == demo.merchant.merchant_id != "m"


async def test_a_file_of_an_older_headgate_gains_what_it_lacks(
    postgres_dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "credentials.json"
    async with running_catalog(postgres_dsn) as catalog:
        old = await ensure_demo(catalog, tmp_path, "production")
        source = json.loads(path.read_text())["sources"]
        path.write_text(json.dumps({"sources": source, "notes": "mine", "merchants": [{"merchant_id": 5}]}))
        new = await ensure_demo(catalog, tmp_path, "production")
        written = json.loads(path.read_text())
        assert (written["sources"], written["notes"]) == (source, "mine")
        assert written["cdp_keys"][0]["api_key"] == new.cdp_key.api_key
        assert written["merchants"][0]["api_key"] == new.merchant.api_key
        assert (new.source, new.merchant.merchant_id) == (old.source, old.merchant.merchant_id)
        assert "was lost" not in caplog.text
        assert "merchants" in caplog.text


def test_a_sealed_secret_opens_only_with_its_key_and_context() -> None:
    sealed = Sealer(KEY).seal(b"sk_abc", "src_1")
    assert b"sk_abc" not in sealed
    assert Sealer(KEY).open(sealed, "src_1") == b"sk_abc"
    assert Sealer(KEY).seal(b"sk_abc", "src_1") != sealed
    with pytest.raises(HeadgateError, match="src_2"):
        Sealer(KEY).open(sealed, "src_2")
    with pytest.raises(HeadgateError, match="another"):
        Sealer(bytes(32)).open(sealed, "src_1")
    with pytest.raises(HeadgateError, match="newer"):
        Sealer(KEY).open(b"\x02" + sealed[1:], "src_1")


async def test_the_sealing_key_is_made_once(tmp_path: Path) -> None:
    settings = settings_for(data_dir=str(tmp_path / "data"))
    sealers = await asyncio.gather(*(asyncio.to_thread(load_sealer, settings) for _ in range(8)))
    path = tmp_path / "data" / "sealing.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["sealing.key"]
    sealed = sealers[0].seal(b"x", "c")
    assert all(sealer.open(sealed, "c") == b"x" for sealer in sealers)
    assert load_sealer(settings_for(security__sealing_key=path.read_text().strip())).open(sealed, "c") == b"x"
    path.write_text("too short")
    with pytest.raises(SettingsError, match="64 hex digits"):
        load_sealer(settings)


async def test_a_pool_says_what_is_wrong_and_recovers(postgres_dsn: str, tmp_path: Path) -> None:
    async with running_pool(f"postgresql://postgres@/x?host={tmp_path}") as pool:
        assert not pool.up
        with pytest.raises(StoreUnavailable, match="away"):
            await pool.check()
    async with running_pool(postgres_dsn.replace("/test_", "/no_such_test_")) as pool:
        with pytest.raises(SettingsError, match="no_such_test_"):
            await pool.check()
    with pytest.raises(SettingsError, match=r"postgres\.dsn"):
        await PostgresPool(Postgres(dsn="postgresql://h:notaport/x")).start()
    async with running_pool(postgres_dsn, pool_max=2) as pool:
        assert (await pool.check()).startswith("18")
        with pytest.raises(StoreUnavailable, match="within"):
            await pool.fetch("SELECT pg_sleep(60)", timeout_s=0.05)
        assert not pool.up
        # Both places of the pool are there again, and so is an aborted connection's.
        with pytest.raises(StoreUnavailable):
            await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        rows = await asyncio.gather(*(pool.fetch("SELECT 1 AS one") for _ in range(8)))
        assert [row[0]["one"] for row in rows] == [1] * 8
        assert pool.up
