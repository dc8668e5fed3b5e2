"""Keys by the ten thousand, straight into PostgreSQL: the command line makes one at a time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg

from bench.children import BenchError

#: With triggers: a row of `changes` for each key, a minute for 100,000. Nobody knows these keys yet.
_INSERT = """
    ALTER TABLE sources DISABLE TRIGGER USER;
    ALTER TABLE keys DISABLE TRIGGER USER;
    INSERT INTO sources (id, tenant, name, rate, burst)
        SELECT 'src_many_' || n, 'bench', 'many', 1000000, 1000000 FROM generate_series(1, {count}) n
        ON CONFLICT DO NOTHING;
    INSERT INTO keys (id, kind, prefix, sha256, tenant, source_id)
        SELECT 'key_many_' || n, 'pipeline', 'dk_test_0000', sha256(('dk_test_' || lpad(n::text, 32, '0'))::bytea),
               'bench', 'src_many_' || n FROM generate_series(1, {count}) n
        ON CONFLICT DO NOTHING;
    ALTER TABLE sources ENABLE TRIGGER USER;
    ALTER TABLE keys ENABLE TRIGGER USER;
    ANALYZE sources;
    ANALYZE keys;
"""


def make_keys(data: Path, count: int) -> None:
    """`dk_test_` and 1 to `count` in 32 digits, each of a source of its own, in the embedded PostgreSQL of `data`."""
    try:
        dsn = json.loads((data / "run.json").read_text("utf-8"))["postgres_dsn"]
    except (OSError, ValueError, KeyError) as error:
        raise BenchError(f"the embedded PostgreSQL can't be found: {error!r}") from error
    asyncio.run(_insert(dsn, count))


async def _insert(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_INSERT.format(count=count), timeout=120)
    finally:
        await connection.close()
