"""Claims and visitors on a real Valkey, its faults included."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.adapters.embedded.valkey import ValkeyServer, start_valkey
from daemon.adapters.redis.visits import RedisVisitStore
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.observe.catalog import StoreMetrics
from daemon.ports import Visit
from tests.support.stores import running_wire, settings_for, until


@asynccontextmanager
async def running_store(
    settings: Settings, metrics: StoreMetrics | None = None
) -> AsyncIterator[tuple[RedisVisitStore, RedisWire]]:
    metrics = metrics or StoreMetrics()
    async with running_wire(settings, metrics) as wire:
        store = RedisVisitStore(wire, settings, metrics)
        await store.start()
        yield store, wire
        await store.stop()


async def claimed(store: RedisVisitStore, claim_id: str) -> str:
    visit = Visit(claim_id=claim_id)
    await store.visit([visit])
    return visit.claim


async def settled(store: RedisVisitStore) -> None:
    """What was confirmed or released has reached Redis."""
    await until(lambda: not (store._confirms or store._releases or store._flushing))


@pytest.fixture
def own_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hg-", dir="/tmp") as folder:
        yield Path(folder)


@asynccontextmanager
async def own_valkey(folder: Path) -> AsyncIterator[ValkeyServer]:
    """A server that the test may kill; started again on the same socket and files by entering once more."""
    server = await start_valkey(folder, folder)
    try:
        yield server
    finally:
        await server.stop()


async def test_a_claim_is_new_then_pending_then_a_duplicate(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, _):
        assert await claimed(store, "a") == "new"
        assert await claimed(store, "a") == "pending"
        store.confirm([Visit(claim_id="a", claim_window_s=60.0)])
        assert await claimed(store, "a") == "confirmed"
        assert await claimed(store, "b") == "new"


async def test_a_released_claim_is_free_again(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, _):
        assert await claimed(store, "a") == "new"
        store.release("a")
        assert await claimed(store, "a") == "new"


async def test_copies_within_one_tick_meet(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, _):
        visits = [Visit(claim_id=f"id-{number % 700}") for number in range(1400)]
        await store.visit(visits)
        assert [visit.claim for visit in visits] == ["new"] * 700 + ["pending"] * 700


async def test_only_the_owner_gives_a_claim_back(redis_url: str) -> None:
    settings = settings_for(redis_url)
    async with running_store(settings) as (one, _), running_store(settings) as (other, _):
        assert await claimed(one, "a") == "new"
        other.release("a")
        assert await claimed(other, "a") == "pending"
        assert await claimed(other, "a") == "pending"
        one.release("a")
        await settled(one)
        assert await claimed(other, "a") == "new"


async def test_a_confirmed_claim_is_never_released(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, _):
        assert await claimed(store, "a") == "new"
        store.confirm([Visit(claim_id="a", claim_window_s=60.0)])
        store.release("a")
        await settled(store)
        store.release("a")
        assert await claimed(store, "a") == "confirmed"


async def test_a_crashed_owner_loses_its_claim(redis_url: str) -> None:
    settings = settings_for(redis_url, claims__pending_s=0.05)
    async with running_store(settings) as (store, wire):
        assert await claimed(store, "a") == "new"

        async def free() -> bool:
            return await claimed(store, "a") == "new"

        await until(free)
        left_ms = await wire.command("PTTL", "hg:c:a")
        assert 0 < left_ms <= 50


async def test_confirms_flush_themselves_and_live_for_their_window(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, wire):
        store.confirm([Visit(claim_id="a", claim_window_s=100.0)])
        await settled(store)
        assert await wire.command("GET", "hg:c:a") == b"+"
        assert 99_000 < await wire.command("PTTL", "hg:c:a") <= 100_000


async def test_stop_flushes(redis_url: str) -> None:
    settings = settings_for(redis_url)
    async with running_store(settings) as (store, _):
        for number in range(3000):
            store.confirm([Visit(claim_id=f"id-{number}", claim_window_s=100.0)])
    async with running_store(settings) as (store, _):
        assert await claimed(store, "id-0") == "confirmed"
        assert await claimed(store, "id-2999") == "confirmed"


async def test_what_a_visitor_teaches_is_known_at_once_and_later(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, wire):
        first = Visit(visitor="t/v", learn={"uid": "ü1"}, learn_once={"_fbp": "fb.1"}, ttl_s=1000.0)
        second = Visit(
            visitor="t/v", learn={"uid": "2"}, learn_once={"_fbp": "fb.2", "_ga": "g"}, ttl_s=1000.0
        )
        silent = Visit(visitor="t/v", ttl_s=1000.0)
        nobody = Visit(visitor="t/other")
        claim_only = Visit(claim_id="c")
        await store.visit([first, second, silent, nobody, claim_only])
        assert first.known == {"uid": "ü1", "_fbp": "fb.1"}
        assert second.known == silent.known == {"uid": "2", "_fbp": "fb.1", "_ga": "g"}
        assert nobody.known == {}
        assert (claim_only.known, claim_only.claim) == (None, "new")
        assert first.claim == "skipped"  # nothing to claim
        assert 999_000 < await wire.command("PTTL", "hg:v:t/v") <= 1_000_000
        assert await wire.command("EXISTS", "hg:v:t/other") == 0


async def test_a_visit_prolongs_a_visitors_life_and_never_shortens_it(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, wire):
        await store.visit([Visit(visitor="v", learn={"a": "1"}, ttl_s=1000.0)])
        await store.visit([Visit(visitor="v", ttl_s=10.0)])
        assert await wire.command("PTTL", "hg:v:v") > 990_000
        await store.visit([Visit(visitor="v", ttl_s=5000.0)])
        assert await wire.command("PTTL", "hg:v:v") > 4_990_000


async def test_a_server_that_is_away_costs_nothing_and_refuses_nothing(tmp_path: Path) -> None:
    metrics = StoreMetrics()
    async with running_store(settings_for(f"unix://{tmp_path}/nobody"), metrics) as (store, wire):
        assert not wire.up
        visits = [Visit(claim_id="a", visitor="v"), Visit(visitor="w")]
        await store.visit(visits)
        assert [(visit.claim, visit.known) for visit in visits] == [("skipped", None)] * 2
        assert metrics.claims.at("skipped").n == 1
        assert metrics.up.at("redis").n == 0
        assert metrics.outages.at("redis").n == 1
        for number in range(110_000):
            store.confirm([Visit(claim_id=str(number), claim_window_s=60.0)])
        assert len(store._confirms) == 100_000


async def test_a_copy_that_waits_for_a_claim_waits_no_more_when_the_server_goes(own_folder: Path) -> None:
    """No event is refused because Redis is away: it would be for a second and then get a 503."""
    async with own_valkey(own_folder) as server, running_store(settings_for(server.url)) as (store, wire):
        assert await claimed(store, "a") == "new"
        copy = Visit(claim_id="a")
        states: list[str] = []
        await store.visit([copy])
        states.append(copy.claim)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not wire.up)
        await store.visit([copy])
        states.append(copy.claim)
        assert states == ["pending", "skipped"]


async def test_a_stopped_server_delays_once_then_nobody(own_folder: Path) -> None:
    metrics = StoreMetrics()
    async with own_valkey(own_folder) as server:
        settings = settings_for(server.url, redis__timeout_s=0.1)
        async with running_store(settings, metrics) as (store, wire):
            assert await claimed(store, "a") == "new"
            os.kill(server.pid, signal.SIGSTOP)
            try:
                # All on the way at the same time wait together for the one time limit.
                assert await asyncio.gather(*(claimed(store, f"b{n}") for n in range(20))) == ["skipped"] * 20
                assert not wire.up
                trips = metrics.trips.total()
                for number in range(1000):
                    assert await claimed(store, f"c{number}") == "skipped"
                assert metrics.trips.total() == trips
                store.confirm([Visit(claim_id="a", claim_window_s=60.0)])
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until(lambda: wire.up)
            await settled(store)
            assert await claimed(store, "a") == "confirmed"
            assert metrics.outages.at("redis").n == 1
            assert metrics.up.at("redis").n == 1


async def test_a_killed_and_restarted_server_is_found_again(own_folder: Path) -> None:
    metrics = StoreMetrics()
    async with own_valkey(own_folder) as server:
        settings = settings_for(server.url)
        async with running_store(settings, metrics) as (store, wire):
            assert await claimed(store, "a") == "new"
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: not wire.up)
            assert await claimed(store, "b") == "skipped"
            await server.stop()
            async with own_valkey(own_folder):
                await until(lambda: wire.up)
                assert await claimed(store, "b") == "new"


async def test_an_emptied_server_goes_on(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, wire):
        assert await claimed(store, "a") == "new"
        await wire.command("FLUSHALL")
        await wire.command("SCRIPT", "FLUSH")
        assert await claimed(store, "a") == "new"


async def test_a_server_that_takes_no_writes_counts_as_away(own_folder: Path) -> None:
    async with own_valkey(own_folder) as server, running_store(settings_for(server.url)) as (store, wire):
        await wire.command("CONFIG", "SET", "maxmemory", "1")
        assert await claimed(store, "a") == "skipped"
        assert not wire.up


async def test_strings_that_are_no_text_end_as_skipped(redis_url: str) -> None:
    async with running_store(settings_for(redis_url)) as (store, wire):
        visit = Visit(claim_id="a", visitor="v", learn={"x": "\ud800"})
        await store.visit([visit])
        assert (visit.claim, visit.known) == ("skipped", None)
        await wire.command("HSET", "hg:v:w", "x", b"\xff\xfe")
        visit = Visit(visitor="w")
        await store.visit([visit])
        assert visit.known is None
        assert wire.up


async def test_the_wire_tells_wrong_from_away(redis_url: str) -> None:
    async with running_wire(settings_for(redis_url)) as wire:
        with pytest.raises(CommandError, match="unknown command"):
            await wire.command("NO-SUCH-COMMAND")
        assert wire.up
        assert await wire.command("ECHO", "x" * 3_000_000) == b"x" * 3_000_000
        replies = await asyncio.gather(*(wire.command("ECHO", str(n)) for n in range(500)))
        assert replies == [str(n).encode() for n in range(500)]
    with pytest.raises(StoreUnavailable):
        await wire.command("PING")


async def test_a_cancelled_caller_does_not_shift_the_answers(redis_url: str) -> None:
    async with running_wire(settings_for(redis_url)) as wire:
        tasks = [asyncio.create_task(wire.command("ECHO", str(n))) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for n, answer in enumerate(answers) if n != 3] == [
            str(n).encode() for n in range(10) if n != 3
        ]
