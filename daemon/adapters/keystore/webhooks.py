"""`ports.WebhookDirectory`: webhooks by their id, with their settings compiled and their secrets open."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import msgspec

from daemon.adapters.keystore.byid import CachedById
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.sealing import Sealer
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.events.webhooks import BadConfig, Mapper, read_config
from daemon.ports import Webhook, WebhookDirectory

log = logging.getLogger(__name__)

_WEBHOOK = """
    SELECT source_id, config::text AS config, secret_sealed, previous_sealed, previous_until
    FROM webhooks WHERE id = $1 AND enabled
"""
#: An id of ours at all; anything else is refused without a look-up.
_ID = re.compile(r"wh_[0-9A-Za-z]{1,60}", re.ASCII)


class StoredWebhooks:
    """Reads webhooks from PostgreSQL, and keeps them until the key store's feed says that they changed."""

    def __init__(self, pool: PostgresPool, keys: CachedKeyStore, sealer: Sealer, settings: Settings) -> None:
        self._pool = pool
        self._sealer = sealer
        self._rows: CachedById[Webhook] = CachedById.of(self._load, settings.keys)
        keys.on_change(self._rows.forget)

    async def webhook(self, webhook_id: str) -> Webhook | None:
        return await self._rows.get(webhook_id) if _ID.fullmatch(webhook_id) else None

    async def _load(self, webhook_id: str) -> Webhook | None:
        rows = await self._pool.fetch(_WEBHOOK, webhook_id)
        if not rows:
            return None
        row = rows[0]
        try:
            mapper = Mapper(read_config(msgspec.json.decode(row["config"])))
        except BadConfig as error:
            # written by another version, or by hand: the sender is asked to come back until it is mended
            log.error("the settings of webhook %s can't be used: %s", webhook_id, error)  # noqa: TRY400
            raise StoreUnavailable(f"the settings of webhook {webhook_id} can't be used") from None
        previous_until = row["previous_until"]
        return Webhook(
            id=webhook_id,
            source_id=row["source_id"],
            mapper=mapper,
            secret=self._open(row["secret_sealed"], webhook_id),
            previous=self._open(row["previous_sealed"], webhook_id),
            previous_until_s=0.0 if previous_until is None else previous_until.timestamp(),
        )

    def _open(self, sealed: bytes | None, webhook_id: str) -> bytes | None:
        return None if sealed is None else self._sealer.open(sealed, webhook_id)


if TYPE_CHECKING:

    def _is_a_directory(webhooks: StoredWebhooks) -> WebhookDirectory:
        return webhooks
