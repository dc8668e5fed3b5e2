"""The ports in memory, for tests of the front alone; the real adapters have their own tests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from daemon.errors import LogUnavailable, StoreUnavailable
from daemon.events.webhooks import Mapper, read_config
from daemon.frontend.cors import matches
from daemon.ports import ApiKey, Durability, Merchant, PartitionBatch, Record, Source, Visit, Webhook


class MemoryKeys:
    """A KeyStore over a dictionary; `away` makes it fail as when no store answers, `at_hand` knows all without asking."""

    def __init__(self, sources: dict[str, Source], *, at_hand: bool = False) -> None:
        self.sources = sources
        self.at_hand = at_hand
        self.api_keys: dict[str, ApiKey] = {}
        self.secrets: dict[str, bytes] = {}
        self.away = False

    def cached(self, token: str) -> Source | None:
        """What `find` would say, if it is at hand."""
        source = self.sources.get(token) if self.at_hand and not self.away else None
        return source if source is not None and source.enabled else None

    async def find(self, token: str) -> Source | None:
        """The enabled source."""
        if self.away:
            raise StoreUnavailable("no store answers", retry_after_s=2.5)
        source = self.sources.get(token)
        return source if source is not None and source.enabled else None

    async def by_id(self, source_id: str) -> Source | None:
        """A SourceDirectory too."""
        return next((s for s in self.sources.values() if s.id == source_id and s.enabled), None)

    async def secret(self, source_id: str) -> bytes | None:
        """`secrets` by id."""
        return self.secrets.get(source_id)

    def cached_api_key(self, token: str) -> ApiKey | None:
        """Nothing is cached here either."""
        del token
        return None

    async def find_api_key(self, token: str) -> ApiKey | None:
        """From `api_keys`."""
        if self.away:
            raise StoreUnavailable("no store answers", retry_after_s=2.5)
        return self.api_keys.get(token)

    def origin_listed(self, origin: str) -> bool:
        """Whether some enabled source lists it."""
        return any(matches(origin, entry) for s in self.sources.values() if s.enabled for entry in s.origins)


class MemoryWebhooks:
    """Webhooks in a dictionary; `away` makes it fail as when no store answers."""

    def __init__(self) -> None:
        self.rows: dict[str, Webhook] = {}
        self.away = False

    def add(self, config: dict[str, Any], secret: str | None, source_id: str = "src_1") -> str:
        """A new one; its id."""
        webhook_id = f"wh_{len(self.rows) + 1}"
        mapper = Mapper(read_config(config))
        sealed = None if secret is None else secret.encode()
        self.rows[webhook_id] = Webhook(webhook_id, source_id, mapper, sealed, None, 0.0)
        return webhook_id

    async def webhook(self, webhook_id: str) -> Webhook | None:
        """By id."""
        if self.away:
            raise StoreUnavailable("no store answers", retry_after_s=2.5)
        return self.rows.get(webhook_id)


class MemoryMerchants:
    """Merchants in a dictionary; `away` makes it fail as when no store answers."""

    def __init__(self) -> None:
        self.rows: dict[str, Merchant] = {}
        self.away = False

    async def merchant(self, merchant_id: str) -> Merchant | None:
        """By id."""
        if self.away:
            raise StoreUnavailable("no store answers", retry_after_s=2.5)
        return self.rows.get(merchant_id)


class MemoryLimiter:
    """Grants all, or what `waits` says next; `at_hand` without asking."""

    def __init__(self, *, at_hand: bool = False) -> None:
        self.waits: list[float] = []
        self.at_hand = at_hand

    def take(self, name: str, rate_per_s: float, burst: int) -> float | None:
        """None: `acquire` is to be asked."""
        del name, rate_per_s, burst
        return 0.0 if self.at_hand and not self.waits else None

    async def acquire(self, name: str, rate_per_s: float, burst: int) -> float:
        """The next of `waits`, else granted."""
        del name, rate_per_s, burst
        return self.waits.pop(0) if self.waits else 0.0


class MemoryVisits:
    """Claims and identities in dictionaries."""

    def __init__(self) -> None:
        self.claims: dict[str, str] = {}
        self.hashes: dict[str, dict[str, str]] = {}
        #: window's name -> claim id -> when it was taken, by `now` (seconds)
        self.windows: dict[str, dict[str, float]] = {}
        self.now: Callable[[], float] = time.monotonic
        self.away = False

    async def visit(self, visits: Sequence[Visit]) -> None:
        """As tick.lua does it."""
        for visit in visits:
            if self.away:
                visit.claim, visit.known = "skipped", None
                continue
            if visit.claim_id is not None:
                if visit.claim_id not in self.claims and not self._has_room(visit):
                    visit.claim = "limited"
                    continue
                state = self.claims.setdefault(visit.claim_id, "")
                if state.startswith("confirmed"):
                    visit.claim = "confirmed" if state == f"confirmed{visit.claim_tag}" else "conflict"
                else:
                    visit.claim = "pending" if state else "new"
                self.claims[visit.claim_id] = state or "pending"
            if visit.visitor is not None:
                known = self.hashes.setdefault(visit.visitor, {})
                known.update(visit.learn or {})
                for field, value in (visit.learn_once or {}).items():
                    known.setdefault(field, value)
                visit.known = dict(known)

    def confirm(self, visits: Sequence[Visit]) -> None:
        """Done."""
        for visit in visits:
            if visit.claim_id is not None:
                self.claims[visit.claim_id] = f"confirmed{visit.claim_tag}"

    def release(self, claim_id: str) -> None:
        """Free again, and so is its place."""
        self.claims.pop(claim_id, None)
        for taken in self.windows.values():
            taken.pop(claim_id, None)

    def _has_room(self, visit: Visit) -> bool:
        """As window.lua does it: a place is taken where there is one."""
        window, now = visit.window, self.now()
        if window is None:
            return True
        taken = self.windows.setdefault(window.name, {})
        for claim_id, at in list(taken.items()):
            if at <= now - window.period_s:
                del taken[claim_id]
        if len(taken) >= window.count:
            window.wait_s = sorted(taken.values())[-window.count] + window.period_s - now
            return False
        taken[visit.claim_id or ""] = now
        return True


class MemoryOutbox:
    """An outbox that keeps what it gets; `error` refuses it, `hold` keeps the answers back."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.error: LogUnavailable | None = None
        self.durability: Durability = "local"
        self.hold: asyncio.Event | None = None
        self.publishes = 0

    def partitions(self, topic: str) -> int:
        """A few."""
        del topic
        return 4

    def publish(
        self, topic: str, batches: list[PartitionBatch], records: int, size_bytes: int
    ) -> asyncio.Future[Durability]:
        """Keep, then acknowledge."""
        del topic, size_bytes
        if self.error is not None:
            raise self.error
        assert records == sum(len(batch.records) for batch in batches)
        self.publishes += 1

        async def durable() -> Durability:
            if self.hold is not None:
                await self.hold.wait()
            self.records += [record for batch in batches for record in batch.records]
            return self.durability

        return asyncio.ensure_future(durable())

    def envelopes(self) -> list[dict[str, Any]]:
        """What a reader of the log would see."""
        return [json.loads(record.value) for record in self.records]
