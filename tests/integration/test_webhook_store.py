"""Webhooks on a real PostgreSQL and Valkey: what is kept, how, and that every process hears of changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks

from daemon.adapters.keystore.directory import StoredSources
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.keystore.webhooks import StoredWebhooks
from daemon.adapters.postgres.catalog import SourceCatalog
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.postgres.webhooks import OVERLAP_S_MAX, WebhookCatalog
from daemon.adapters.redis.wire import RedisWire
from daemon.adapters.sealing import Sealer
from daemon.config.schema import Settings
from daemon.errors import NotFound, StoreUnavailable, UsageError
from daemon.events.webhooks import read_config
from daemon.observe.catalog import StoreMetrics
from daemon.ports import Webhook
from tests.support.stores import settings_for, until

#: The promised second (0.1.10).
IN_FORCE_S = 1.0
STRIPE = read_config({"source_type": "stripe", "mappings": {"userId": "$.b", "properties.a": "$.a"}})


class Frontend:
    """The stores as one frontend composes them."""

    def __init__(self, settings: Settings) -> None:
        metrics = StoreMetrics()
        self.pool = PostgresPool(settings.postgres, metrics)
        self.wire = RedisWire(settings.redis, metrics)
        self.keys = CachedKeyStore(self.pool, self.wire, settings, metrics)
        self.webhooks = StoredWebhooks(self.pool, self.keys, Sealer(bytes(32)), settings)

    async def start(self) -> None:
        await self.wire.start()
        await self.pool.start()
        await self.keys.start()

    async def stop(self) -> None:
        await self.keys.stop()
        await self.wire.stop()
        await self.pool.stop()


class Town:
    """An admin, and two frontends that hear of what it does."""

    def __init__(
        self, catalog: SourceCatalog, pool: PostgresPool, frontends: list[Frontend], source: str
    ) -> None:
        self.catalog = catalog
        self.pool = pool
        self.frontends = frontends
        self.source = source

    @property
    def webhooks(self) -> WebhookCatalog:
        return self.catalog.webhooks

    async def seen(self, webhook_id: str) -> list[Webhook | None]:
        return [await frontend.webhooks.webhook(webhook_id) for frontend in self.frontends]

    async def soon(self, webhook_id: str, right: Any) -> None:
        """Both frontends see it so within a second."""

        async def all_right() -> bool:
            return all(map(right, await self.seen(webhook_id)))

        await until(all_right, IN_FORCE_S)


@asynccontextmanager
async def town_of(settings: Settings) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        admin = Frontend(settings)
        await admin.wire.start()
        await admin.pool.start()
        stack.push_async_callback(admin.pool.stop)
        stack.push_async_callback(admin.wire.stop)
        await migrate(admin.pool)
        frontends = [Frontend(settings), Frontend(settings)]
        for frontend in frontends:
            await frontend.start()
            stack.push_async_callback(frontend.stop)
        catalog = SourceCatalog(admin.pool, SharedKeys(admin.wire, settings), Sealer(bytes(32)), "production")
        created = await catalog.create_source("acme", "shop")
        yield Town(catalog, admin.pool, frontends, created.source.id)


@pytest.fixture(params=["with Redis", "without Redis"])
def stores(request: pytest.FixtureRequest, postgres_dsn: str) -> Settings:
    """A change is heard of through Redis at once, without it through PostgreSQL."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "with Redis" else "unix:///nowhere"
    return settings_for(redis_url, postgres_dsn)


@pytest.fixture
async def town(stores: Settings) -> AsyncIterator[Town]:
    async with town_of(stores) as made:
        yield made


