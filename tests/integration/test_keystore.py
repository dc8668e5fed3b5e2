"""The cached key store on a real PostgreSQL and Valkey: what it knows, forgets, and survives."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from daemon.adapters.embedded.valkey import start_valkey
from daemon.adapters.keystore import CachedKeyStore
from daemon.adapters.keystore.memory import UNKNOWN_MAX, Change, KeyMemory
from daemon.adapters.keystore.origins import OriginSet
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.postgres.catalog import Created, SourceCatalog
from daemon.adapters.postgres.migrate import migrate
from daemon.adapters.postgres.pool import PostgresPool, Row
from daemon.adapters.redis.wire import RedisWire
from daemon.adapters.sealing import Sealer
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import Source
from tests.support.stores import settings_for, until

#: Looks of `until` (5 ms apart) in which a change must be seen: the promised second.
POLLS = 200


class CountingPool(PostgresPool):
    """The real pool; counts what it is asked, and can be held just after it has read."""

    def __init__(self, settings: Settings, metrics: StoreMetrics) -> None:
        super().__init__(settings.postgres, metrics)
        self.lookups = 0
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def fetch(self, statement: str, *args: object, timeout_s: float | None = None) -> list[Row]:
        rows = await super().fetch(statement, *args, timeout_s=timeout_s)
        if "key.sha256 = ANY" in statement:
            self.lookups += 1
            if self.held is not None:
                self.reached.set()
                await self.held.wait()
        return rows


class Process:
    """One process's stores, as a frontend composes them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = StoreMetrics()
        self.pool = CountingPool(settings, self.metrics)
        self.wire = RedisWire(settings.redis, self.metrics)
        self.keys = CachedKeyStore(self.pool, self.wire, settings, self.metrics)

    async def start(self) -> None:
        await self.wire.start()
        await self.pool.start()
        await self.keys.start()

    async def stop(self) -> None:
        await self.keys.stop()
        await self.wire.stop()
        await self.pool.stop()

    def found(self, where: str) -> float:
        return self.metrics.lookups.at(where).n


