"""
Sources and keys, as the commands change them.

Every change bumps the source's version, is numbered by the database (see the triggers in 0001), and is
announced through Redis after it was committed. Should Redis be away, the frontends read it from
PostgreSQL half a second later.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres import checks, tokens
from daemon.adapters.postgres.apikeys import ApiKeyCatalog
from daemon.adapters.postgres.changing import changing
from daemon.adapters.postgres.contracts import ContractCatalog
from daemon.adapters.postgres.keyinfo import KeyInfo, KeyKind, key_info
from daemon.adapters.postgres.merchants import MerchantCatalog
from daemon.adapters.postgres.pool import Connection, PostgresPool, Row
from daemon.adapters.postgres.webhooks import WebhookCatalog
from daemon.adapters.sealing import Sealer
from daemon.errors import NotFound, UsageError
from daemon.ports import Source

Mode = Literal["development", "production"]

#: Keys that an ambiguous prefix names in its error.
_CANDIDATES = 10
_COLUMNS = "id, tenant, name, enabled, origins, rate, burst, cookie_domain, version, created_at, updated_at"


class SourceInfo(Source, frozen=True, gc=False, kw_only=True):
    """A source with when it was made and last changed (UTC)."""

    created_at: datetime
    updated_at: datetime


class Created(Struct, frozen=True):
    """A new source with its keys in clear: the only time that they are seen."""

    source: SourceInfo
    pipeline_key: str
    secret_key: str


class SourceCatalog:
    """Tenants, sources and keys in PostgreSQL."""

    def __init__(self, pool: PostgresPool, shared: SharedKeys, sealer: Sealer, mode: Mode) -> None:
        """`mode` decides whether new keys say `live` or `test`."""
        self._pool = pool
        self._shared = shared
        self._sealer = sealer
        self._mode = mode
        #: their webhooks
        self.webhooks = WebhookCatalog(pool, shared, sealer)
        #: the contracts of ResultFly's event types
        self.contracts = ContractCatalog(pool, shared)
        #: TrackLayer's merchants, and the keys that servers of ResultFly and TrackLayer have
        self.merchants = MerchantCatalog(pool, shared)
        self.api_keys = ApiKeyCatalog(pool, shared, self.merchants, mode)

    # --- sources ------------------------------------------------------------------------------------

    async def create_source(
        self,
        tenant: str,
        name: str,
        origins: Iterable[str] = (),
        rate: float | None = None,
        burst: int | None = None,
        cookie_domain: str | None = None,
    ) -> Created:
        """
        A new source with its keys; an unknown tenant is made too.

        `origins` may send from pages, `rate` (requests/s) and `burst` are None for the settings'
        default, `cookie_domain` None for host-only cookies. Raises UsageError, StoreUnavailable.
        """
        row = (
            checks.name(tenant, "tenant"),
            checks.name(name, "name"),
            checks.origins(origins),
            checks.rate(rate),
            checks.burst(burst),
            checks.cookie_domain(cookie_domain),
        )
        source_id = tokens.new_id("src")
        async with changing(self._pool, self._shared) as connection:
            await connection.execute("INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING", row[0])
            created = await connection.fetchrow(
                "INSERT INTO sources (id, tenant, name, origins, rate, burst, cookie_domain) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *",
                source_id,
                *row,
            )
            assert created is not None
            pipeline_key = await self._add_pipeline_key(connection, source_id, row[0])
            secret_key = await self._set_secret_key(connection, source_id, row[0])
        return Created(_source_info(created), pipeline_key, secret_key)

    async def list_sources(self) -> list[SourceInfo]:
        """All sources, by tenant and name."""
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM sources ORDER BY tenant, name, id")  # noqa: S608
        return [_source_info(row) for row in rows]

    async def get_source(self, source_id: str) -> SourceInfo:
        """One source. Raises NotFound."""
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM sources WHERE id = $1", source_id)  # noqa: S608
        if not rows:
            raise NotFound(f"there is no source {source_id!r}; `headgate sources list` shows all")
        return _source_info(rows[0])

    async def update_source(self, source_id: str, **changes: Any) -> SourceInfo:
        """
        Change `name`, `origins`, `rate`, `burst`, `cookie_domain` or `enabled`; None puts back the default.

        Raises UsageError for a value or a name that does not fit, NotFound.
        """
        values = {field: _checked(field, value) for field, value in changes.items()}
        sets = "".join(f"{field} = ${number}, " for number, field in enumerate(values, start=2))
        async with changing(self._pool, self._shared) as connection:
            row = await connection.fetchrow(
                f"UPDATE sources SET {sets}version = version + 1, updated_at = now() "  # noqa: S608 checked names
                f"WHERE id = $1 RETURNING {_COLUMNS}",
                source_id,
                *values.values(),
            )
            if row is None:
                raise NotFound(f"there is no source {source_id!r}; `headgate sources list` shows all")
        return _source_info(row)

    async def disable_source(self, source_id: str) -> SourceInfo:
        """From now on the source's keys are answered like bad ones. Raises NotFound."""
        return await self.update_source(source_id, enabled=False)

    async def enable_source(self, source_id: str) -> SourceInfo:
        """The source's keys are good again. Raises NotFound."""
        return await self.update_source(source_id, enabled=True)

    # --- keys ---------------------------------------------------------------------------------------

    async def list_keys(self) -> list[KeyInfo]:
        """All keys, revoked ones too, oldest first."""
        rows = await self._pool.fetch("SELECT * FROM keys ORDER BY created_at, id")
        return [key_info(row) for row in rows]

    async def revoke_key(self, id_or_prefix: str) -> KeyInfo:
        """
        End a key, named by its id, by the beginning that lists show, or by the key itself.

        One that is revoked already stays as it is. Raises NotFound, and UsageError naming the
        candidates when a prefix fits several keys.
        """
        wanted = id_or_prefix.strip()
        if not wanted:
            raise UsageError("name a key by its id or its prefix; `headgate keys list` shows both")
        async with changing(self._pool, self._shared) as connection:
            rows = await connection.fetch(
                "SELECT * FROM keys WHERE id = $1 OR sha256 = $2 FOR UPDATE", wanted, tokens.digest(wanted)
            )
            if not rows:
                # Lists show `prefix`; a little less or a little more of the key than that names it as well.
                rows = await connection.fetch(
                    "SELECT * FROM keys WHERE starts_with(prefix, $1) ORDER BY created_at, id FOR UPDATE",
                    wanted,
                )
                active = [row for row in rows if row["revoked_at"] is None]
                rows = active or rows
            if not rows:
                raise NotFound(f"there is no key {_hidden(wanted)!r}; `headgate keys list` shows all")
            if len(rows) > 1:
                shown = ", ".join(f"{row['id']} ({row['prefix']}…)" for row in rows[:_CANDIDATES])
                more = f" and {len(rows) - _CANDIDATES} more" if len(rows) > _CANDIDATES else ""
                raise UsageError(f"{wanted!r} fits {len(rows)} keys: {shown}{more}; name one by its id")
            row = await connection.fetchrow(
                "UPDATE keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING *",
                rows[0]["id"],
            )
            assert row is not None
            if row["kind"] == "secret" and rows[0]["revoked_at"] is None:
                await connection.execute(
                    "UPDATE sources SET secret_sealed = NULL, version = version + 1, updated_at = now() WHERE id = $1",
                    row["source_id"],
                )
        return key_info(row)

    async def holds_key(self, source_id: str, token: str) -> bool:
        """Whether `token` is, or was until it was revoked, a key of that source."""
        rows = await self._pool.fetch(
            "SELECT 1 FROM keys WHERE sha256 = $1 AND source_id = $2", tokens.digest(token), source_id
        )
        return bool(rows)

    async def new_keys(self, source_id: str) -> Created:
        """
        Another pipeline key (the older ones stay good) and a new secret key in place of the old one.

        Raises NotFound.
        """
        source = await self.get_source(source_id)
        async with changing(self._pool, self._shared) as connection:
            pipeline_key = await self._add_pipeline_key(connection, source_id, source.tenant)
            secret_key = await self._set_secret_key(connection, source_id, source.tenant)
        return Created(await self.get_source(source_id), pipeline_key, secret_key)

    async def secret_of(self, source_id: str) -> str | None:
        """The source's secret key in clear, as an HMAC needs it; None when it has none. Raises NotFound."""
        rows = await self._pool.fetch("SELECT secret_sealed FROM sources WHERE id = $1", source_id)
        if not rows:
            raise NotFound(f"there is no source {source_id!r}")
        sealed = rows[0]["secret_sealed"]
        return None if sealed is None else self._sealer.open(sealed, source_id).decode()

    async def _add_pipeline_key(self, connection: Connection, source_id: str, tenant: str) -> str:
        token = tokens.new_pipeline_key(self._mode)
        await self._add_key(connection, "pipeline", token, source_id, tenant)
        return token

    async def _set_secret_key(self, connection: Connection, source_id: str, tenant: str) -> str:
        token = tokens.new_secret_key()
        await connection.execute(
            "UPDATE keys SET revoked_at = now() WHERE source_id = $1 AND kind = 'secret' AND revoked_at IS NULL",
            source_id,
        )
        await connection.execute(
            "UPDATE sources SET secret_sealed = $2 WHERE id = $1",
            source_id,
            self._sealer.seal(token.encode(), source_id),
        )
        await self._add_key(connection, "secret", token, source_id, tenant)
        return token

    @staticmethod
    async def _add_key(
        connection: Connection, kind: KeyKind, token: str, source_id: str, tenant: str
    ) -> None:
        await connection.execute(
            "INSERT INTO keys (id, kind, prefix, sha256, tenant, source_id) VALUES ($1, $2, $3, $4, $5, $6)",
            tokens.new_id("key"),
            kind,
            tokens.shown_prefix(token),
            tokens.digest(token),
            tenant,
            source_id,
        )


def _checked(field: str, value: Any) -> Any:
    match field:
        case "name":
            return checks.name(value, "name")
        case "origins":
            return checks.origins(value or ())
        case "rate":
            return checks.rate(value)
        case "burst":
            return checks.burst(value)
        case "cookie_domain":
            return checks.cookie_domain(value)
        case "enabled":
            return bool(value)
    raise UsageError(f"a source has no {field!r} that can be changed")


def _source_info(row: Row) -> SourceInfo:
    return SourceInfo(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        enabled=row["enabled"],
        origins=tuple(row["origins"]),
        rate_per_s=row["rate"],
        burst=row["burst"],
        cookie_domain=row["cookie_domain"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _hidden(wanted: str) -> str:
    # Somebody may have pasted a whole key, which has no business in logs.
    return wanted if wanted.startswith("key_") or len(wanted) <= 16 else f"{wanted[:12]}…"
