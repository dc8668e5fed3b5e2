"""
`ports.ContractStore`: contracts of event types and all their versions, as keys and commands change them.

A version is in force until the next one comes or the contract is deleted; numbers go on over a deletion.
Changes of one tenant take turns, so that two at once make two versions in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres import checks
from daemon.adapters.postgres.changing import changing
from daemon.adapters.postgres.pool import Connection, PostgresPool, Row
from daemon.errors import NotFound, UsageError
from daemon.events.contract import definition
from daemon.events.contract.definition import CONTRACTS_MAX, Contract, StoredContract
from daemon.ports import ContractStore

#: Event types that a tenant ever had; deleted ones keep their history.
KNOWN_MAX = 10_000
#: Versions that are kept of one event type; older ones are forgotten.
VERSIONS_MAX = 1000

_COLUMNS = "event_type, version, contract::text AS contract, created_at, ended_at"
_LATEST = (
    f"SELECT DISTINCT ON (event_type) {_COLUMNS} FROM contracts "  # noqa: S608  our own texts
    "WHERE tenant = $1 AND event_type = ANY($2) ORDER BY event_type, version DESC"
)
_COUNTS = (
    "SELECT count(*) FILTER (WHERE ended_at IS NULL) AS in_force, count(DISTINCT event_type) AS known "
    "FROM contracts WHERE tenant = $1"
)
_END = (
    "UPDATE contracts SET ended_at = $3 "  # noqa: S608
    f"WHERE tenant = $1 AND event_type = ANY($2) AND ended_at IS NULL RETURNING {_COLUMNS}"
)
_BEGIN = (
    "INSERT INTO contracts (tenant, event_type, version, contract, created_at) "
    "SELECT $1, event_type, version, contract::json, $5 "
    "FROM unnest($2::text[], $3::bigint[], $4::text[]) AS fresh (event_type, version, contract)"
)
_FORGET = (
    "DELETE FROM contracts USING unnest($2::text[], $3::bigint[]) AS fresh (event_type, newest) "
    "WHERE tenant = $1 AND contracts.event_type = fresh.event_type AND version <= newest - $4::bigint"
)


class Applied(Struct, frozen=True):
    """What became of one contract: `before` is the version that was in force, None where there was none."""

    state: Literal["created", "changed", "unchanged"]
    before: StoredContract | None
    now: StoredContract


class ContractCatalog:
    """Contracts in PostgreSQL."""

    def __init__(self, pool: PostgresPool, shared: SharedKeys) -> None:
        self._pool = pool
        self._shared = shared

    async def put(self, tenant: str, event_type: str, contract: Contract) -> StoredContract:
        [applied] = await self.apply(tenant, {event_type: contract})
        return applied.now

    async def apply(self, tenant: str, contracts: Mapping[str, Contract]) -> list[Applied]:
        """
        Put all of them into force, or none; an unknown tenant is made, event types that are not named stay.

        Raises UsageError, StoreUnavailable.
        """
        checks.name(tenant, "tenant")
        async with changing(self._pool, self._shared) as connection:
            await connection.execute("INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING", tenant)
            now = await _turn(connection, tenant)
            rows = await connection.fetch(_LATEST, tenant, list(contracts))
            latest = {row["event_type"]: row for row in rows}
            applied = [
                _applied(name, contract, latest.get(name), now) for name, contract in contracts.items()
            ]
            fresh = [one.now for one in applied if one.state != "unchanged"]
            if fresh:
                await _write(connection, tenant, fresh, now)
            if any(one.state == "created" for one in applied):
                await _check_counts(connection, tenant)
        return applied

    async def in_force(self, tenant: str) -> list[StoredContract]:
        rows = await self._pool.fetch(
            f'SELECT {_COLUMNS} FROM contracts WHERE tenant = $1 AND ended_at IS NULL ORDER BY event_type COLLATE "C"',  # noqa: S608
            tenant,
        )
        return [_stored(row) for row in rows]

    async def version(self, tenant: str, event_type: str, number: int | None) -> StoredContract | None:
        which = "ended_at IS NULL" if number is None else "version = $3"
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM contracts WHERE tenant = $1 AND event_type = $2 AND {which}",  # noqa: S608
            *((tenant, event_type) if number is None else (tenant, event_type, number)),
        )
        return _stored(rows[0]) if rows else None

    async def delete(self, tenant: str, event_type: str) -> StoredContract | None:
        async with changing(self._pool, self._shared) as connection:
            now = await _turn(connection, tenant)
            ended = await connection.fetch(_END, tenant, [event_type], now)
        return _stored(ended[0]) if ended else None

    async def has_tenant(self, tenant: str) -> bool:
        """Whether there is such a tenant. Raises StoreUnavailable."""
        return bool(await self._pool.fetch("SELECT 1 FROM tenants WHERE name = $1", tenant))


async def _turn(connection: Connection, tenant: str) -> datetime:
    """Wait for who else changes contracts of the tenant; the time then, which is after all of theirs."""
    found = await connection.fetchval("SELECT name FROM tenants WHERE name = $1 FOR NO KEY UPDATE", tenant)
    if found is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


def _applied(event_type: str, contract: Contract, latest: Row | None, now: datetime) -> Applied:
    version = 1 if latest is None else latest["version"] + 1
    fresh = StoredContract(
        eventType=event_type,
        version=version,
        properties=contract.properties,
        additionalProperties=contract.additionalProperties,
        createdAt=now,
    )
    if latest is None or latest["ended_at"] is not None:
        return Applied("created", None, fresh)
    before = _stored(latest)
    if before.contract == contract:
        return Applied("unchanged", before, before)
    return Applied("changed", before, fresh)


async def _write(connection: Connection, tenant: str, fresh: list[StoredContract], now: datetime) -> None:
    names = [one.eventType for one in fresh]
    versions = [one.version for one in fresh]
    texts = [definition.encode(one.contract).decode() for one in fresh]
    await connection.fetch(_END, tenant, names, now)
    await connection.execute(_BEGIN, tenant, names, versions, texts, now)
    if any(version > VERSIONS_MAX for version in versions):
        await connection.execute(_FORGET, tenant, names, versions, VERSIONS_MAX)


async def _check_counts(connection: Connection, tenant: str) -> None:
    counts = await connection.fetchrow(_COUNTS, tenant)
    assert counts is not None
    if counts["in_force"] > CONTRACTS_MAX:
        raise UsageError(f"a tenant has at most {CONTRACTS_MAX} event types; delete some that are not used")
    if counts["known"] > KNOWN_MAX:
        raise UsageError(
            f"a tenant has at most {KNOWN_MAX} event types in all its time, deleted ones included"
        )


def _stored(row: Row) -> StoredContract:
    contract = definition.decode(row["contract"])
    ended: Any = row["ended_at"]
    return StoredContract(
        eventType=row["event_type"],
        version=row["version"],
        properties=contract.properties,
        additionalProperties=contract.additionalProperties,
        createdAt=row["created_at"],
        endedAt=UNSET if ended is None else ended,
    )


if TYPE_CHECKING:

    def _is_a_store(catalog: ContractCatalog) -> ContractStore:
        return catalog