class Town:
    """An installation: settings, an admin's catalog, and as many processes as a test wants."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, admin: Process) -> None:
        self.settings = settings
        self._stack = stack
        self.admin = admin
        self.catalog = SourceCatalog(
            admin.pool, SharedKeys(admin.wire, settings), Sealer(bytes(32)), "production"
        )

    async def process(self, settings: Settings | None = None) -> Process:
        process = Process(settings or self.settings)
        await process.start()
        self._stack.push_async_callback(process.stop)
        return process


@asynccontextmanager
async def town_of(settings: Settings) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        admin = Process(settings)
        await admin.wire.start()
        await admin.pool.start()
        stack.push_async_callback(admin.pool.stop)
        stack.push_async_callback(admin.wire.stop)
        await migrate(admin.pool)
        yield Town(settings, stack, admin)


@pytest.fixture
async def town(redis_url: str, postgres_dsn: str) -> AsyncIterator[Town]:
    async with town_of(settings_for(redis_url, postgres_dsn)) as town:
        yield town


@pytest.fixture
def own_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hg-", dir="/tmp") as folder:
        yield Path(folder)


async def refused_within_polls(processes: Sequence[Process], token: str) -> None:
    for _ in range(POLLS):
        answers = [process.keys.cached(token) for process in processes]
        if answers == [None] * len(processes) and [await p.keys.find(token) for p in processes] == answers:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("still honoured")


# --- finding ----------------------------------------------------------------------------------------


async def test_a_key_is_found_once_and_then_known(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a", ["https://a.com"], 5, 6, "a.com")
    process = await town.process()
    assert process.keys.cached(created.pipeline_key) is None
    source = await process.keys.find(created.pipeline_key)
    assert source == Source(
        id=created.source.id,
        tenant="acme",
        name="a",
        enabled=True,
        origins=("https://a.com",),
        rate_per_s=5.0,
        burst=6,
        cookie_domain="a.com",
        version=created.source.version,
    )
    assert process.keys.cached(created.pipeline_key) == source
    assert await process.keys.find(created.pipeline_key) == source
    assert process.pool.lookups == 1
    assert (process.found("postgres"), process.found("memory")) == (1, 2)


async def test_another_process_finds_it_in_redis(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    one, other = await town.process(), await town.process()
    assert await one.keys.find(created.pipeline_key) is not None
    await until(lambda: _cached_in_redis(one))
    assert await other.keys.find(created.pipeline_key) == await one.keys.find(created.pipeline_key)
    assert other.pool.lookups == 0
    assert other.found("redis") == 1


async def _cached_in_redis(process: Process) -> bool:
    keys = await process.wire.command("KEYS", "hg:k:*")
    values = await process.wire.command("MGET", *keys) if keys else []
    return any(value and not value.endswith(b":") for value in values)


async def test_all_who_ask_at_once_share_one_look_up(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    sources = await asyncio.gather(*(process.keys.find(created.pipeline_key) for _ in range(500)))
    assert set(sources) == {sources[0]}
    assert sources[0] is not None
    assert process.pool.lookups == 1


async def test_who_gives_up_does_not_take_the_look_up_along(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    tasks = [asyncio.create_task(process.keys.find(created.pipeline_key)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await tasks[1] is not None


@pytest.mark.parametrize(
    "token", ["", "x", "dk_", "dk_live_short", "sk_" + "a" * 32, "dk_live_" + "ä" * 32, "dk_live_\ud800" + "a" * 31,
              "dk_live_" + "a" * 200, "dk_live_" + "a" * 31 + "\n", "dk_live_ " + "a" * 31]
)  # fmt: skip
async def test_what_can_be_no_key_is_not_looked_up(town: Town, token: str) -> None:
    process = await town.process()
    assert process.keys.cached(token) is None
    assert await process.keys.find(token) is None
    assert process.pool.lookups == 0
    assert process.found("unknown") == 1


async def test_an_unknown_key_is_remembered_as_such(town: Town) -> None:
    process = await town.process()
    token = "dk_live_" + "a" * 32
    for _ in range(5):
        assert await process.keys.find(token) is None
    assert process.pool.lookups == 1
    assert process.found("unknown") == 5


async def test_a_secret_key_is_no_pipeline_key(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    assert await process.keys.find(created.secret_key) is None


async def test_a_flood_of_random_keys_is_gathered_and_bounded(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    answers = await asyncio.gather(
        *(process.keys.find(f"dk_live_{number:032d}") for number in range(4000)),
        process.keys.find(created.pipeline_key),
    )
    assert answers[:-1] == [None] * 4000
    assert answers[-1] is not None
    assert process.pool.lookups <= 4001 / 256 + 2
    answers_or_errors = await asyncio.gather(
        *(process.keys.find(f"dk_test_{number:032d}") for number in range(6000)), return_exceptions=True
    )
    assert any(isinstance(answer, StoreUnavailable) for answer in answers_or_errors)
    # Who is known is not touched by it.
    assert process.keys.cached(created.pipeline_key) is not None


# --- changing ---------------------------------------------------------------------------------------


async def test_a_revoked_key_is_refused_everywhere_within_a_second(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    processes = [await town.process() for _ in range(3)]
    for process in processes:
        assert await process.keys.find(created.pipeline_key) is not None
    await town.catalog.revoke_key(created.pipeline_key)
    await refused_within_polls(processes, created.pipeline_key)


async def test_a_disabled_source_is_refused_and_comes_back(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a", ["https://a.com"])
    process = await town.process()
    assert await process.keys.find(created.pipeline_key) is not None
    assert process.keys.origin_listed("https://a.com")
    await town.catalog.disable_source(created.source.id)
    await refused_within_polls([process], created.pipeline_key)
    await until(lambda: not process.keys.origin_listed("https://a.com"), 1.0)
    await town.catalog.enable_source(created.source.id)

    async def back() -> bool:
        return await process.keys.find(created.pipeline_key) is not None

    await until(back, 1.0)
    await until(lambda: process.keys.origin_listed("https://a.com"), 1.0)


async def test_a_changed_source_is_seen_with_its_new_values(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    await process.keys.find(created.pipeline_key)
    await town.catalog.update_source(created.source.id, rate=7)

    async def changed() -> bool:
        source = await process.keys.find(created.pipeline_key)
        return source is not None and source.rate_per_s == 7.0 and source.version == 2

    await until(changed, 1.0)


async def test_a_change_made_in_sql_counts_too(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    await process.keys.find(created.pipeline_key)
    await town.admin.pool.fetch("UPDATE sources SET enabled = false")
    await refused_within_polls([process], created.pipeline_key)


async def test_truncated_tables_make_everything_forgotten(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a", ["https://a.com"])
    process = await town.process()
    await process.keys.find(created.pipeline_key)
    await town.admin.pool.fetch("TRUNCATE keys, sources, tenants CASCADE")
    await refused_within_polls([process], created.pipeline_key)
    await until(lambda: not process.keys.origin_listed("https://a.com"), 1.0)


async def test_a_load_from_before_a_revocation_is_not_kept(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    process = await town.process()
    process.pool.held = asyncio.Event()
    asked = asyncio.create_task(process.keys.find(created.pipeline_key))
    await process.pool.reached.wait()  # PostgreSQL has said that the key is good
    await town.catalog.revoke_key(created.pipeline_key)
    digest = next(iter(process.keys._loading))
    revoked_at = (await town.admin.pool.fetch("SELECT max(seq) AS seq FROM changes"))[0]["seq"]
    # the one that made the key may come only now, too
    await until(lambda: process.keys._memory._changed.get(digest) == revoked_at)
    process.pool.held.set()
    assert await asked is None
    assert process.keys.cached(created.pipeline_key) is None
    # Nor is it put into Redis, whoever is how late.
    shared = SharedKeys(process.wire, town.settings)
    source = _source(1)
    await shared.put(revoked_at - 1, [(digest, source)])
    assert await shared.get([digest]) == {}
    await shared.put(revoked_at, [(digest, source)])
    assert await shared.get([digest]) == {digest: (revoked_at, source)}


async def test_an_outdated_copy_in_redis_is_not_believed(town: Town) -> None:
    created = await town.catalog.create_source("acme", "a")
    one = await town.process()
    assert await one.keys.find(created.pipeline_key) is not None
    await until(lambda: _cached_in_redis(one))
    # Revoked while Redis could not be told.
    await town.admin.wire.stop()
    await town.catalog.revoke_key(created.pipeline_key)
    await refused_within_polls([one], created.pipeline_key)
    assert await _cached_in_redis(one)
    fresh = await town.process()
    assert await fresh.keys.find(created.pipeline_key) is None


async def test_origins_include_wildcards(town: Town) -> None:
    process = await town.process()
    assert not process.keys.origin_listed("https://a.com")
    await town.catalog.create_source("acme", "a", ["https://*.a.com", "http://b.com:81"])
    await until(lambda: process.keys.origin_listed("https://x.a.com"), 1.0)
    assert process.keys.origin_listed("https://x.y.a.com")
    assert process.keys.origin_listed("HTTP://b.com:81")
    for origin in (
        "https://a.com",
        "http://x.a.com",
        "https://xa.com",
        "http://b.com",
        "null",
        "",
        "https://",
    ):
        assert not process.keys.origin_listed(origin)


# --- outages ----------------------------------------------------------------------------------------


async def test_without_redis_changes_are_in_force_within_a_second(postgres_dsn: str, tmp_path: Path) -> None:
    async with town_of(settings_for(f"unix://{tmp_path}/nobody", postgres_dsn)) as town:
        created = await town.catalog.create_source("acme", "a")
        processes = [await town.process() for _ in range(2)]
        for process in processes:
            assert await process.keys.find(created.pipeline_key) is not None
        await town.catalog.revoke_key(created.pipeline_key)
        await refused_within_polls(processes, created.pipeline_key)


async def test_a_redis_killed_and_started_again(own_folder: Path, postgres_dsn: str) -> None:
    server = await start_valkey(own_folder, own_folder)
    try:
        async with town_of(settings_for(server.url, postgres_dsn)) as town:
            created = await town.catalog.create_source("acme", "a")
            other = await town.catalog.create_source("acme", "b")
            process = await town.process()
            assert await process.keys.find(created.pipeline_key) is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: not process.wire.up)
            assert process.keys.cached(created.pipeline_key) is not None
            assert await process.keys.find(other.pipeline_key) is not None
            await server.stop()
            await town.catalog.revoke_key(created.pipeline_key)
            await refused_within_polls([process], created.pipeline_key)
            server = await start_valkey(own_folder, own_folder)
            await until(lambda: process.keys._feed._subscription.up)
            await until(lambda: town.admin.wire.up)
            await town.catalog.revoke_key(other.pipeline_key)
            await refused_within_polls([process], other.pipeline_key)
    finally:
        await server.stop()


class Gate:
    """A PostgreSQL that can be taken away: a relay before the real one."""

    def __init__(self, path: Path, target: Path) -> None:
        self._path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        relay.add_done_callback(lambda _: writer.transport.abort())

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, far_writer))
                pumps.create_task(_pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
            await asyncio.gather(writer.wait_closed(), far_writer.wait_closed(), return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        return


@asynccontextmanager
async def gated(dsn: str, folder: Path) -> AsyncIterator[tuple[str, Gate]]:
    """The DSN by way of a gate."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    gate = Gate(folder / ".s.PGSQL.5432", Path(host) / ".s.PGSQL.5432")
    await gate.open()
    try:
        yield urlunsplit(parts._replace(query=f"host={folder}")), gate
    finally:
        await gate.close()


