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
        SELECT 'src_many_' || n, 'bench', 'many', {rate}, {burst} FROM generate_series(1, {count}) n
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


#: Limits are on, and never reached.
NO_LIMIT = 1_000_000


def make_keys(data: Path, count: int, rate_per_s: float = NO_LIMIT, burst: int = NO_LIMIT) -> None:
    """`dk_test_` and 1 to `count` in 32 digits, each of a source of its own, in the embedded PostgreSQL of `data`."""
    try:
        dsn = json.loads((data / "run.json").read_text("utf-8"))["postgres_dsn"]
    except (OSError, ValueError, KeyError) as error:
        raise BenchError(f"the embedded PostgreSQL can't be found: {error!r}") from error
    asyncio.run(_insert(dsn, _INSERT.format(count=count, rate=rate_per_s, burst=burst)))


async def _insert(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements, timeout=120)
    finally:
        await connection.close()
