"""
`ports.KeyStore`: what a key stands for.

Memory before Redis before PostgreSQL. What memory holds is right because the feed of changes takes out
whatever changed; its time to live only makes it be read again now and then, in the background. A known
key is therefore never kept waiting and never refused because a store is away, until nothing could be
verified for `keys.last_good_s`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from time import monotonic
from typing import TYPE_CHECKING

import asyncpg

from daemon.adapters.keystore.feed import ChangeFeed, unverified_limit_s
from daemon.adapters.keystore.memory import Change, Held, KeyMemory
from daemon.adapters.keystore.origins import OriginSet
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres.pool import PostgresPool, Row
from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Settings
from daemon.errors import SettingsError, StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import ApiKey, KeyStore, Source

log = logging.getLogger(__name__)

#: What a pipeline key can look like at all; anything else is refused without a look-up.
_PIPELINE_KEY = re.compile(r"dk_[0-9A-Za-z_]{12,120}", re.ASCII)
#: The same for the keys of ResultFly and TrackLayer.
_API_KEY = re.compile(r"(?:cdp|tl)_[0-9A-Za-z_]{12,120}", re.ASCII)
_TOKEN_CHARS_MAX = 128

#: Keys of one look-up: one index scan each, together well under a millisecond.
_BATCH = 256
#: Keys being looked up at a time; beyond, a caller is told to come back (a flood of random keys).
_LOADS_MAX = 4096
#: Tries for a key that changes while it is being read.
_TRIES = 3
_LOAD_TIMEOUT_S = 2.0
#: Seconds until a known key whose time has run out is tried again, while that does not work.
_AGAIN_S = 1.0

_LOOKUP = """
    SELECT state.seq, key.sha256, key.kind, source.id, coalesce(source.tenant, key.tenant) AS tenant, source.name,
           source.enabled, source.origins, source.rate, source.burst, source.cookie_domain, source.version,
           key.id AS key_id, key.merchant_id, key.scopes, key.rate AS key_rate, key.burst AS key_burst
    FROM catalog_state state LEFT JOIN
        (keys key LEFT JOIN sources source ON source.id = key.source_id
                  LEFT JOIN merchants merchant ON merchant.id = key.merchant_id)
        ON key.sha256 = ANY($1) AND key.revoked_at IS NULL AND CASE key.kind
            WHEN 'pipeline' THEN source.enabled
            WHEN 'merchant' THEN merchant.enabled
            ELSE key.kind = 'cdp' END