async def test_without_postgres_known_keys_go_on_and_unknown_ones_wait(
    redis_url: str, postgres_dsn: str, own_folder: Path
) -> None:
    async with (
        gated(postgres_dsn, own_folder) as (dsn, gate),
        town_of(settings_for(redis_url, postgres_dsn)) as town,
    ):
        created: Created = await town.catalog.create_source("acme", "a", ["https://a.com"])
        shared = await town.catalog.create_source("acme", "b", ["https://b.com"])
        process = await town.process(settings_for(redis_url, dsn, keys__memory_ttl_s=0.05))
        elsewhere = await town.process()
        assert await process.keys.find(created.pipeline_key) is not None
        assert await elsewhere.keys.find(shared.pipeline_key) is not None
        await until(lambda: _cached_in_redis(elsewhere))
        await gate.close()
        await until(lambda: not process.keys._feed.postgres_up)
        # Its time in memory runs out again and again; nobody notices.
        for _ in range(40):
            assert await process.keys.find(created.pipeline_key) is not None
            await asyncio.sleep(0.005)
        assert process.keys.origin_listed("https://a.com")
        # Known in Redis: good. Known nowhere: nobody can say, and nobody is kept waiting for it.
        assert await process.keys.find(shared.pipeline_key) is not None
        assert process.found("redis") >= 1
        with pytest.raises(StoreUnavailable):
            await process.keys.find("dk_live_" + "z" * 32)
        assert process.metrics.up.at("postgres").n == 0
        # A process that starts meanwhile serves what Redis knows.
        late = await town.process(settings_for(redis_url, dsn))
        assert await late.keys.find(shared.pipeline_key) is not None
        assert late.keys.origin_listed("https://b.com")
        # Revoked by somebody who reaches PostgreSQL: Redis tells.
        await town.catalog.revoke_key(shared.pipeline_key)
        await until(lambda: process.keys.cached(shared.pipeline_key) is None, 1.0)
        with pytest.raises(StoreUnavailable):
            await process.keys.find(shared.pipeline_key)
        await gate.open()
        await until(lambda: process.keys._feed.postgres_up)
        assert await process.keys.find(shared.pipeline_key) is None
        assert process.metrics.up.at("postgres").n == 1


