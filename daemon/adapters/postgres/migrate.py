"""
The schema, by numbered files: `migrations/NNNN_what.sql`, each applied once, in order, in a transaction.

Several processes may migrate at the same time: an advisory lock lets one do it while the others wait.
"""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec import Struct

from daemon.adapters.postgres.pool import Connection, PostgresPool
from daemon.errors import SettingsError

log = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent / "migrations"
#: "headgate" as a number; any other program on the same database has hardly the same.
_LOCK = 0x6865_6164_6761_7465
#: A migration may rewrite tables, and another process may have to be waited for.
_TIMEOUT_S = 120.0


class Migration(Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All steps that this Headgate knows, oldest first."""
    steps = []
    for path in sorted(_FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        number, _, name = path.stem.partition("_")
        steps.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    assert [step.version for step in steps] == list(range(1, len(steps) + 1)), "numbers without gaps"
    return steps


async def migrate(pool: PostgresPool) -> int:
    """
    Bring the database to the newest schema; returns its version.

    Raises SettingsError when the database's schema is newer than this Headgate, StoreUnavailable when
    the server is away.
    """
    known = migrations()
    async with pool.transaction(_TIMEOUT_S) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_TIMEOUT_S)
        version = await _version(connection)
        if version > len(known):
            raise SettingsError(
                f"the database has schema {version}, this Headgate knows no newer one than {len(known)}: "
                "run a newer Headgate, or give postgres.dsn a database of its own",
                "postgres.dsn",
            )
        for step in known[version:]:
            await connection.execute(step.text, timeout=_TIMEOUT_S)
            await connection.execute(
                "INSERT INTO headgate_schema (version, name) VALUES ($1, $2)", step.version, step.name
            )
            log.info("the database's schema is at version %d (%s)", step.version, step.name)
    return len(known)


async def _version(connection: Connection) -> int:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS headgate_schema "
        "(version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM headgate_schema"))