async def test_a_webhook_is_kept_as_it_was_written_and_its_secret_sealed(town: Town) -> None:
    info, secret = await town.webhooks.create(town.source, STRIPE, "whsec_in_clear", "payments")
    assert (info.kind, info.name, info.source, info.tenant) == ("stripe", "payments", town.source, "acme")
    assert (info.enabled, info.signed, info.previous_until, info.config) == (True, True, None, STRIPE)
    assert secret == "whsec_in_clear"
    assert await town.webhooks.list() == [info] == [await town.webhooks.get(info.id)]
    assert await town.webhooks.secret_of(info.id) == "whsec_in_clear"
    rows = await town.pool.fetch("SELECT t::text AS row FROM webhooks t")
    assert "in_clear" not in rows[0]["row"]
    assert b"in_clear".hex() not in rows[0]["row"]
    for found in await town.seen(info.id):
        assert found is not None
        assert (found.id, found.source_id, found.secrets(0)) == (info.id, town.source, [b"whsec_in_clear"])
        assert found.mapper.config == STRIPE


async def test_a_secret_of_one_webhook_does_not_open_for_another(town: Town) -> None:
    one, _ = await town.webhooks.create(town.source, STRIPE, "whsec_one")
    two, _ = await town.webhooks.create(town.source, STRIPE, "whsec_two")
    await town.pool.fetch(
        "UPDATE webhooks SET secret_sealed = (SELECT secret_sealed FROM webhooks WHERE id = $1) WHERE id = $2",
        one.id,
        two.id,
    )
    with pytest.raises(Exception, match="can't be opened"):
        await town.webhooks.secret_of(two.id)


async def test_both_secrets_while_the_overlap_lasts(town: Town) -> None:
    info, first = await town.webhooks.create(town.source, STRIPE)
    await town.soon(info.id, lambda found: found is not None)
    rotated, second = await town.webhooks.rotate(info.id, 3600.0)
    assert first is not None
    assert first != second
    assert rotated.previous_until is not None
    assert abs((rotated.previous_until - rotated.updated_at).total_seconds() - 3600) < 1
    both, now_s = [second.encode(), first.encode()], rotated.updated_at.timestamp()
    await town.soon(info.id, lambda found: found.secrets(now_s) == both)
    for found in await town.seen(info.id):
        assert found is not None
        assert found.secrets(now_s + 3590) == both
        assert found.secrets(now_s + 3610) == [second.encode()]
    # a third one ends the first at once, and without an overlap the one before it too
    _, third = await town.webhooks.rotate(info.id, 60.0, "whsec_third")
    await town.soon(info.id, lambda found: found.secrets(now_s) == [b"whsec_third", second.encode()])
    await town.webhooks.rotate(info.id, 0.0, "whsec_fourth")
    await town.soon(info.id, lambda found: found.secrets(0) == [b"whsec_fourth"])
    assert third == "whsec_third"
    assert (await town.webhooks.get(info.id)).previous_until is None


async def test_every_change_is_in_force_within_a_second(town: Town) -> None:
    info, _ = await town.webhooks.create(town.source, STRIPE)
    await town.soon(info.id, lambda found: found is not None)
    assert not (await town.webhooks.enable(info.id, enabled=False)).enabled
    await town.soon(info.id, lambda found: found is None)
    assert (await town.webhooks.enable(info.id, enabled=True)).enabled
    await town.soon(info.id, lambda found: found is not None)
    changed = {"source_type": "custom", "scheme": "none"}
    await town.pool.fetch(
        "UPDATE webhooks SET config = $2::text::jsonb WHERE id = $1", info.id, json.dumps(changed)
    )
    await town.soon(info.id, lambda found: found.mapper.config.source_type == "custom")
    assert (await town.webhooks.delete(info.id)).id == info.id
    await town.soon(info.id, lambda found: found is None)
    assert await town.webhooks.list() == []


async def test_one_that_was_asked_for_before_it_was_made(town: Town) -> None:
    """An id that was not there is remembered briefly, and forgotten when it appears."""
    info, _ = await town.webhooks.create(town.source, STRIPE)
    await town.webhooks.delete(info.id)
    await town.soon(info.id, lambda found: found is None)
    await town.pool.fetch(
        "INSERT INTO webhooks (id, source_id, name, kind, config) VALUES ($1, $2, 'x', 'custom', $3::text::jsonb)",
        info.id,
        town.source,
        '{"source_type": "custom", "scheme": "none"}',
    )
    await town.soon(info.id, lambda found: found is not None and found.secrets(0) == [])


