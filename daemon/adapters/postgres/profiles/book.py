"""
The profiles of a batch: locked by tenant, read, worked out by the pure rule, written.

The lock is a transaction's, of one of 64 buckets of tenants: two processors never work on the same
profiles at once, and what one has written the other sees when its turn comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from msgspec import Struct

from daemon.adapters.postgres.pool import Connection
from daemon.events.profiles import Book, Handle, handles
from daemon.events.stored import StoredEvent, cleaned

#: "hgpr" as a number: the class of the advisory locks of profiles.
_LOCK = 0x6867_7072
#: So many locks at most, whatever number of tenants a batch has: a server has room for some thousands in all.
_BUCKETS = 64

_KNOWN = """
SELECT i.tenant, i.type, i.digest, i.profile_id, p.best
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS g (tenant, type, digest)
JOIN profile_identifiers i USING (tenant, type, digest)
JOIN profiles p ON p.id = i.profile_id
"""
# A profile with this id can only be there if somebody took its identifiers away by hand: then it begins anew.
_CREATE = """
INSERT INTO profiles (id, tenant, best, merged_into, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::uuid[], $5::timestamptz[])
ON CONFLICT (id) DO UPDATE SET best = excluded.best, merged_into = excluded.merged_into
"""
_BETTER = """
UPDATE profiles p SET best = g.best FROM unnest($1::uuid[], $2::smallint[]) AS g (id, best) WHERE p.id = g.id
"""
_LINK = """
INSERT INTO profile_identifiers (tenant, type, digest, value, profile_id, event_id, linked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[])
ON CONFLICT DO NOTHING
"""
_REPOINT = """
UPDATE profile_identifiers i SET profile_id = g.last FROM unnest($1::uuid[], $2::uuid[]) AS g (gone, last)
WHERE i.profile_id = g.gone
"""
_MERGED = """
UPDATE profiles p SET merged_into = g.last FROM unnest($1::uuid[], $2::uuid[]) AS g (gone, last)
WHERE p.id = g.gone
"""
# Those that had gone into one that goes now: the way to the last one stays one step long.
_SHORTEN = """
UPDATE profiles p SET merged_into = g.last FROM unnest($1::uuid[], $2::uuid[]) AS g (gone, last)
WHERE p.merged_into = g.gone
"""
_MERGE = """
INSERT INTO profile_merges (from_id, into_id, tenant, cause, event_id, merged_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
ON CONFLICT DO NOTHING
"""
_CONFLICT = """
INSERT INTO profile_conflicts AS c (profile_id, type, digest, value, kept_by, tenant, events,
                                    first_event_id, last_event_id, first_at, last_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::bigint[],
                     $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[])
ON CONFLICT (profile_id, type, digest) DO UPDATE SET
    events = c.events + excluded.events, kept_by = excluded.kept_by,
    last_event_id = excluded.last_event_id, last_at = excluded.last_at
"""


class Changes(Struct, frozen=True):
    """How many profiles, identifiers, merges and conflicts are new."""

    created: int = 0
    linked: int = 0
    merged: int = 0
    conflicts: int = 0


async def resolve(connection: Connection, events: Sequence[StoredEvent]) -> tuple[list[str | None], Changes]:
    """
    The profile of each event (32 hex digits; None: it has none), as if they came one by one, in their order.

    The connection is in a transaction, which keeps the tenants' locks to its end.
    """
    wanted = {handle for event in events if event.identity for handle in handles(event)}
    if not wanted:
        return [None] * len(events), Changes()
    buckets = sorted({crc32(handle.tenant.encode()) % _BUCKETS for handle in wanted})
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, b) FROM unnest($2::int[]) AS b", _LOCK, buckets
    )
    # After the lock, so that it sees what those before us have committed.
    rows = await connection.fetch(_KNOWN, *_columns(sorted(wanted), 3))
    owners, best = {}, {}
    for tenant, kind, digest, profile, rank in rows:
        owners[Handle(tenant, kind, digest.hex)] = profile.hex
        best[profile.hex] = rank
    book = Book(owners, best)
    profiles = [book.resolve(event) for event in events]
    await _write(connection, book)
    return profiles, Changes(
        len(book.created), len(book.links), len(book.merges), sum(one.events for one in book.conflicts)
    )


async def _write(connection: Connection, book: Book) -> None:
    if created := book.created:
        await connection.execute(_CREATE, *_columns(created, 5))
    if better := book.better:
        await connection.execute(_BETTER, list(better), list(better.values()))
    if links := book.links:
        rows = [
            (*one.handle, cleaned(one.value), one.profile, one.cause.event_id, one.cause.at) for one in links
        ]
        await connection.execute(_LINK, *_columns(rows, 7))
    if moved := book.moved:
        for statement in (_REPOINT, _MERGED, _SHORTEN):
            await connection.execute(statement, list(moved), list(moved.values()))
    if merges := book.merges:
        merged = [(*one[:4], *one.cause) for one in merges]
        await connection.execute(_MERGE, *_columns(merged, 6))
    if conflicts := book.conflicts:
        found = [
            (one.profile, one.handle.type, one.handle.digest, cleaned(one.value), one.kept_by, one.handle.tenant,
             one.events, one.first.event_id, one.last.event_id, one.first.at, one.last.at)
            for one in conflicts
        ]  # fmt: skip
        await connection.execute(_CONFLICT, *_columns(found, 11))


def _columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as the columns that unnest() takes."""
    return [[row[place] for row in rows] for place in range(width)]
