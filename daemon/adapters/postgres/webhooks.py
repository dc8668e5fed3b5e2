"""Webhooks, as the commands change them; every change is announced like one of a source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres import checks, tokens
from daemon.adapters.postgres.changing import changing
from daemon.adapters.postgres.pool import PostgresPool, Row
from daemon.adapters.sealing import Sealer
from daemon.errors import NotFound, UsageError
from daemon.events.signatures.providers import standard_key
from daemon.events.webhooks import Kind, Mapper, WebhookConfig, read_config

#: Bytes of a secret; providers' have 32 to 100.
_SECRET_BYTES_MAX = 1024
#: A month: whoever needs longer has forgotten it.
OVERLAP_S_MAX = 31 * 86400.0

_COLUMNS = (
    "w.id, w.source_id, s.tenant, w.name, w.kind, w.config::text AS config, w.enabled, w.previous_until, "
    "w.secret_sealed IS NOT NULL AS signed, w.created_at, w.updated_at"
)
_FROM = "FROM webhooks w JOIN sources s ON s.id = w.source_id"


class WebhookInfo(Struct, frozen=True, kw_only=True):
    """
    A webhook as it may be shown.

    `config` is what the operator wrote; `signed` whether it has a secret; `previous_until` until when
    the secret before the last rotation is good, None where there is none (any more).
    """

    id: str
    source: str
    tenant: str
    name: str
    kind: Kind
    enabled: bool
    signed: bool
    previous_until: datetime | None
    config: WebhookConfig
    created_at: datetime
    updated_at: datetime


class WebhookCatalog:
    """Webhooks in PostgreSQL."""

    def __init__(self, pool: PostgresPool, shared: SharedKeys, sealer: Sealer) -> None:
        self._pool = pool
        self._shared = shared
        self._sealer = sealer

    async def create(
        self, source_id: str, config: WebhookConfig, secret: str | None = None, name: str | None = None
    ) -> tuple[WebhookInfo, str | None]:
        """
        A new webhook of a source, and its secret (made when not given; None where nothing is signed).

        Raises UsageError for settings, a secret or a name that can't be used, NotFound for the source.
        """
        Mapper(config)
        label = checks.name(name if name is not None else config.source_type, "name")
        text = msgspec.json.encode(config).decode()
        if "\\u0000" in text:
            raise UsageError(
                "a webhook's mapping holds a NUL character (\\u0000), which PostgreSQL can't keep"
            )
        secret = _secret(config, secret)
        webhook_id = tokens.new_id("wh")
        sealed = None if secret is None else self._sealer.seal(secret.encode(), webhook_id)
        async with changing(self._pool, self._shared) as connection:
            if not await connection.fetchval("SELECT 1 FROM sources WHERE id = $1", source_id):
                raise NotFound(f"there is no source {source_id!r}; `headgate sources list` shows all")
            await connection.execute(
                "INSERT INTO webhooks (id, source_id, name, kind, config, secret_sealed) "
                "VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)",
                webhook_id,
                source_id,
                label,
                config.source_type,
                text,
                sealed,
            )
        return await self.get(webhook_id), secret

    async def list(self) -> list[WebhookInfo]:
        """All, by tenant, source and age."""
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} {_FROM} ORDER BY s.tenant, s.name, s.id, w.created_at, w.id"
        )
        return [_info(row) for row in rows]

    async def get(self, webhook_id: str) -> WebhookInfo:
        """One. Raises NotFound."""
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} {_FROM} WHERE w.id = $1", webhook_id)
        if not rows:
            raise _unknown(webhook_id)
        return _info(rows[0])

    async def secret_of(self, webhook_id: str) -> str | None:
        """The secret in clear, to sign a sample with; None where nothing is signed. Raises NotFound."""
        rows = await self._pool.fetch("SELECT secret_sealed FROM webhooks WHERE id = $1", webhook_id)
        if not rows:
            raise _unknown(webhook_id)
        sealed = rows[0]["secret_sealed"]
        return None if sealed is None else self._sealer.open(sealed, webhook_id).decode()

    async def rotate(
        self, webhook_id: str, overlap_s: float, secret: str | None = None
    ) -> tuple[WebhookInfo, str]:
        """
        A new secret (made when not given). The one that was good stays so for `overlap_s` seconds more.

        Raises NotFound, UsageError.
        """
        if not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise UsageError(f"an overlap has 0 to {OVERLAP_S_MAX / 86400:g} days")
        config = (await self.get(webhook_id)).config
        fresh = _secret(config, secret)
        if fresh is None:
            raise UsageError(f"{webhook_id} has no secret to rotate: its sender does not sign")
        await self._update(
            webhook_id,
            "previous_sealed = CASE WHEN $3::float8 > 0 THEN secret_sealed END, "
            "previous_until = CASE WHEN $3::float8 > 0 THEN now() + make_interval(secs => $3::float8) END, "
            "secret_sealed = $2",
            self._sealer.seal(fresh.encode(), webhook_id),
            overlap_s,
        )
        return await self.get(webhook_id), fresh

    async def enable(self, webhook_id: str, *, enabled: bool) -> WebhookInfo:
        """Take its requests, or answer them 404. Raises NotFound."""
        await self._update(webhook_id, "enabled = $2", enabled)
        return await self.get(webhook_id)

    async def delete(self, webhook_id: str) -> WebhookInfo:
        """Forget it for good; what it was. Raises NotFound."""
        info = await self.get(webhook_id)
        async with changing(self._pool, self._shared) as connection:
            await connection.execute("DELETE FROM webhooks WHERE id = $1", webhook_id)
        return info

    async def _update(self, webhook_id: str, sets: str, *values: Any) -> None:
        async with changing(self._pool, self._shared) as connection:
            done = await connection.execute(
                f"UPDATE webhooks SET {sets}, updated_at = now() WHERE id = $1",  # noqa: S608  our own texts
                webhook_id,
                *values,
            )
        if done == "UPDATE 0":
            raise _unknown(webhook_id)


def _secret(config: WebhookConfig, given: str | None) -> str | None:
    """The secret to keep: the given one in the form that the kind needs, else a new one."""
    if config.scheme == "none":
        if given is not None:
            raise UsageError("nothing is signed with the scheme none: leave the secret out")
        return None
    if given is None:
        return tokens.new_webhook_secret(config.source_type)
    if not given or given != given.strip() or not given.isprintable():
        raise UsageError("the secret is empty, or has blanks or control characters around or in it")
    if len(given.encode()) > _SECRET_BYTES_MAX:
        raise UsageError(f"the secret is longer than {_SECRET_BYTES_MAX} bytes")
    if config.source_type == "standard-webhooks":
        try:
            standard_key(given.encode())
        except ValueError as error:
            raise UsageError(
                f"a Standard Webhooks secret is base64, mostly after whsec_; this one is not: {error}"
            ) from None
    return given


def _unknown(webhook_id: str) -> NotFound:
    return NotFound(f"there is no webhook {webhook_id!r}; `headgate webhooks list` shows all")


def _info(row: Row) -> WebhookInfo:
    return WebhookInfo(
        id=row["id"],
        source=row["source_id"],
        tenant=row["tenant"],
        name=row["name"],
        kind=row["kind"],
        enabled=row["enabled"],
        signed=row["signed"],
        previous_until=row["previous_until"],
        config=read_config(msgspec.json.decode(row["config"])),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