@pytest.mark.parametrize(
    "webhook_id", ["", "wh_", "src_1", "wh_a'b", "wh_\x00", "wh_" + "a" * 61, "wh_ä", "wh_a\n"]
)
async def test_what_is_no_id_is_not_looked_up(town: Town, webhook_id: str) -> None:
    assert await town.seen(webhook_id) == [None, None]


@pytest.mark.parametrize("source_id", ["", "src_", "wh_1", "src_a'b", "src_\x00", "src_" + "a" * 61, "src_ä"])
async def test_what_is_no_source_id_is_not_looked_up(town: Town, source_id: str) -> None:
    """PostgreSQL takes no NUL, and a request that names one is no fault of ours."""
    frontend = town.frontends[0]
    sources = StoredSources(frontend.pool, frontend.keys, Sealer(bytes(32)), settings_for())
    assert await sources.by_id(source_id) is None
    found = await sources.by_id(town.source)
    assert found is not None
    assert found.id == town.source


async def test_settings_that_can_not_be_used_are_a_503_and_not_a_404(town: Town) -> None:
    """Written by another version: the sender is asked to come back."""
    info, _ = await town.webhooks.create(town.source, STRIPE)
    await town.pool.fetch('UPDATE webhooks SET config = \'{"source_type":"future"}\' WHERE id = $1', info.id)
    with pytest.raises(StoreUnavailable, match=info.id):
        await town.soon(info.id, lambda found: found is None)


async def test_what_can_not_be_stored(town: Town) -> None:
    create = town.webhooks.create
    with pytest.raises(NotFound, match="src_nope"):
        await create("src_nope", STRIPE)
    with pytest.raises(NotFound, match="wh_nope"):
        await town.webhooks.get("wh_nope")
    for verb in (
        town.webhooks.rotate("wh_nope", 1.0),
        town.webhooks.enable("wh_nope", enabled=True),
        town.webhooks.delete("wh_nope"),
        town.webhooks.secret_of("wh_nope"),
    ):
        with pytest.raises(NotFound, match="wh_nope"):
            await verb
    for bad in ("", " x", "a\nb", "x" * 1025):
        with pytest.raises(UsageError, match="the secret is"):
            await create(town.source, STRIPE, bad)
    standard = read_config({"source_type": "standard-webhooks"})
    with pytest.raises(UsageError, match="base64"):
        await create(town.source, standard, "whsec_no base64")
    unsigned = read_config({"source_type": "custom", "scheme": "none"})
    with pytest.raises(UsageError, match="leave the secret out"):
        await create(town.source, unsigned, "x")
    with pytest.raises(UsageError, match="NUL"):
        await create(town.source, read_config({"source_type": "stripe", "event_names": {"a\x00": "b"}}))
    with pytest.raises(UsageError, match="name"):
        await create(town.source, STRIPE, None, " ")
    assert await town.webhooks.list() == []
    info, secret = await create(town.source, unsigned)
    assert (secret, info.signed, await town.webhooks.secret_of(info.id)) == (None, False, None)
    with pytest.raises(UsageError, match="no secret to rotate"):
        await town.webhooks.rotate(info.id, 1.0)
    for overlap_s in (-1.0, OVERLAP_S_MAX + 1, float("nan")):
        with pytest.raises(UsageError, match="overlap"):
            await town.webhooks.rotate(info.id, overlap_s)


@pytest.mark.parametrize("kind", ["stripe", "standard-webhooks", "github"])
async def test_secrets_are_made_in_the_kinds_own_form(town: Town, kind: str) -> None:
    made = {
        (await town.webhooks.create(town.source, read_config({"source_type": kind})))[1] for _ in range(3)
    }
    assert len(made) == 3
    for secret in made:
        assert secret is not None
        assert secret.startswith("whsec_")
        if kind == "standard-webhooks":
            assert standardwebhooks.Webhook(secret).sign("m", datetime.now(UTC), "").startswith("v1,")
