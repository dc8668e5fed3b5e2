"""PostgreSQL, as `headgate check` looks at it; it changes nothing there."""

from __future__ import annotations

import urllib.parse

import asyncpg
import msgspec

from daemon.adapters.postgres.migrate import migrations
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.probes.finding import Finding
from daemon.config.schema import Postgres
from daemon.errors import SettingsError, StoreUnavailable

SUBJECT = "postgres"

#: Longer than the daemon waits: a check should tell a slow server from none.
TIMEOUT_S = 5.0

#: `INSERT … ON CONFLICT`, `gen_random_uuid()` and declarative partitions as they are used.
VERSION_MIN = 14


async def probe_postgres(postgres: Postgres) -> list[Finding]:
    """Try the server of `postgres.dsn`: reach, version, schema, rights, room for our connections."""
    place = place_of(postgres.dsn)
    pool = PostgresPool(
        msgspec.structs.replace(postgres, timeout_s=max(TIMEOUT_S, postgres.timeout_s), pool_max=1)
    )
    try:
        await pool.start()
        [row] = await pool.fetch(
            "SELECT current_setting('server_version') AS version, "
            "current_setting('server_version_num')::int AS number, "
            "current_setting('max_connections')::int AS connections, "
            "pg_is_in_recovery() AS standby, "
            "has_schema_privilege(current_schema(), 'CREATE') AS may_create, "
            "to_regclass('headgate_schema') IS NOT NULL AS migrated"
        )
        schema = 0
        if row["migrated"]:
            [[schema]] = await pool.fetch("SELECT coalesce(max(version), 0) FROM headgate_schema")
    except SettingsError as error:
        return [Finding(SUBJECT, "failed", str(error), "correct user, password and database in postgres.dsn")]
    except (StoreUnavailable, asyncpg.PostgresError) as error:
        return [Finding(SUBJECT, "failed", f"{place}: {error}", "start the server, or correct postgres.dsn")]
    finally:
        await pool.stop()
    findings = [Finding(SUBJECT, "ok", f"PostgreSQL {row['version'].split()[0]} at {place}")]
    if row["number"] < VERSION_MIN * 10_000:
        findings.append(
            Finding(
                SUBJECT,
                "failed",
                f"version {row['version']} is too old",
                f"take PostgreSQL {VERSION_MIN} or later",
            )
        )
    if row["standby"]:
        findings.append(
            Finding(
                SUBJECT, "failed", "it is a standby, and can't be written", "name the primary in postgres.dsn"
            )
        )
    return [*findings, _schema(schema, may_create=bool(row["may_create"]))]


def _schema(version: int, *, may_create: bool) -> Finding:
    newest, subject = len(migrations()), f"{SUBJECT} schema"
    if version > newest:
        return Finding(
            subject,
            "failed",
            f"version {version}, and this Headgate knows no newer one than {newest}",
            "run a newer Headgate, or give postgres.dsn a database of its own",
        )
    if version == newest:
        return Finding(subject, "ok", f"version {version}, the newest")
    if not may_create:
        return Finding(
            subject,
            "failed",
            f"version {version} of {newest}, and this user may not create tables",
            "GRANT CREATE, USAGE ON SCHEMA public TO the user of postgres.dsn",
        )
    return Finding(subject, "ok", f"version {version} of {newest}: `headgate run` brings it up to date")


def place_of(dsn: str) -> str:
    """Host, port and database of a DSN, without user and password."""
    try:
        parts = urllib.parse.urlsplit(dsn)
        query = urllib.parse.parse_qs(parts.query)
        host = parts.hostname or query.get("host", ["localhost"])[0]
        port = parts.port or int(query.get("port", ["5432"])[0])
    except ValueError:
        return "the server of postgres.dsn"
    return (
        f"{host}:{port}{parts.path}"
        if not host.startswith("/")
        else f"{host}{parts.path and ' '}{parts.path[1:]}"
    )
