"""Contracts in memory, for tests of the front alone; PostgreSQL's have their own tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from daemon.errors import StoreUnavailable, UsageError
from daemon.events.contract.definition import Contract, StoredContract, contract_of
from daemon.events.contract.validator import Validator
from daemon.ports import ApiKey


class MemoryContracts:
    """A ContractDirectory and a ContractStore; `away` makes both fail as when no store answers."""

    def __init__(self) -> None:
        #: tenant → event type → versions
        self.versions: dict[str, dict[str, list[StoredContract]]] = {}
        self.away = False
        self.full = False

    def register(self, event_type: str, contract: Any, tenant: str = "acme") -> None:
        """Put a contract, given as JSON values, into force."""
        self._put(tenant, event_type, contract_of(contract))

    # --- ContractDirectory

    def cached(self, tenant: str) -> Mapping[str, Validator] | None:
        """Nothing is cached: `find` is the interesting path."""
        del tenant
        return None

    async def find(self, tenant: str) -> Mapping[str, Validator]:
        """Compiled anew each time."""
        self._check()
        return {one.eventType: Validator(one.eventType, one.contract) for one in self._in_force(tenant)}

    def changed(self, tenant: str) -> None:
        """Known already."""

    # --- ContractStore

    async def put(self, tenant: str, event_type: str, contract: Contract) -> StoredContract:
        """As PostgreSQL does it."""
        self._check()
        if self.full:
            raise UsageError("a tenant has at most 1000 event types; delete some that are not used")
        return self._put(tenant, event_type, contract)

    async def in_force(self, tenant: str) -> list[StoredContract]:
        """By event type."""
        self._check()
        return self._in_force(tenant)

    async def version(self, tenant: str, event_type: str, number: int | None) -> StoredContract | None:
        """One of them."""
        self._check()
        for one in reversed(self.versions.get(tenant, {}).get(event_type, [])):
            if one.endedAt is msgspec.UNSET if number is None else one.version == number:
                return one
        return None

    async def delete(self, tenant: str, event_type: str) -> StoredContract | None:
        """End it."""
        found = await self.version(tenant, event_type, None)
        if found is not None:
            self.versions[tenant][event_type][-1] = msgspec.structs.replace(found, endedAt=datetime.now(UTC))
        return found

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("no store answers", retry_after_s=2.5)

    def _in_force(self, tenant: str) -> list[StoredContract]:
        latest = [versions[-1] for versions in self.versions.get(tenant, {}).values()]
        return sorted((one for one in latest if one.endedAt is msgspec.UNSET), key=lambda one: one.eventType)

    def _put(self, tenant: str, event_type: str, contract: Contract) -> StoredContract:
        versions = self.versions.setdefault(tenant, {}).setdefault(event_type, [])
        if versions and versions[-1].endedAt is msgspec.UNSET:
            if versions[-1].contract == contract:
                return versions[-1]
            versions[-1] = msgspec.structs.replace(versions[-1], endedAt=datetime.now(UTC))
        versions.append(
            StoredContract(
                eventType=event_type,
                version=len(versions) + 1,
                properties=contract.properties,
                additionalProperties=contract.additionalProperties,
                createdAt=datetime.now(UTC),
            )
        )
        return versions[-1]


def cdp_key(number: int, *scopes: str, tenant: str = "acme", **rest: Any) -> ApiKey:
    """A key of ResultFly."""
    fields = {"rate_per_s": None, "burst": None, **rest}
    return ApiKey(f"key_{number}", "cdp", tenant, None, scopes, **fields)
