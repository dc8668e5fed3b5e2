"""
What the frontends and workers need from the world, as Protocols.

Adapters implement them, composition roots choose the adapter, tests may pass their own. Nothing in
here does anything: it is the vocabulary between the pure core and the servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from daemon.events.contract.definition import Contract, StoredContract
from daemon.events.contract.validator import Validator
from daemon.events.webhooks import Mapper

#: Where an acknowledged event is safe: on Kafka with acks=all, or on this machine's disk after fsync.
Durability = Literal["kafka", "local"]


# --- the event log ----------------------------------------------------------------------------------


class Record(Struct, frozen=True, array_like=True, gc=False):
    """
    One event on its way to the log, encoded once in the frontend and never again.

    `key` is tenant + visitor (bytes), `value` the envelope's JSON; `id`, `contract`, `type` and
    `tenant` become the record's headers; `timestamp_ms` is the receipt time, Unix milliseconds.
    """

    key: bytes
    value: bytes
    id: str
    contract: str
    type: str
    tenant: str
    timestamp_ms: int


class PartitionBatch(Struct, frozen=True, array_like=True, gc=False):
    """Records of one partition, in the order in which they shall stand on the log."""

    partition: int
    records: list[Record]


class StoredRecord(Struct, frozen=True, gc=False):
    """A record as read back from the log. `offset` counts within (`log`, `partition`)."""

    log: str
    partition: int
    offset: int
    record: Record


class EventLog(Protocol):
    """The write side of the log: an append returns when every record is durable."""

    async def start(self) -> None:
        """Connect or open. Raises LogUnavailable when that is not possible now."""
        ...

    async def stop(self) -> None:
        """Flush and close; appends in work are finished first."""
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has, ≥ 1."""
        ...

    async def append(self, topic: str, batches: Sequence[PartitionBatch]) -> Durability:
        """
        Make all records durable, in order per partition, and say where the weakest of them is.

        Raises LogUnavailable when that could not be done or is not known; some of the records may
        then be on the log all the same (their ids let readers drop the copies). A cancelled append
        is the same: what was handed over already may still arrive.
        """
        ...


class LogReader(Protocol):
    """The read side, as `headgate tail` and the processor use it."""

    def read(self, topic: str, since_ms: int | None, follow: bool) -> AsyncIterator[StoredRecord]:
        """
        Records from `since_ms` (Unix milliseconds; None: from the oldest) on.

        Ends at the newest record that was there at the call, or with `follow` never.
        """
        ...

    async def stop(self) -> None:
        """Give back what the reader holds."""
        ...


class Fetched(Struct, frozen=True, gc=False):
    """
    A record as the processor gets it: its value, and where it stands.

    `trouble` is why the value could not be read as what was written (then it is whatever is there).
    """

    log: str
    partition: int
    offset: int
    value: bytes
    timestamp_ms: int
    trouble: str = ""


class Move(Struct, frozen=True, gc=False):
    """
    How a reading moves the position on a log that keeps none itself.

    `before` is None where there was none. `mark` tells a file from another one that has its name.
    """

    log: str
    before: int | None
    after: int
    mark: str


class Position(Struct, frozen=True, gc=False):
    """Where a reader stands on a log: everything up to `position` is stored. See Move."""

    log: str
    position: int
    mark: str


class Reading(Struct, frozen=True, gc=False):
    """Some records in their order, with the positions that move when all of them are stored."""

    records: list[Fetched]
    moves: list[Move]
    #: what the feed has to know when the reading is done
    token: object = None


class Lag(Struct, frozen=True, gc=False):
    """Records that wait on the log, and the receipt of the oldest of them (Unix milliseconds; 0: unknown)."""

    records: int
    oldest_ms: int


class Feed(Protocol):
    """
    A log as the processor reads it: each record until it was stored, also over restarts.

    One reading at a time: `read`, then `done` when it is durable, or `read` again after `stale`.
    """

    async def start(self) -> None:
        """Begin. A log that is away is waited for by `read`. Raises SettingsError."""
        ...

    async def read(self, wait_s: float) -> Reading | None:
        """
        The next records; None when there is nothing in `wait_s` seconds, or the log is away.

        What was read and not `done` comes again, to this reader or another one.
        """
        ...

    async def done(self, reading: Reading) -> None:
        """Everything in it is durable, its moves included: it never needs to come again."""
        ...

    def stale(self, reading: Reading) -> bool:
        """Whether somebody else has these records by now: there is no need to store them here."""
        ...

    async def reset(self) -> None:
        """Positions have moved without us: forget what was read ahead, and take them up again."""
        ...

    def lag(self) -> Lag:
        """What waits behind the last reading, as far as it is known."""
        ...

    async def stop(self) -> None:
        """Let go of the log, so that another reader can take over at once."""
        ...


