"""A key as it may be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from daemon.adapters.postgres.pool import Row

KeyKind = Literal["pipeline", "secret", "cdp", "merchant"]


class KeyInfo(Struct, frozen=True, kw_only=True):
    """
    `prefix` is the key's beginning; `source_id` and `merchant_id` are None where it belongs to none.

    `rate_per_s` and `burst` are None for the settings' default (a pipeline key has its source's).
    """

    id: str
    kind: KeyKind
    prefix: str
    tenant: str
    source_id: str | None
    merchant_id: str | None
    scopes: tuple[str, ...]
    rate_per_s: float | None
    burst: int | None
    created_at: datetime
    revoked_at: datetime | None


def key_info(row: Row) -> KeyInfo:
    """A row of `keys`."""
    merchant_id = row["merchant_id"]
    return KeyInfo(
        id=row["id"],
        kind=row["kind"],
        prefix=row["prefix"],
        tenant=row["tenant"],
        source_id=row["source_id"],
        merchant_id=None if merchant_id is None else str(merchant_id),
        scopes=tuple(row["scopes"]),
        rate_per_s=row["rate"],
        burst=row["burst"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
