"""
News of changed keys, by two ways: Redis tells at once, PostgreSQL's table `changes` tells for certain.

Every change of a source or a key writes a numbered row (triggers do, so changes made in SQL count).
The feed reads new rows every `POLL_S`; an announcement in Redis only makes that faster. Each way alone
is enough for "in force within a second", and nothing is lost while one of them is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import asyncpg

from daemon.adapters.keystore.memory import CHANGES_MAX, Change
from daemon.adapters.keystore.shared import channel, read_announcement
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.redis.subscription import Subscription
from daemon.config.schema import Settings
from daemon.errors import SettingsError, StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between looks at the table; with a slow answer on top still under the promised second.
POLL_S = 0.4
_POLL_TIMEOUT_S = 2.0
#: Least seconds between looks: a thousand sources made in a row are announced a thousand times.
_GAP_S = 0.05
_ROWS = 1000

_NEWS = """
    SELECT state.seq AS newest, news.seq, news.source_id, news.digests
    FROM catalog_state state LEFT JOIN LATERAL
        (SELECT seq, source_id, digests FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2) news ON true
    ORDER BY news.seq
"""
_RECENT = """
    SELECT state.seq AS newest, news.seq, news.source_id, news.digests
    FROM catalog_state state LEFT JOIN LATERAL
        (SELECT seq, source_id, digests FROM changes WHERE at > now() - make_interval(secs => $1)
         ORDER BY seq DESC LIMIT $2) news ON true
    ORDER BY news.seq
"""


class ChangeFeed:
    """
    `on_changes` gets new changes, oldest first; `on_gap` the newest number when some were missed.

    Both may be told of a change that is known already. `after_poll` is awaited after every successful
    look at the table with whether it is the first since a gap and the ids of changed sources.
    """

    def __init__(
        self,
        pool: PostgresPool,
        settings: Settings,
        *,
        on_changes: Callable[[Sequence[Change]], None],
        on_gap: Callable[[int], None],
        after_poll: Callable[[bool, set[str]], Awaitable[None]],
        on_unverified: Callable[[float], None],
    ) -> None:
        self._pool = pool
        self._on_changes = on_changes
        self._on_gap = on_gap
        self._after_poll = after_poll
        self._on_unverified = on_unverified
        #: changes are told for as long back as a copy in Redis may live
        self._recent_s = settings.keys.redis_ttl_s + 60.0
        self._seq: int | None = None
        self._polled_at = self._looked_at = monotonic()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._all_due = True
        self._sources_due: set[str] = set()
        self._complained = False
        #: whether PostgreSQL answered the last look
        self.postgres_up = False
        self._subscription = Subscription(settings.redis, channel(settings), self._announced, self._news.set)

    @property
    def verified_at(self) -> float:
        """Changes up to this moment (monotonic) are known."""
        return max(self._polled_at, self._subscription.verified_at)

    async def start(self) -> None:
        """Look once, then follow in the background; never raises for stores that are away."""
        if self._task is None:
            await self._subscription.start()
            await self._poll()
            self._task = asyncio.create_task(self._follow(), name="key-changes")

    async def stop(self) -> None:
        """Stop following."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._subscription.stop()

    def _announced(self, message: bytes) -> None:
        changes = read_announcement(message)
        self._on_changes(changes)
        self._news.set()

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(self._looked_at + _GAP_S - monotonic())
            self._news.clear()
            try:
                await self._poll()
            except Exception:
                # The feed must outlive any surprise: without it revoked keys would be honoured.
                log.exception("looking for changed keys failed")
                self.postgres_up = False
            self._on_unverified(monotonic() - self.verified_at)

    async def _poll(self) -> None:
        began = self._looked_at = monotonic()
        try:
            while await self._look():
                pass
            if self._all_due or self._sources_due:
                await self._after_poll(self._all_due, self._sources_due)
                self._all_due, self._sources_due = False, set()
        except (StoreUnavailable, SettingsError) as error:
            log.debug("no news of keys: %s", error)
            self.postgres_up = False
            return
        except asyncpg.PostgresError as error:
            self.postgres_up = False
            if not self._complained:
                self._complained = True
                log.error("the tables of sources and keys can't be read: %s", error)  # noqa: TRY400
            return
        self.postgres_up = True
        self._polled_at = began

    async def _look(self) -> bool:
        """One look; whether there may be more."""
        first = self._seq is None
        if first:
            rows = await self._pool.fetch(_RECENT, self._recent_s, CHANGES_MAX, timeout_s=_POLL_TIMEOUT_S)
        else:
            rows = await self._pool.fetch(_NEWS, self._seq, _ROWS, timeout_s=_POLL_TIMEOUT_S)
        if not rows:
            raise StoreUnavailable("PostgreSQL: catalog_state is empty")
        newest: int = rows[0]["newest"]
        changes = [
            Change(row["seq"], row["source_id"], tuple(row["digests"]))
            for row in rows
            if row["seq"] is not None
        ]
        before, self._seq = self._seq, changes[-1].seq if changes else newest
        if before is None:
            self._all_due = True
            if len(changes) == CHANGES_MAX:
                self._on_gap(newest)  # what lies in Redis may be older than what was read here
        elif newest < before or (newest > before and (not changes or changes[0].seq != before + 1)):
            # Another database, or more changes than the table keeps.
            self._on_gap(newest)
            self._seq, self._all_due = newest, True
            return False
        if changes:
            self._on_changes(changes)
            self._sources_due.update(change.source_id for change in changes if change.source_id)
        return not first and len(changes) == _ROWS


def unverified_limit_s(settings: Settings) -> float:
    """How long nothing may be verified before what is known is forgotten."""
    return max(settings.keys.last_good_s, 1.0)