# --- sources and keys -------------------------------------------------------------------------------


class Source(Struct, frozen=True, gc=False):
    """
    Where events come from: the row that a pipeline key stands for.

    `origins` are `scheme://host[:port]` (lower case; the host may begin with `*.`); `rate_per_s` and
    `burst` are None where the settings' default holds; `cookie_domain` is None for host-only cookies;
    `version` grows with every change of the row.
    """

    id: str
    tenant: str
    name: str
    enabled: bool
    origins: tuple[str, ...]
    rate_per_s: float | None
    burst: int | None
    cookie_domain: str | None
    version: int


class ApiKey(Struct, frozen=True, gc=False):
    """
    What a server's key of ResultFly (kind `cdp`) or TrackLayer (`merchant`) stands for.

    `merchant_id` is the merchant's UUID in lower case, None for keys of a tenant; `rate_per_s` and
    `burst` are None where the settings' default holds.
    """

    id: str
    kind: Literal["cdp", "merchant"]
    tenant: str
    merchant_id: str | None
    scopes: tuple[str, ...]
    rate_per_s: float | None
    burst: int | None


class Limited(Protocol):
    """Whoever has a bucket of its own: a source, or a key."""

    @property
    def id(self) -> str:
        """The bucket's name."""
        ...

    @property
    def rate_per_s(self) -> float | None:
        """Requests per second; None for the settings' default."""
        ...

    @property
    def burst(self) -> int | None:
        """Requests at once; None for the settings' default."""
        ...


class KeyStore(Protocol):
    """Keys to sources and their like: memory before Redis before PostgreSQL."""

    def cached(self, token: str) -> Source | None:
        """
        The enabled source of `token` if this process knows it and what it knows is fresh, else None.

        None says nothing about the key: ask `find`.
        """
        ...

    async def find(self, token: str) -> Source | None:
        """
        The enabled source of `token`; None when the key is unknown, revoked or its source disabled.

        Raises StoreUnavailable when no store answers and the key is not known from before.
        """
        ...

    def cached_api_key(self, token: str) -> ApiKey | None:
        """The same as `cached` for a key of ResultFly or TrackLayer."""
        ...

    async def find_api_key(self, token: str) -> ApiKey | None:
        """
        The key `token` as it is stored; None when it is unknown or revoked, or its merchant disabled.

        Raises StoreUnavailable when no store answers and the key is not known from before.
        """
        ...

    def origin_listed(self, origin: str) -> bool:
        """Whether some enabled source lists `origin` (for preflights, which carry no key)."""
        ...


class SourceDirectory(Protocol):
    """Sources by their id, for requests that are signed instead of carrying a key."""

    async def by_id(self, source_id: str) -> Source | None:
        """The enabled source, else None. Raises StoreUnavailable when no store answers and it is not known."""
        ...

    async def secret(self, source_id: str) -> bytes | None:
        """The source's secret key in clear; None when it has none. Raises StoreUnavailable."""
        ...


class Webhook(Struct, frozen=True):
    """
    Where another service's requests go: the row that `?source=wh_…` stands for.

    `mapper` is its settings, compiled. `secret` is None where the sender does not sign. `previous` is
    the secret before it was rotated, good until `previous_until_s` (Unix seconds).
    """

    id: str
    source_id: str
    mapper: Mapper
    secret: bytes | None
    previous: bytes | None
    previous_until_s: float

    def secrets(self, now_s: float) -> list[bytes]:
        """The secrets that are good now."""
        found = [] if self.secret is None else [self.secret]
        if self.previous is not None and now_s < self.previous_until_s:
            found.append(self.previous)
        return found


class Merchant(Struct, frozen=True, gc=False):
    """A shop that TrackLayer's events are of: the row that `merchant_id` (a UUID, lower case) stands for."""

    id: str
    tenant: str
    name: str


class MerchantDirectory(Protocol):
    """Merchants by their id."""

    async def merchant(self, merchant_id: str) -> Merchant | None:
        """The enabled merchant, else None. Raises StoreUnavailable when no store answers and it is not known."""
        ...


