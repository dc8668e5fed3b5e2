"""Contracts on a real PostgreSQL and Valkey: their versions, and that every process hears of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from msgspec import UNSET, Raw

from daemon.adapters.keystore.contracts import StoredContracts
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.postgres import contracts as postgres_contracts
from daemon.adapters.postgres.contracts import ContractCatalog
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool, Row
from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Settings
from daemon.errors import NotFound, StoreUnavailable, UsageError
from daemon.events.contract import definition
from daemon.events.contract.definition import Contract, contract_of
from daemon.events.contract.validator import Validator
from daemon.events.payload import InvalidPayload
from daemon.observe.catalog import StoreMetrics
from tests.support.stores import settings_for, until

#: The promised second (0.3.28).
IN_FORCE_S = 1.0


def of(*required: str, **optional: str) -> Contract:
    listed: dict[str, Any] = {name: {"type": "string", "required": True} for name in required}
    listed |= {name: {"type": kind} for name, kind in optional.items()}
    return contract_of({"properties": listed})


class Pool(PostgresPool):
    """The real pool; counts what is read of contracts, and can be made to be away."""

    reads = 0
    away = False

    async def fetch(self, statement: str, *args: object, timeout_s: float | None = None) -> list[Row]:
        if self.away:
            self.up = False
            raise StoreUnavailable("away")
        self.reads += "FROM contracts" in statement and "event_type, contract" in statement
        return await super().fetch(statement, *args, timeout_s=timeout_s)


class Frontend:
    """The stores as one frontend composes them."""

    def __init__(self, settings: Settings) -> None:
        metrics = StoreMetrics()
        self.pool = Pool(settings.postgres, metrics)
        self.wire = RedisWire(settings.redis, metrics)
        self.keys = CachedKeyStore(self.pool, self.wire, settings, metrics)
        self.contracts = StoredContracts(self.pool, self.keys)
        self.catalog = ContractCatalog(self.pool, SharedKeys(self.wire, settings))

    async def start(self) -> None:
        await self.wire.start()
        await self.pool.start()
        await self.keys.start()
        await self.contracts.start()

    async def stop(self) -> None:
        await self.contracts.stop()
        await self.keys.stop()
        await self.wire.stop()
        await self.pool.stop()


class Town:
    """An admin, and frontends that hear of what it does."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, admin: Frontend) -> None:
        self.settings = settings
        self.catalog = admin.catalog
        self.pool = admin.pool
        self.frontends: list[Frontend] = []
        self._stack = stack

    async def frontend(self) -> Frontend:
        made = Frontend(self.settings)
        await made.start()
        self._stack.push_async_callback(made.stop)
        self.frontends.append(made)
        return made

    async def soon(self, tenant: str, right: Callable[[Mapping[str, Validator]], bool]) -> None:
        """All frontends see it so within a second."""

        async def all_right() -> bool:
            return all([right(await one.contracts.find(tenant)) for one in self.frontends])

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
        yield Town(settings, stack, admin)


