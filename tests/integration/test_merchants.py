"""Merchants and the keys of both products in the catalog; a frontend hears of every change."""

from __future__ import annotations

import re

import pytest

from daemon.adapters.keystore.merchants import StoredMerchants
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.postgres.apikeys import SCOPES, checked_scopes
from daemon.adapters.postgres.merchants import slug
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.redis.wire import RedisWire
from daemon.errors import NotFound, UsageError
from daemon.observe.catalog import StoreMetrics
from tests.support.catalog import running_catalog
from tests.support.stores import settings_for, until

UNKNOWN = "00000000-0000-4000-8000-000000000000"
GIVEN = "3F2504E0-4F89-41D3-9A0C-0305E82C3301"


async def test_tenants_of_merchants(postgres_dsn: str) -> None:
    """A named one may be shared; without a name each merchant gets one of its own."""
    async with running_catalog(postgres_dsn) as catalog:
        merchants = catalog.merchants
        assert [(await merchants.create("Shop", "acme")).tenant for _ in range(2)] == ["acme", "acme"]
        assert [(await merchants.create("ACME")).tenant for _ in range(2)] == ["acme-2", "acme-3"]
        nameless = await merchants.create("正")
        assert nameless.tenant == nameless.merchant_id
        assert [one.tenant for one in await merchants.list() if one.name == "ACME"] == ["acme-2", "acme-3"]


async def test_a_merchant_that_comes_from_elsewhere_keeps_its_id(postgres_dsn: str) -> None:
    async with running_catalog(postgres_dsn) as catalog:
        made = await catalog.merchants.create("Shop", merchant_id=GIVEN)
        assert made.merchant_id == GIVEN.lower()
        assert await catalog.merchants.get(GIVEN) == made
        with pytest.raises(UsageError, match="already"):
            await catalog.merchants.create("Other", merchant_id=GIVEN)
        # nothing of the second is left, its tenant neither
        assert (await catalog.merchants.create("Other")).tenant == "other"


async def test_what_is_refused(postgres_dsn: str) -> None:
    """With the reason, and without a trace."""
    async with running_catalog(postgres_dsn) as catalog:
        merchants, keys = catalog.merchants, catalog.api_keys
        for bad in ("nonsense", GIVEN.replace("-", ""), f"{{{GIVEN}}}", f"urn:uuid:{GIVEN}", ""):
            with pytest.raises(UsageError, match="UUID with hyphens"):
                await merchants.create("Shop", merchant_id=bad)
            with pytest.raises(UsageError, match="UUID with hyphens"):
                await merchants.enable(bad, enabled=False)
        for name, tenant in ((" ", None), ("a/b", None), ("Shop", "a/b"), ("Shop", "")):
            with pytest.raises(UsageError):
                await merchants.create(name, tenant)
        for scopes, rate, burst in (((SCOPES["merchant"][0],), None, None), ((), 0.0, None), ((), None, 0)):
            with pytest.raises(UsageError):
                await keys.create_for_tenant("acme", scopes, rate, burst)
        with pytest.raises(UsageError, match="tenant"):
            await keys.create_for_tenant("a/b")
        for missing in (merchants.get(UNKNOWN), merchants.enable(UNKNOWN, enabled=True),
                        keys.create_for_merchant(UNKNOWN)):  # fmt: skip
            with pytest.raises(NotFound, match=UNKNOWN):
                await missing
        assert (await merchants.list(), await catalog.list_keys()) == ([], [])