async def test_with_both_stores_away_a_known_key_is_good_for_last_good_s(
    postgres_dsn: str, own_folder: Path, tmp_path: Path
) -> None:
    nobody = f"unix://{tmp_path}/nobody"
    async with (
        gated(postgres_dsn, own_folder) as (dsn, gate),
        town_of(settings_for(nobody, postgres_dsn)) as town,
    ):
        created = await town.catalog.create_source("acme", "a")
        settings = settings_for(nobody, dsn, keys__memory_ttl_s=0.05, keys__last_good_s=1.5)
        process = await town.process(settings)
        assert await process.keys.find(created.pipeline_key) is not None
        await gate.close()
        await until(lambda: not process.keys._feed.postgres_up)
        assert await process.keys.find(created.pipeline_key) is not None

        async def counted() -> bool:
            try:
                await process.keys.find(created.pipeline_key)
            except StoreUnavailable:
                return True
            return False

        assert process.keys.serving == (True, [])
        await until(counted)
        assert not process.keys.serving[0]
        assert process.found("last_good") > 0
        await gate.open()
        await until(lambda: process.keys._feed.postgres_up)
        assert process.keys.serving == (True, [])
        assert await process.keys.find(created.pipeline_key) is not None


# --- memory -----------------------------------------------------------------------------------------


def _source(number: int) -> Source:
    return Source(
        id=f"src_{number}",
        tenant="t",
        name="n",
        enabled=True,
        origins=(),
        rate_per_s=None,
        burst=None,
        cookie_domain=None,
        version=1,
    )


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    memory = KeyMemory(100)
    for number in range(1000):
        memory.keep(b"%d" % number, _source(number), 1.0)
        if (used := memory.entries.get(b"5")) is not None:
            used.seen = True
    assert len(memory.entries) == 100
    assert b"5" in memory.entries
    for number in range(UNKNOWN_MAX + 100):
        memory.keep_unknown(b"u%d" % number, 1.0)
    assert len(memory._unknown) == UNKNOWN_MAX
    assert len(memory.entries) == 100
    assert memory.is_unknown(b"u200", 0.5)
    assert not memory.is_unknown(b"u200", 1.0)


def test_memory_remembers_changes_within_a_bound_and_doubts_the_rest() -> None:
    memory = KeyMemory(100)
    assert memory.fresh(b"never changed", 0)
    for seq in range(1, 20_001):
        memory.apply(Change(seq, None, (b"%d" % seq,)))
    assert len(memory._changed) == 10_000
    assert not memory.fresh(b"20000", 19_999)
    assert memory.fresh(b"20000", 20_000)
    assert not memory.fresh(b"1", 5)  # forgotten by now, so what is that old is not trusted
    assert memory.fresh(b"1", 10_000)


def test_origins_count_their_sources() -> None:
    origins = OriginSet()
    origins.set("a", ("https://x.com", "https://*.w.com"))
    origins.set("b", ("https://x.com",))
    origins.set("a", ())
    assert origins.listed("https://x.com")
    assert not origins.listed("https://q.w.com")
    origins.set("b", ())
    assert not origins.listed("https://x.com")