@pytest.fixture(params=["with Redis", "without Redis"])
async def town(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Town]:
    """A change is heard of through Redis at once, without it through PostgreSQL."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "with Redis" else "unix:///nowhere"
    async with town_of(settings_for(redis_url, postgres_dsn)) as made:
        yield made


@pytest.fixture
async def quick(redis_url: str, postgres_dsn: str) -> AsyncIterator[Town]:
    """With Redis only."""
    async with town_of(settings_for(redis_url, postgres_dsn)) as made:
        yield made


# --- versions


async def test_the_version_grows_only_when_the_contract_changed(quick: Town) -> None:
    first = await quick.catalog.put("acme", "purchase", of("order_id", amount="number"))
    assert (first.eventType, first.version, first.endedAt) == ("purchase", 1, UNSET)
    assert first.contract == of("order_id", amount="number")
    # the order of properties is no change
    turned = Contract(dict(reversed(first.properties.items())))
    assert await quick.catalog.put("acme", "purchase", turned) == first
    second = await quick.catalog.put("acme", "purchase", of("order_id", amount="integer"))
    assert (second.version, second.contract) == (2, of("order_id", amount="integer"))
    assert second.createdAt > first.createdAt
    assert await quick.catalog.in_force("acme") == [second]
    assert await quick.catalog.version("acme", "purchase", None) == second
    older = await quick.catalog.version("acme", "purchase", 1)
    assert older is not None
    assert (older.contract, older.createdAt, older.endedAt) == (
        first.contract,
        first.createdAt,
        second.createdAt,
    )
    assert await quick.catalog.version("acme", "purchase", 3) is None
    assert await quick.catalog.version("other", "purchase", None) is None


async def test_a_deleted_one_keeps_its_history_and_its_numbers(quick: Town) -> None:
    first = await quick.catalog.put("acme", "purchase", of("order_id"))
    ended = await quick.catalog.delete("acme", "purchase")
    assert ended is not None
    assert (ended.version, ended.contract) == (1, first.contract)
    assert ended.endedAt is not UNSET
    assert await quick.catalog.delete("acme", "purchase") is None
    assert await quick.catalog.in_force("acme") == []
    assert await quick.catalog.version("acme", "purchase", None) is None
    assert await quick.catalog.version("acme", "purchase", 1) == ended
    again = await quick.catalog.put("acme", "purchase", of("order_id"))
    assert (again.version, again.endedAt) == (2, UNSET)
    with pytest.raises(NotFound):
        await quick.catalog.delete("nobody", "purchase")


async def test_any_name_will_do(quick: Town) -> None:
    names = [
        "a",
        "",
        "a.b",
        "class",
        "__class__",
        '"',
        "\\",
        "\n",
        "\0",
        "é",
        "�",
        "x" * 200,
        "%s",
        "'; DROP",
    ]
    contract = contract_of({"properties": {name: {"type": "integer"} for name in names}})
    for event_type in ("purchase", "a/b", "a b", "ä", "..", "x" * 200, "'; DROP TABLE contracts; --", "\n"):
        await quick.catalog.put("acme", event_type, contract)
        found = await quick.catalog.version("acme", event_type, None)
        assert found is not None
        assert found.contract == contract
    types = [one.eventType for one in await quick.catalog.in_force("acme")]
    assert types == sorted(types)
    assert len(types) == 8


async def test_two_at_once_make_two_versions_in_a_row(quick: Town) -> None:
    contracts = [of(f"order_{number}") for number in range(8)]
    stored = await asyncio.gather(*(quick.catalog.put("acme", "purchase", one) for one in contracts))
    assert sorted(one.version for one in stored) == list(range(1, 9))
    [left] = await quick.catalog.in_force("acme")
    assert left.version == 8
    rows = await quick.pool.fetch(
        "SELECT created_at, ended_at FROM contracts WHERE event_type = 'purchase' ORDER BY version"
    )
    ends = [row["ended_at"] for row in rows]
    assert ends[:-1] == [row["created_at"] for row in rows[1:]], "one ends where the next begins"


async def test_a_file_is_applied_whole_or_not_at_all(quick: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = await quick.catalog.apply("acme", {"a": of("x"), "b": of("y")})
    assert [(one.state, one.now.version) for one in applied] == [("created", 1), ("created", 1)]
    applied = await quick.catalog.apply("acme", {"a": of("x"), "b": of("z"), "c": of()})
    assert [(one.state, one.now.version) for one in applied] == [
        ("unchanged", 1),
        ("changed", 2),
        ("created", 1),
    ]
    assert applied[1].before is not None
    assert applied[1].before.contract == of("y")
    assert await quick.catalog.apply("acme", {}) == []
    monkeypatch.setattr(postgres_contracts, "CONTRACTS_MAX", 4)
    with pytest.raises(UsageError, match="at most 4 event types"):
        await quick.catalog.apply("acme", {"a": of("other"), "d": of(), "e": of()})
    assert [(one.eventType, one.version) for one in await quick.catalog.in_force("acme")] == [
        ("a", 1),
        ("b", 2),
        ("c", 1),
    ]
    await quick.catalog.put("acme", "d", of())
    await quick.catalog.delete("acme", "d")
    monkeypatch.setattr(postgres_contracts, "KNOWN_MAX", 4)
    await quick.catalog.put("acme", "d", of())
    await quick.catalog.delete("acme", "d")
    with pytest.raises(UsageError, match="deleted ones included"):
        await quick.catalog.put("acme", "e", of())
    assert await quick.catalog.has_tenant("acme")
    assert not await quick.catalog.has_tenant("other")
    with pytest.raises(UsageError, match="tenant"):
        await quick.catalog.apply("a/b", {"a": of()})


async def test_old_versions_are_bounded(quick: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_contracts, "VERSIONS_MAX", 3)
    for number in range(6):
        await quick.catalog.put("acme", "purchase", of(f"order_{number}"))
    found = [await quick.catalog.version("acme", "purchase", number) for number in range(1, 7)]
    assert [one is not None for one in found] == [False] * 3 + [True] * 3


async def test_one_statement_is_one_change(quick: Town) -> None:
    """A large file must not fill the table of changes, on which every frontend relies."""
    before = await quick.pool.fetch("SELECT seq FROM catalog_state")
    await quick.catalog.apply("acme", {f"type_{number}": of("x") for number in range(1000)})
    await quick.catalog.apply("acme", {f"type_{number}": of("y") for number in range(1000)})
    after = await quick.pool.fetch("SELECT seq FROM catalog_state")
    assert after[0]["seq"] - before[0]["seq"] == 3
    rows = await quick.pool.fetch("SELECT DISTINCT source_id FROM changes")
    assert [row["source_id"] for row in rows] == ["contracts/acme"]


# --- in force everywhere


async def test_every_frontend_hears_of_every_change(town: Town) -> None:
    for _ in range(2):
        await town.frontend()
    await town.catalog.put("acme", "purchase", of("order_id"))
    await town.soon("acme", lambda found: found.keys() == {"purchase"})
    await town.catalog.put("acme", "purchase", of("number"))
    await town.soon("acme", lambda found: found["purchase"].contract == of("number"))
    await town.catalog.apply("acme", {"refund": of(), "purchase": of()})
    await town.soon("acme", lambda found: {name: one.contract for name, one in found.items()}
                    == {"refund": of(), "purchase": of()})  # fmt: skip
    await town.catalog.delete("acme", "purchase")
    await town.soon("acme", lambda found: found.keys() == {"refund"})
    # changes made by hand in SQL count like any other
    await town.pool.fetch("UPDATE contracts SET ended_at = now() WHERE event_type = 'refund'")
    await town.soon("acme", lambda found: not found)
    await town.pool.fetch("TRUNCATE contracts")
    await town.catalog.put("acme", "a", of())
    await town.soon("acme", lambda found: found.keys() == {"a"})


async def test_all_are_known_from_the_start_and_read_once(quick: Town) -> None:
    await quick.catalog.put("acme", "purchase", of("order_id"))
    await quick.catalog.put("other", "refund", of())
    one = await quick.frontend()

    async def known() -> bool:
        return one.contracts.cached("acme") is not None and one.contracts.cached("other") is not None

    await until(known, 5.0)
    assert one.pool.reads == 2
    assert (await one.contracts.find("acme")).keys() == {"purchase"}
    # a tenant without any is looked up once for all who ask
    found = await asyncio.gather(*(one.contracts.find("nobody") for _ in range(100)))
    assert found == [{}] * 100
    assert (await one.contracts.find("nobody")) == {}
    assert one.pool.reads == 3


async def test_what_did_not_change_stays_compiled(quick: Town) -> None:
    one = await quick.frontend()
    await quick.catalog.apply("acme", {"a": of("x"), "b": of("y")})
    await quick.soon("acme", lambda found: len(found) == 2)
    before = await one.contracts.find("acme")
    await quick.catalog.put("acme", "b", of("z"))
    await quick.soon("acme", lambda found: found["b"].contract == of("z"))
    after = await one.contracts.find("acme")
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    with pytest.raises(InvalidPayload, match=r"properties\.z is required"):
        after["b"].check(Raw(b"{}"))


async def test_the_last_good_holds_while_postgres_is_away(quick: Town) -> None:
    one = await quick.frontend()
    await quick.catalog.put("acme", "purchase", of("order_id"))
    await quick.soon("acme", lambda found: found.keys() == {"purchase"})
    one.pool.away = True
    await quick.catalog.put("acme", "purchase", of("number"))  # by another process, which still has it

    async def heard() -> bool:
        return one.contracts.cached("acme") is None

    await until(heard, IN_FORCE_S)
    assert (await one.contracts.find("acme"))["purchase"].contract == of("order_id")
    with pytest.raises(StoreUnavailable):
        await one.contracts.find("nobody")
    one.pool.away = False
    await quick.soon("acme", lambda found: found["purchase"].contract == of("number"))


async def test_a_frontend_that_starts_without_postgres_learns_them_later(quick: Town) -> None:
    await quick.catalog.put("acme", "purchase", of("order_id"))
    one = Frontend(quick.settings)
    one.pool.away = True
    await one.start()
    try:
        with pytest.raises(StoreUnavailable):
            await one.contracts.find("acme")
        one.pool.away = False

        async def known() -> bool:
            return one.contracts.cached("acme") is not None

        await until(known, 5.0)
    finally:
        await one.stop()


async def test_what_another_version_wrote_counts_as_not_registered(quick: Town) -> None:
    one = await quick.frontend()
    await quick.catalog.apply("acme", {"a": of(), "b": of()})
    await quick.pool.fetch("""UPDATE contracts SET contract = '{"other": 1}' WHERE event_type = 'a'""")
    await quick.soon("acme", lambda found: found.keys() == {"b"})
    assert (await one.contracts.find("acme")).keys() == {"b"}


def test_what_is_stored_is_what_is_shown() -> None:
    assert definition.encode(of("a", b="number")) == (
        b'{"properties":{"a":{"type":"string","required":true},"b":{"type":"number","required":false}},'
        b'"additionalProperties":"reject"}'
    )
