"""A profile with all that is known of it, found by one of its identifiers or by its id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from daemon.adapters.postgres.pool import Connection, PostgresPool
from daemon.errors import NotFound
from daemon.events.contacts import normal_email, normal_phone
from daemon.events.profiles import TYPES, digest
from daemon.events.stored import Identifier

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)

_BY_IDENTIFIER = """
SELECT i.profile_id FROM unnest($2::text[], $3::uuid[]) WITH ORDINALITY AS g (type, digest, place)
JOIN profile_identifiers i ON i.tenant = $1 AND i.type = g.type AND i.digest = g.digest
ORDER BY g.place LIMIT 1
"""
_BY_ID = "SELECT coalesce(merged_into, id) FROM profiles WHERE tenant = $1 AND id = $2"
_IDENTIFIERS = "SELECT type, value FROM profile_identifiers WHERE profile_id = $1 ORDER BY linked_at, value"
_MERGES = """
SELECT m.from_id, m.into_id, m.cause, m.merged_at
FROM profiles p JOIN profile_merges m ON m.from_id = p.id
WHERE p.merged_into = $1 ORDER BY m.merged_at, m.from_id
"""
_CONFLICTS = """
SELECT type, value, kept_by, events, last_at FROM profile_conflicts WHERE profile_id = $1 ORDER BY last_at, value
"""
_ANY = "SELECT EXISTS (SELECT FROM profiles WHERE tenant = $1)"


class Merged(Struct, frozen=True):
    """A profile that became part of another one."""

    from_id: str
    into_id: str
    cause: str
    at: datetime


class Conflicted(Struct, frozen=True):
    """An identifier that `events` events carried and that stays with `kept_by` (None: with nobody)."""

    type: str
    value: str
    kept_by: str | None
    events: int
    at: datetime


class Profile(Struct, frozen=True):
    """A profile that is left. Ids are UUIDs in their usual form; identifiers stand best first."""

    id: str
    tenant: str
    identifiers: list[Identifier]
    merges: list[Merged]
    conflicts: list[Conflicted]


def candidates(text: str, region: str) -> list[Identifier]:
    """
    The identifiers that `text` may mean, the most likely first: as it is, then as the door would write it.

    `region` is the country whose national notation of phone numbers is read ("": none).
    """
    found = [Identifier(kind, text) for kind in TYPES]
    found += [Identifier("EMAIL", normal_email(text))]
    # With letters in it, the digits alone would be somebody else's number.
    phone = None if any(map(str.isalpha, text)) else normal_phone(text, region)
    found += [Identifier("PHONE", phone)] if phone else []
    stripped = text.strip()
    found += [Identifier(kind, stripped) for kind in ("EXTERNAL", "DEVICE_KEY")]
    return [one for one in dict.fromkeys(found) if one.value]


async def find_profile(pool: PostgresPool, tenant: str, text: str, region: str) -> Profile:
    """
    The profile that has the identifier `text`, or this id; of one that was merged away the one that is left.

    Raises NotFound, StoreUnavailable.
    """
    async with pool.transaction() as connection:
        # One moment for all of it.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = await _find(connection, tenant, text, region)
        if found is None:
            raise NotFound(await _why_not(connection, tenant, text, region))
        identifiers = [Identifier(*row) for row in await connection.fetch(_IDENTIFIERS, found)]
        merges = await connection.fetch(_MERGES, found)
        conflicts = await connection.fetch(_CONFLICTS, found)
    identifiers.sort(key=lambda one: TYPES.index(one.type))
    return Profile(
        str(found),
        tenant,
        identifiers,
        [Merged(str(row[0]), str(row[1]), row[2], row[3]) for row in merges],
        [
            Conflicted(row[0], row[1], str(row[2]) if row[2] is not None else None, row[3], row[4])
            for row in conflicts
        ],
    )


async def _find(connection: Connection, tenant: str, text: str, region: str) -> object | None:
    wanted = candidates(text, region)
    kinds: Sequence[str] = [one.type for one in wanted]
    found: object | None = await connection.fetchval(
        _BY_IDENTIFIER, tenant, kinds, [digest(one.value) for one in wanted]
    )
    if found is None and _UUID.fullmatch(text.strip()):
        found = await connection.fetchval(_BY_ID, tenant, text.strip())
    return found


async def _why_not(connection: Connection, tenant: str, text: str, region: str) -> str:
    if not await connection.fetchval(_ANY, tenant):
        return (
            f"the tenant {tenant!r} has no profiles; they come with ResultFly's events, once the processor has "
            "stored them"
        )
    tried = dict.fromkeys(one.value for one in candidates(text, region) if one.value != text)
    also = f" (nor {', '.join(map(repr, tried))})" if tried else ""
    return (
        f"no profile of the tenant {tenant!r} has the identifier {text!r}{also}, and none has it for its id"
    )