"""
_ORIGINS = "SELECT id, origins FROM sources WHERE enabled AND origins <> '{}'"


class CachedKeyStore:
    """`ports.KeyStore` of one process."""

    def __init__(
        self, pool: PostgresPool, wire: RedisWire, settings: Settings, metrics: StoreMetrics
    ) -> None:
        keys = settings.keys
        self._pool = pool
        self._memory_ttl_s = keys.memory_ttl_s
        self._negative_ttl_s = keys.negative_ttl_s
        self._last_good_s = unverified_limit_s(settings)
        self._memory = KeyMemory(keys.entries_max)
        self._entries = self._memory.entries
        self._wire = wire
        self._shared = SharedKeys(wire, settings)
        self._origins = OriginSet()
        self._feed = ChangeFeed(
            pool,
            settings,
            on_changes=self._changed,
            on_gap=self._missed,
            after_poll=self._load_origins,
            on_unverified=self._unverified,
        )
        self._found = {found: metrics.lookups.at(found)
                       for found in ("memory", "redis", "postgres", "last_good", "unknown")}  # fmt: skip
        self._hits = self._found["memory"]
        self._loading: dict[bytes, asyncio.Future[Held | None]] = {}
        self._queue: list[bytes] = []
        self._wanted = asyncio.Event()
        self._loader: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Iterable[str] | None], None]] = []

    def on_change(self, listener: Callable[[Iterable[str] | None], None]) -> None:
        """Tell `listener` the ids of sources (and of what else the table of changes names) that changed; None: any."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read the origins and the latest changes; stores that are away are waited for in the background."""
        if self._loader is None:
            await self._feed.start()
            self._loader = asyncio.create_task(self._load_wanted(), name="key-loader")

    async def stop(self) -> None:
        """Stop following; look-ups on the way fail."""
        loader, self._loader = self._loader, None
        if loader is not None:
            loader.cancel()
            await asyncio.gather(loader, return_exceptions=True)
        await self._feed.stop()
        for digest in list(self._loading):
            self._fail(digest, StoreUnavailable("this process is stopping"))

    # --- asking -------------------------------------------------------------------------------------

    def cached(self, token: str) -> Source | None:
        held = self._cached(token)
        return held if type(held) is Source else None

    def cached_api_key(self, token: str) -> ApiKey | None:
        held = self._cached(token)
        return held if type(held) is ApiKey else None

    def _cached(self, token: str) -> Held | None:
        try:
            digest = sha256(token.encode()).digest()
        except UnicodeEncodeError:
            return None
        entry = self._entries.get(digest)
        if entry is None or not compare_digest(entry.digest, digest) or entry.until <= monotonic():
            return None
        entry.seen = True
        self._hits.n += 1
        return entry.held

    async def find(self, token: str) -> Source | None:
        held = await self._find(token, _PIPELINE_KEY)
        return held if type(held) is Source else None

    async def find_api_key(self, token: str) -> ApiKey | None:
        held = await self._find(token, _API_KEY)
        return held if type(held) is ApiKey else None

    async def _find(self, token: str, form: re.Pattern[str]) -> Held | None:
        if len(token) > _TOKEN_CHARS_MAX or form.fullmatch(token) is None:
            self._found["unknown"].n += 1
            return None
        digest = sha256(token.encode()).digest()
        now = monotonic()
        entry = self._entries.get(digest)
        if entry is not None:
            if entry.until <= now:
                # Still right as far as the changes are known: read again, but keep nobody waiting.
                entry.until = now + _AGAIN_S
                if len(self._loading) < _LOADS_MAX:
                    self._want(digest)
                unverified = now - self._feed.verified_at > _AGAIN_S
                self._found["last_good" if unverified else "memory"].n += 1
            else:
                self._hits.n += 1
            return entry.held
        if self._memory.is_unknown(digest, now):
            self._found["unknown"].n += 1
            return None
        return await asyncio.shield(self._want(digest))

    @property
    def serving(self) -> tuple[bool, list[str]]:
        """Whether some key can be found, and why not: while all stores are away, what is known must do."""
        if self._entries or self._feed.postgres_up or self._wire.up:
            return True, []
        return False, ["no key can be looked up: PostgreSQL and Redis are away"]

    def origin_listed(self, origin: str) -> bool:
        return self._origins.listed(origin)

    # --- loading ------------------------------------------------------------------------------------

    def _want(self, digest: bytes) -> asyncio.Future[Held | None]:
        """The answer for a key, looked up once for all who ask meanwhile."""
        future = self._loading.get(digest)
        if future is None:
            if len(self._loading) >= _LOADS_MAX:
                raise StoreUnavailable("too many unknown keys are being looked up")
            future = self._loading[digest] = asyncio.get_running_loop().create_future()
            self._queue.append(digest)
            self._wanted.set()
        return future

    async def _load_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
                try:
                    await self._load(batch)
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    # One odd answer must not end the loader for good.
                    log.exception("looking up keys failed")
                    for digest in batch:
                        self._fail(digest, StoreUnavailable(f"the look-up of a key failed: {error!r}"))

    async def _load(self, batch: Sequence[bytes]) -> None:
        memory = self._memory
        known = set(memory.entries).intersection(batch)
        # What is known is read again where it is certain; Redis helps whoever knows nothing yet.
        unknown = [digest for digest in batch if digest not in known or not self._feed.postgres_up]
        found = await self._shared.get(unknown) if unknown else {}
        rest = []
        for digest in batch:
            seq, held = found.get(digest, (-1, None))
            if held is not None and memory.fresh(digest, seq):
                self._settle(digest, held, "redis")
            else:
                rest.append(digest)
        for _ in range(_TRIES):
            if rest:
                rest = await self._load_from_postgres(rest)
        for digest in rest:
            self._fail(digest, StoreUnavailable("the key is being changed"))

    async def _load_from_postgres(self, batch: Sequence[bytes]) -> list[bytes]:
        """Settle what can be; returns the keys that changed while they were read."""
        try:
            if not self._feed.postgres_up:
                # The feed tries twice a second: trying here too would only keep callers waiting.
                raise StoreUnavailable("PostgreSQL is away and the key is not known from before")
            rows = await self._pool.fetch(_LOOKUP, list(batch), timeout_s=_LOAD_TIMEOUT_S)
        except (StoreUnavailable, SettingsError, asyncpg.PostgresError) as error:
            for digest in batch:
                self._fail(digest, error)
            return []
        seq: int = rows[0]["seq"]
        keys = {row["sha256"]: _held(row) for row in rows if row["sha256"] is not None}
        again = [digest for digest in batch if not self._memory.fresh(digest, seq)]
        for digest in batch:
            if digest not in again:
                self._settle(digest, keys.get(digest), "postgres")
        await self._shared.put(seq, [(digest, held) for digest, held in keys.items() if digest not in again])
        return again

    def _settle(self, digest: bytes, held: Held | None, found: str) -> None:
        now = monotonic()
        if held is None:
            self._memory.keep_unknown(digest, now + self._negative_ttl_s)
            found = "unknown"
        else:
            self._memory.keep(digest, held, now + self._memory_ttl_s)
            if isinstance(held, Source) and not self._origins.knows(held.id):
                # PostgreSQL away since the start: better the origins of the keys in use than none.
                self._origins.set(held.id, held.origins)
        self._found[found].n += 1
        future = self._loading.pop(digest, None)
        if future is not None and not future.done():
            future.set_result(held)

    def _fail(self, digest: bytes, error: Exception) -> None:
        future = self._loading.pop(digest, None)
        if future is not None and not future.done():
            # A fresh one for each: a raised exception collects the tracebacks of all its raisers.
            future.set_exception(StoreUnavailable(str(error)))
            future.exception()  # nobody may be waiting

    # --- changes ------------------------------------------------------------------------------------

    def _changed(self, changes: Iterable[Change]) -> None:
        ids = set()
        for change in changes:
            self._memory.apply(change)
            if change.source_id is not None:
                ids.add(change.source_id)
        for listener in self._listeners:
            listener(ids)

    def _missed(self, newest: int) -> None:
        self._memory.forget_all(newest)
        for listener in self._listeners:
            listener(None)

    def _unverified(self, seconds: float) -> None:
        if seconds > self._last_good_s and self._entries:
            log.warning("no store has answered for %.0f s: known keys are no longer believed", seconds)
            self._entries.clear()

    async def _load_origins(self, everything: bool, sources: set[str]) -> None:
        if everything:
            rows = await self._pool.fetch(_ORIGINS)
            self._origins.replace((row["id"], tuple(row["origins"])) for row in rows)
        elif sources:
            rows = await self._pool.fetch(_ORIGINS + " AND id = ANY($1)", list(sources))
            origins = {row["id"]: tuple(row["origins"]) for row in rows}
            for source_id in sources:
                self._origins.set(source_id, origins.get(source_id, ()))


def _held(row: Row) -> Held:
    if row["kind"] == "pipeline":
        return source_of(row)
    merchant_id = row["merchant_id"]
    return ApiKey(
        id=row["key_id"],
        kind=row["kind"],
        tenant=row["tenant"],
        merchant_id=None if merchant_id is None else str(merchant_id),
        scopes=tuple(row["scopes"]),
        rate_per_s=row["key_rate"],
        burst=row["key_burst"],
    )


def source_of(row: Row) -> Source:
    """A row of `sources` as the port's type."""
    return Source(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        enabled=row["enabled"],
        origins=tuple(row["origins"]),
        rate_per_s=row["rate"],
        burst=row["burst"],
        cookie_domain=row["cookie_domain"],
        version=row["version"],
    )


if TYPE_CHECKING:

    def _is_a_key_store(store: CachedKeyStore) -> KeyStore:
        return store
