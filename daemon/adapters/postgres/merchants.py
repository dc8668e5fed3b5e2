"""TrackLayer's merchants, as the commands change them; every change is announced like one of a source."""

from __future__ import annotations

import contextlib
import re
import unicodedata
import uuid
from datetime import datetime

from msgspec import Struct

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres import checks
from daemon.adapters.postgres.changing import changing
from daemon.adapters.postgres.pool import Connection, PostgresPool, Row
from daemon.errors import NotFound, UsageError

_COLUMNS = "id, tenant, name, enabled, created_at, updated_at"
_NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_CHARS_MAX = 60


class MerchantInfo(Struct, frozen=True, kw_only=True):
    """A merchant as it may be shown. `merchant_id` is a UUID in lower case."""

    merchant_id: str
    tenant: str
    name: str
    enabled: bool
    created_at: datetime
    updated_at: datetime


class MerchantCatalog:
    """Merchants in PostgreSQL."""

    def __init__(self, pool: PostgresPool, shared: SharedKeys) -> None:
        self._pool = pool
        self._shared = shared

    async def create(
        self, name: str, tenant: str | None = None, merchant_id: str | None = None
    ) -> MerchantInfo:
        """
        A new merchant of `tenant`, which is made if it is new; without one, of a new tenant that is called like it.

        `merchant_id` is a UUID that its pages use already; without one it gets its own. Raises UsageError.
        """
        label = checks.name(name, "name")
        owner = None if tenant is None else checks.name(tenant, "tenant")
        wanted = uuid.uuid4() if merchant_id is None else _uuid(merchant_id)
        async with changing(self._pool, self._shared) as connection:
            if owner is None:
                owner = await _own_tenant(connection, slug(label) or str(wanted))
            else:
                await connection.execute(
                    "INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING", owner
                )
            row = await connection.fetchrow(
                "INSERT INTO merchants (id, tenant, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING "  # noqa: S608
                f"RETURNING {_COLUMNS}",
                wanted,
                owner,
                label,
            )
            if row is None:
                raise UsageError(f"there is a merchant {wanted} already; `headgate merchants list` shows all")
        return _info(row)

    async def list(self) -> list[MerchantInfo]:
        """All, by tenant, name and age."""
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM merchants ORDER BY tenant, name, created_at, id"  # noqa: S608
        )
        return [_info(row) for row in rows]

    async def get(self, merchant_id: str) -> MerchantInfo:
        """One. Raises NotFound, UsageError for what is no UUID."""
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM merchants WHERE id = $1",  # noqa: S608
            _uuid(merchant_id),
        )
        if not rows:
            raise unknown_merchant(merchant_id)
        return _info(rows[0])

    async def enable(self, merchant_id: str, *, enabled: bool) -> MerchantInfo:
        """Take its events, or answer its pages 404 and its keys 401. Raises NotFound, UsageError."""
        async with changing(self._pool, self._shared) as connection:
            row = await connection.fetchrow(
                f"UPDATE merchants SET enabled = $2, updated_at = now() WHERE id = $1 RETURNING {_COLUMNS}",  # noqa: S608
                _uuid(merchant_id),
                enabled,
            )
            if row is None:
                raise unknown_merchant(merchant_id)
        return _info(row)


def unknown_merchant(merchant_id: str) -> NotFound:
    """What is said of an id that no merchant has."""
    return NotFound(f"there is no merchant {merchant_id!r}; `headgate merchants list` shows all")


def slug(name: str) -> str:
    """`name` in lower-case ASCII with hyphens, as tenants are mostly called; empty where nothing of it is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _NOT_IN_A_SLUG.sub("-", plain).strip("-")[:_SLUG_CHARS_MAX].strip("-")


async def _own_tenant(connection: Connection, wanted: str) -> str:
    """A new tenant called `wanted`, or that and a number: a merchant must not slip in with another one's tenant."""
    number = 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        made = await connection.fetchval(
            "INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name", name
        )
        if made is not None:
            return name
        number += 1


def _uuid(text: str) -> uuid.UUID:
    found: uuid.UUID | None = None
    with contextlib.suppress(ValueError):
        found = uuid.UUID(text.strip())
    # uuid takes braces, urn: and no hyphens as well; callers' bodies have the one form
    if found is None or str(found) != text.strip().lower():
        raise UsageError(
            f"merchant id {text!r}: a UUID with hyphens, as in 3f2504e0-4f89-41d3-9a0c-0305e82c3301"
        )
    return found


def _info(row: Row) -> MerchantInfo:
    return MerchantInfo(
        merchant_id=str(row["id"]),
        tenant=row["tenant"],
        name=row["name"],
        enabled=row["enabled"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
