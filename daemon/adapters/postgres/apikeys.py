"""Keys that servers of ResultFly and TrackLayer send with: made here, listed and revoked like all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres import checks, tokens
from daemon.adapters.postgres.changing import changing
from daemon.adapters.postgres.keyinfo import KeyInfo, key_info
from daemon.adapters.postgres.merchants import MerchantCatalog
from daemon.adapters.postgres.pool import Connection, PostgresPool
from daemon.errors import UsageError

ApiKeyKind = Literal["cdp", "merchant"]

#: What a key of a kind may be allowed; the first is what it is allowed when nothing is said.
SCOPES: dict[ApiKeyKind, tuple[str, ...]] = {
    "cdp": ("cdp:events:write", "cdp:contracts:write", "cdp:contracts:read"),
    "merchant": ("events:write", "events:read", "platforms:read", "admin"),
}


class CreatedKey(Struct, frozen=True):
    """A new key in clear: the only time that it is seen."""

    key: KeyInfo
    api_key: str


class ApiKeyCatalog:
    """API keys in PostgreSQL."""

    def __init__(
        self,
        pool: PostgresPool,
        shared: SharedKeys,
        merchants: MerchantCatalog,
        mode: Literal["development", "production"],
    ) -> None:
        """`mode` decides whether new keys say `live` or `test`."""
        self._pool = pool
        self._shared = shared
        self._merchants = merchants
        self._mode = mode

    async def create_for_tenant(
        self,
        tenant: str,
        scopes: Iterable[str] = (),
        rate: float | None = None,
        burst: int | None = None,
    ) -> CreatedKey:
        """
        A key of ResultFly; an unknown tenant is made too.

        `rate` (requests/s) and `burst` are None for the settings' default. Raises UsageError.
        """
        owner = checks.name(tenant, "tenant")
        return await self._create("cdp", owner, None, scopes, rate, burst)

    async def create_for_merchant(
        self,
        merchant_id: str,
        scopes: Iterable[str] = (),
        rate: float | None = None,
        burst: int | None = None,
    ) -> CreatedKey:
        """A key of TrackLayer for an existing merchant. Raises NotFound, UsageError."""
        merchant = await self._merchants.get(merchant_id)
        return await self._create("merchant", merchant.tenant, merchant.merchant_id, scopes, rate, burst)

    async def holds(self, token: str, *, tenant: str, merchant_id: str | None = None) -> bool:
        """Whether `token` is, or was until it was revoked, a key of that tenant, or of that merchant."""
        rows = await self._pool.fetch(
            "SELECT 1 FROM keys WHERE sha256 = $1 AND tenant = $2 "
            "AND merchant_id::text IS NOT DISTINCT FROM $3",
            tokens.digest(token),
            tenant,
            merchant_id,
        )
        return bool(rows)

    async def _create(
        self,
        kind: ApiKeyKind,
        tenant: str,
        merchant_id: str | None,
        scopes: Iterable[str],
        rate: float | None,
        burst: int | None,
    ) -> CreatedKey:
        allowed = checked_scopes(kind, scopes)
        limits = checks.rate(rate), checks.burst(burst)
        token = tokens.new_api_key(kind, self._mode)
        async with changing(self._pool, self._shared) as connection:
            key = await self._add(connection, kind, token, tenant, merchant_id, allowed, limits)
        return CreatedKey(key, token)

    @staticmethod
    async def _add(
        connection: Connection,
        kind: ApiKeyKind,
        token: str,
        tenant: str,
        merchant_id: str | None,
        scopes: list[str],
        limits: tuple[float | None, int | None],
    ) -> KeyInfo:
        await connection.execute("INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING", tenant)
        row = await connection.fetchrow(
            "INSERT INTO keys (id, kind, prefix, sha256, tenant, merchant_id, scopes, rate, burst) "
            "VALUES ($1, $2, $3, $4, $5, $6::text::uuid, $7, $8, $9) RETURNING *",
            tokens.new_id("key"),
            kind,
            tokens.shown_prefix(token),
            tokens.digest(token),
            tenant,
            merchant_id,
            scopes,
            *limits,
        )
        assert row is not None
        return key_info(row)


def checked_scopes(kind: ApiKeyKind, scopes: Iterable[str]) -> list[str]:
    """The scopes, each once, in the order of SCOPES; the first of them when none is given. Raises UsageError."""
    known = SCOPES[kind]
    wanted = {scope.strip() for scope in scopes}
    for scope in sorted(wanted.difference(known)):
        raise UsageError(f"scope {scope!r}: a key of kind {kind} may have {', '.join(known)}")
    return [scope for scope in known if scope in wanted] or [known[0]]
