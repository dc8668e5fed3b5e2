"""
`ports.ContractDirectory`: the contracts in force of every tenant, compiled, in one process's memory.

All of them are read at the start and read again when the key store's feed says that they changed, so that no
event waits for that as a rule, and PostgreSQL may be away. A tenant that is not here is looked up by the first
event that asks, once for all who ask meanwhile.

What can't be read again because PostgreSQL is away stays in force as it was. That ends with the keys: when
nothing could be verified for `keys.last_good_s`, no key is believed any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.postgres.pool import PostgresPool
from daemon.errors import SettingsError, StoreUnavailable
from daemon.events.contract import definition
from daemon.events.contract.validator import Validator
from daemon.ports import ContractDirectory

log = logging.getLogger(__name__)

#: Tenants in memory. Beyond, the ones that were read first are read again when an event comes.
TENANTS_MAX = 10_000
#: What changes are told under: the prefix of the name that migration 0005 gives a tenant's contracts.
_PREFIX = "contracts/"
#: Tries for contracts that change while they are being read.
_TRIES = 3
_TIMEOUT_S = 2.0
#: Seconds between tries while PostgreSQL is away.
_AGAIN_S = 0.5

_TENANTS = "SELECT DISTINCT tenant FROM contracts WHERE ended_at IS NULL LIMIT $1"
_IN_FORCE = (
    "SELECT event_type, contract::text AS contract FROM contracts WHERE tenant = $1 AND ended_at IS NULL"
)


class _Held:
    """What is known of a tenant; `stale` once it may have changed."""

    __slots__ = ("stale", "validators")

    def __init__(self, validators: dict[str, Validator]) -> None:
        self.validators = validators
        self.stale = False


class StoredContracts:
    """Reads contracts from PostgreSQL, and keeps them until they change."""

    def __init__(self, pool: PostgresPool, keys: CachedKeyStore) -> None:
        self._pool = pool
        self._tenants: dict[str, _Held] = {}
        self._loading: dict[str, asyncio.Task[dict[str, Validator]]] = {}
        #: tenants to read again; None among them: all that there are
        self._due: set[str | None] = set()
        self._wanted = asyncio.Event()
        self._generation = 0
        self._keeper: asyncio.Task[None] | None = None
        keys.on_change(self._changed)

    async def start(self) -> None:
        """Begin to read all of them, in the background."""
        self._due.add(None)
        self._wanted.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="contracts")

    async def stop(self) -> None:
        """Read nothing more."""
        tasks = [*self._loading.values()]
        if self._keeper is not None:
            tasks.append(self._keeper)  # type: ignore[arg-type]  # what they give is not asked for
            self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cached(self, tenant: str) -> Mapping[str, Validator] | None:
        held = self._tenants.get(tenant)
        return held.validators if held is not None and not held.stale else None

    async def find(self, tenant: str) -> Mapping[str, Validator]:
        held = self._tenants.get(tenant)
        if held is not None and (not held.stale or not self._pool.up):
            return held.validators
        try:
            return await asyncio.shield(self._read(tenant))
        except StoreUnavailable:
            if held is not None:
                return held.validators
            raise

    def changed(self, tenant: str) -> None:
        self._changed((_PREFIX + tenant,))

    # --- reading ------------------------------------------------------------------------------------

    def _read(self, tenant: str) -> asyncio.Task[dict[str, Validator]]:
        """The reading of a tenant, one at a time."""
        task = self._loading.get(tenant)
        if task is None:
            task = self._loading[tenant] = asyncio.create_task(self._load(tenant))
            task.add_done_callback(lambda done: self._loaded(tenant, done))
        return task

    def _loaded(self, tenant: str, task: asyncio.Task[dict[str, Validator]]) -> None:
        self._loading.pop(tenant, None)
        if not task.cancelled():
            task.exception()  # those who waited know it; there may be none

    async def _load(self, tenant: str) -> dict[str, Validator]:
        validators: dict[str, Validator] = {}
        for _ in range(_TRIES):
            generation = self._generation
            before = self._tenants.get(tenant)
            try:
                rows = await self._pool.fetch(_IN_FORCE, tenant, timeout_s=_TIMEOUT_S)
            except (SettingsError, asyncpg.PostgresError) as error:
                raise StoreUnavailable(f"contracts can't be read: {error}") from error
            validators = _validators(
                {row["event_type"]: row["contract"] for row in rows}, before.validators if before else {}
            )
            if generation == self._generation:
                self._tenants.pop(tenant, None)
                while len(self._tenants) >= TENANTS_MAX:
                    del self._tenants[next(iter(self._tenants))]
                self._tenants[tenant] = _Held(validators)
                break
        return validators

    # --- changes ------------------------------------------------------------------------------------

    def _changed(self, ids: Iterable[str] | None) -> None:
        """These rows changed (None: any may have)."""
        if ids is None:
            tenants: list[str] = list(self._tenants)
            self._due.add(None)
        else:
            tenants = [one.removeprefix(_PREFIX) for one in ids if one.startswith(_PREFIX)]
            if not tenants:
                return
        self._generation += 1
        for tenant in tenants:
            if (held := self._tenants.get(tenant)) is not None:
                held.stale = True
        self._due.update(tenants)
        self._wanted.set()

    async def _keep(self) -> None:
        """Read what is due, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._read_due()
            except StoreUnavailable as error:
                log.debug("contracts are read again later: %s", error)
                await asyncio.sleep(_AGAIN_S)
                self._wanted.set()
            except Exception:
                log.exception("reading contracts failed; they are read when an event asks for them")

    async def _read_due(self) -> None:
        if None in self._due:
            try:
                rows = await self._pool.fetch(_TENANTS, TENANTS_MAX, timeout_s=_TIMEOUT_S)
            except (SettingsError, asyncpg.PostgresError) as error:
                raise StoreUnavailable(f"contracts can't be read: {error}") from error
            self._due.update(row["tenant"] for row in rows)
            self._due.discard(None)
        for tenant in list(self._due):
            assert tenant is not None
            await asyncio.shield(self._read(tenant))
            if self.cached(tenant) is not None:
                self._due.discard(tenant)
            else:
                self._wanted.set()  # it changed once more meanwhile


def _validators(texts: Mapping[str, str], known: Mapping[str, Validator]) -> dict[str, Validator]:
    """Contracts ready for events; those that are as they were stay compiled."""
    made: dict[str, Validator] = {}
    for event_type, text in texts.items():
        try:
            contract = definition.decode(text)
        except msgspec.MsgspecError as error:
            # written by another version, or by hand: until it is mended, the type counts as not registered
            log.error("the contract of an event type can't be used: %s", error)  # noqa: TRY400
            continue
        before = known.get(event_type)
        made[event_type] = (
            before if before is not None and before.contract == contract else Validator(event_type, contract)
        )
    return made


if TYPE_CHECKING:

    def _is_a_directory(contracts: StoredContracts) -> ContractDirectory:
        return contracts