async def test_keys_say_what_they_are(postgres_dsn: str) -> None:
    """Live in production; the first characters are shown, of TrackLayer's six (C.1)."""
    async with running_catalog(postgres_dsn) as catalog:
        merchant = await catalog.merchants.create("Shop")
        cdp = await catalog.api_keys.create_for_tenant("new", rate=5, burst=7)
        track = await catalog.api_keys.create_for_merchant(merchant.merchant_id, ["admin", "events:read"])
        assert re.fullmatch(r"cdp_live_[0-9A-Za-z]{32}", cdp.api_key)
        assert re.fullmatch(r"tl_live_[0-9A-Za-z]{32}", track.api_key)
        assert cdp.key.prefix == cdp.api_key[:13]
        assert track.key.prefix == track.api_key[:14]
        assert (cdp.key.scopes, cdp.key.rate_per_s, cdp.key.burst) == (("cdp:events:write",), 5.0, 7)
        assert (track.key.scopes, track.key.tenant) == (("events:read", "admin"), "shop")
        assert await catalog.list_keys() == [cdp.key, track.key]
        assert await catalog.api_keys.holds(cdp.api_key, tenant="new")
        assert not await catalog.api_keys.holds(cdp.api_key, tenant="shop")
        assert not await catalog.api_keys.holds(track.api_key, tenant="shop")
        assert not await catalog.api_keys.holds(track.api_key, tenant="shop", merchant_id="nonsense")
        await catalog.revoke_key(track.api_key)
        assert await catalog.api_keys.holds(track.api_key, tenant="shop", merchant_id=merchant.merchant_id)


def test_scopes() -> None:
    """Each once, in the order of the list; sending alone when none is named."""
    assert checked_scopes("cdp", []) == ["cdp:events:write"]
    assert checked_scopes("merchant", []) == ["events:write"]
    assert checked_scopes("merchant", ["admin", " events:read ", "admin"]) == ["events:read", "admin"]
    with pytest.raises(
        UsageError, match=r"'events:delete'.*events:write, events:read, platforms:read, admin"
    ):
        checked_scopes("merchant", ["events:delete"])


async def test_changes_are_in_force_at_once(postgres_dsn: str, redis_url: str) -> None:
    """A frontend that knows merchant and key hears of it: disabled, enabled, revoked."""
    settings = settings_for(redis_url, postgres_dsn)
    metrics = StoreMetrics()
    pool, wire = PostgresPool(settings.postgres, metrics), RedisWire(settings.redis, metrics)
    keys = CachedKeyStore(pool, wire, settings, metrics)
    merchants = StoredMerchants(pool, keys, settings)
    async with running_catalog(postgres_dsn, redis_url) as catalog:
        merchant = await catalog.merchants.create("Shop")
        created = await catalog.api_keys.create_for_merchant(merchant.merchant_id, rate=5, burst=7)
        await pool.start()
        await wire.start()
        await keys.start()
        try:

            async def known() -> tuple[bool, bool]:
                """Whether merchant and key are."""
                return (
                    await merchants.merchant(merchant.merchant_id) is not None,
                    await keys.find_api_key(created.api_key) is not None,
                )

            async def becomes(wanted: tuple[bool, bool]) -> None:
                async def there() -> bool:
                    return await known() == wanted

                await until(there)

            found = await keys.find_api_key(created.api_key)
            assert found is not None
            assert (found.kind, found.merchant_id, found.scopes) == (
                "merchant", merchant.merchant_id, ("events:write",),
            )  # fmt: skip
            assert (found.rate_per_s, found.burst) == (5.0, 7)
            assert await known() == (True, True)
            await catalog.merchants.enable(merchant.merchant_id, enabled=False)
            await becomes((False, False))
            await catalog.merchants.enable(merchant.merchant_id, enabled=True)
            await becomes((True, True))
            await catalog.revoke_key(created.api_key)
            await becomes((True, False))
        finally:
            await keys.stop()
            await wire.stop()
            await pool.stop()


@pytest.mark.parametrize(
    ("name", "made"),
    [("Acme Shop", "acme-shop"), ("Ünïcode & Söhne", "unicode-sohne"), ("正", ""), ("a" * 90, "a" * 60), ("--", "")],
)  # fmt: skip
def test_slugs(name: str, made: str) -> None:
    assert slug(name) == made
