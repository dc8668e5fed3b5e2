"""`ports.SourceDirectory`: sources by their id, and their secrets for checking signatures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.adapters.keystore.byid import CachedById
from daemon.adapters.keystore.store import CachedKeyStore, source_of
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.sealing import Sealer
from daemon.config.schema import Settings
from daemon.ports import Source, SourceDirectory

_SOURCE = """
    SELECT id, tenant, name, enabled, origins, rate, burst, cookie_domain, version, secret_sealed
    FROM sources WHERE id = $1
"""
#: An id of ours at all; anything else is refused without a look-up.
_ID = re.compile(r"src_[0-9A-Za-z]{1,60}", re.ASCII)


class StoredSources:
    """Reads sources from PostgreSQL, and keeps them until the key store's feed says that they changed."""

    def __init__(self, pool: PostgresPool, keys: CachedKeyStore, sealer: Sealer, settings: Settings) -> None:
        self._pool = pool
        self._sealer = sealer
        self._rows: CachedById[tuple[Source, bytes | None]] = CachedById.of(self._load, settings.keys)
        keys.on_change(self._rows.forget)

    async def by_id(self, source_id: str) -> Source | None:
        if not _ID.fullmatch(source_id):
            return None
        found = await self._rows.get(source_id)
        return found[0] if found is not None and found[0].enabled else None

    async def secret(self, source_id: str) -> bytes | None:
        found = await self._rows.get(source_id)
        return found[1] if found is not None else None

    async def _load(self, source_id: str) -> tuple[Source, bytes | None] | None:
        rows = await self._pool.fetch(_SOURCE, source_id)
        if not rows:
            return None
        sealed = rows[0]["secret_sealed"]
        return source_of(rows[0]), None if sealed is None else self._sealer.open(sealed, source_id)


if TYPE_CHECKING:

    def _is_a_directory(sources: StoredSources) -> SourceDirectory:
        return sources