class WebhookDirectory(Protocol):
    """Webhooks by their id."""

    async def webhook(self, webhook_id: str) -> Webhook | None:
        """The enabled webhook, else None. Raises StoreUnavailable when no store answers and it is not known."""
        ...


class ContractDirectory(Protocol):
    """Contracts of ResultFly's event types that are in force, compiled: what events are checked against."""

    def cached(self, tenant: str) -> Mapping[str, Validator] | None:
        """The tenant's contracts by event type, if this process knows them and what it knows is fresh, else None."""
        ...

    async def find(self, tenant: str) -> Mapping[str, Validator]:
        """The same, looked up if need be. Raises StoreUnavailable when no store answers and they are not known."""
        ...

    def changed(self, tenant: str) -> None:
        """They were changed just now, from here: look them up again."""
        ...


class ContractStore(Protocol):
    """The same with all their versions, to look at and to change. Everything raises StoreUnavailable."""

    async def put(self, tenant: str, event_type: str, contract: Contract) -> StoredContract:
        """
        Put a contract into force; the version in force afterwards, which is the one before if that says the same.

        Raises UsageError where the tenant has too many.
        """
        ...

    async def in_force(self, tenant: str) -> list[StoredContract]:
        """All that are, by event type."""
        ...

    async def version(self, tenant: str, event_type: str, number: int | None) -> StoredContract | None:
        """One version (None: the one in force), or None where there is no such."""
        ...

    async def delete(self, tenant: str, event_type: str) -> StoredContract | None:
        """End the version in force, which is kept; None where there is none."""
        ...


# --- limits -----------------------------------------------------------------------------------------


class RateLimiter(Protocol):
    """Token buckets, one per name, over all frontends together: never more than rate·t + burst."""

    def take(self, name: str, rate_per_s: float, burst: int) -> float | None:
        """
        Take one token of what this process holds, without waiting.

        0.0: taken. > 0: refused, with the seconds until one is there. None: not known here, ask `acquire`.
        """
        ...

    async def acquire(self, name: str, rate_per_s: float, burst: int) -> float:
        """Take one token, asking Redis (with the others of this moment). 0.0: taken. > 0: seconds to wait."""
        ...


# --- claims and visitors ----------------------------------------------------------------------------

#: What a claim came to: ours now; somebody's who has not finished; done before; done before with another
#: tag; not claimed, as its window is full; not asked (Redis away).
ClaimState = Literal["new", "pending", "confirmed", "conflict", "limited", "skipped"]


class Window(Struct, gc=False):
    """
    A sliding window that an event counts in: never more than `count` in any `period_s` seconds.

    Only events that are new and get published use it up. `wait_s` is the answer where it is full: the
    seconds until there is room.
    """

    name: str
    count: int
    period_s: float
    wait_s: float = 0.0


class Visit(Struct, gc=False):
    """
    What one event asks of Redis in its tick.

    `claim_id` is the envelope's derived id (None: nothing to claim), `claim_tag` what else the copies of
    an event must agree in ("": nothing; ResultFly: the event's type). `visitor` names the identity
    hash (None: nothing to look up): fields in `learn` are set, fields in `learn_once` only where
    they are absent, and the hash is read after that. `ttl_s` is how long the hash lives at least, in
    seconds; a longer life is never cut short. `window` is what a claimed event has to find room in.
    The answer is put into `claim`, `known` and the window.
    """

    claim_id: str | None = None
    claim_window_s: float = 86400.0
    claim_tag: str = ""
    visitor: str | None = None
    learn: dict[str, str] | None = None
    learn_once: dict[str, str] | None = None
    ttl_s: float = 86400.0
    window: Window | None = None
    claim: ClaimState = "skipped"
    known: dict[str, str] | None = None


class VisitStore(Protocol):
    """Claims and identities: one trip to Redis for all events of a tick."""

    async def visit(self, visits: Sequence[Visit]) -> None:
        """Fill in `claim` and `known` of each visit. Redis away: they stay `skipped` and None; never raises."""
        ...

    def confirm(self, visits: Sequence[Visit]) -> None:
        """
        The events are durable: their ids are duplicates for their windows. Sent with the next trip.

        Visits without a claim are passed over.
        """
        ...

    def release(self, claim_id: str) -> None:
        """The event was not published: its id is free again, and its place in a window. Sent with the next trip."""
        ...


class Clock(Protocol):
    """Time, so that tests can bring their own."""

    def now(self) -> float:
        """Unix time, seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix time, seconds."""
        import time

        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        import time

        return time.monotonic()
