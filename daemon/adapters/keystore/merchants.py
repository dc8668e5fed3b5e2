"""`ports.MerchantDirectory`: merchants by their id, for browser events, which carry no key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.adapters.keystore.byid import CachedById
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.postgres.pool import PostgresPool
from daemon.config.schema import Settings
from daemon.ports import Merchant, MerchantDirectory

_MERCHANT = "SELECT tenant, name FROM merchants WHERE id = $1::text::uuid AND enabled"
#: The one form in which a merchant's id is asked for, and in which changes name it.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


class StoredMerchants:
    """Reads merchants from PostgreSQL, and keeps them until the key store's feed says that they changed."""

    def __init__(self, pool: PostgresPool, keys: CachedKeyStore, settings: Settings) -> None:
        self._pool = pool
        self._rows: CachedById[Merchant] = CachedById.of(self._load, settings.keys)
        keys.on_change(self._rows.forget)

    async def merchant(self, merchant_id: str) -> Merchant | None:
        return await self._rows.get(merchant_id) if _ID.fullmatch(merchant_id) else None

    async def _load(self, merchant_id: str) -> Merchant | None:
        rows = await self._pool.fetch(_MERCHANT, merchant_id)
        return Merchant(merchant_id, rows[0]["tenant"], rows[0]["name"]) if rows else None


if TYPE_CHECKING:

    def _is_a_directory(merchants: StoredMerchants) -> MerchantDirectory:
        return merchants
