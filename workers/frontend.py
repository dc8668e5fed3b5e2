"""
The frontend's composition root: `python -m workers.frontend` under the supervisor.

Everything a frontend is made of is made here, from the bottom up; on a drain it is taken down from the
top: no new connections, open requests finished, then the queue, then the stores.
"""

from __future__ import annotations

import asyncio
import gc
import logging

from daemon.actors.messages import Beat
from daemon.actors.outbox import Outbox
from daemon.actors.process import ChildContext, run_child
from daemon.adapters.keystore.contracts import StoredContracts
from daemon.adapters.keystore.directory import StoredSources
from daemon.adapters.keystore.merchants import StoredMerchants
from daemon.adapters.keystore.shared import SharedKeys
from daemon.adapters.keystore.store import CachedKeyStore
from daemon.adapters.keystore.webhooks import StoredWebhooks
from daemon.adapters.postgres.contracts import ContractCatalog
from daemon.adapters.postgres.pool import PostgresPool
from daemon.adapters.redis.leases import LeasedRateLimiter
from daemon.adapters.redis.visits import RedisVisitStore
from daemon.adapters.redis.window import WindowedVisits
from daemon.adapters.redis.wire import RedisWire
from daemon.adapters.sealing import load_sealer
from daemon.events.outcome import Outcome
from daemon.frontend.accounts import Accounts
from daemon.frontend.app import App
from daemon.frontend.arrivals import ArrivalLoop
from daemon.frontend.gate import Gate
from daemon.frontend.hotkeys import HotKeys
from daemon.frontend.kit import Kit
from daemon.frontend.server import HttpServer
from daemon.frontend.tick import Ticker
from daemon.observe.catalog import GateMetrics, IngestMetrics, OutboxMetrics, StoreMetrics

log = logging.getLogger(__name__)

#: Between looks whether requests still come while the process takes leave, seconds.
LOOK_S = 0.02

#: Collections per generation: the hot path makes no cycles, so the collector seldom finds anything.
GC_THRESHOLDS = (50_000, 20, 50)


async def frontend(ctx: ChildContext) -> None:
    """Answer HTTP on `ctx.listen_fd` until a drain is asked for."""
    settings = ctx.settings
    ingest, queue, stores = IngestMetrics(list(Outcome)), OutboxMetrics(), StoreMetrics(("redis", "postgres"))
    doors = GateMetrics()
    ctx.instruments.add(
        *ingest.instruments(), *doors.instruments(), *queue.instruments(), *stores.instruments()
    )

    pool = PostgresPool(settings.postgres, stores)
    wire = RedisWire(settings.redis, stores)
    keys = CachedKeyStore(pool, wire, settings, stores)
    sealer = load_sealer(settings)
    directory = StoredSources(pool, keys, sealer, settings)
    webhooks = StoredWebhooks(pool, keys, sealer, settings)
    merchants = StoredMerchants(pool, keys, settings)
    contracts = StoredContracts(pool, keys)
    contract_store = ContractCatalog(pool, SharedKeys(wire, settings))
    frontends = max(1, ctx.counts.get("frontend", 1))
    limiter = LeasedRateLimiter(wire, settings, stores, frontends=frontends)
    visits = RedisVisitStore(wire, settings, stores)
    windowed = WindowedVisits(visits, wire, settings, stores)
    outbox = Outbox(ctx.queue_paths, slot=ctx.slot, settings=settings, metrics=queue)

    await wire.start()
    await pool.start()
    await asyncio.gather(keys.start(), limiter.start(), visits.start(), outbox.start())
    await contracts.start()

    hot_keys = HotKeys(settings.frontend.hot_key_per_s)
    ticker = Ticker(
        settings.kafka.topic_raw, settings.frontend.tick_s, windowed, outbox, hot_keys, ingest, queue
    )  # fmt: skip
    accounts = Accounts(ingest)
    gate = Gate(
        settings,
        doors,
        redis_up=lambda: wire.up,
        postgres_up=lambda: pool.up,
        oldest_s=lambda: outbox.oldest_wait_s,
        answers=lambda: outbox.answers,
    )
    kit = Kit(
        settings, keys, directory, webhooks, merchants, limiter, ticker, accounts, contracts, contract_store,
        gate=gate,
    )  # fmt: skip
    server = HttpServer(
        App(kit),
        ctx.listen_fd,
        backlog=settings.server.backlog,
        connections_max=max(16, -(-settings.server.connections_max // frontends)),
        head_timeout_s=settings.server.head_timeout_s,
    )

    def health() -> Beat:
        reasons = [*outbox.serving[1], *keys.serving[1], *gate.reasons]
        if kit.draining:
            reasons.append("the frontend takes leave")
        return Beat(accounts.in_work + outbox.records, not reasons, reasons)

    ctx.health = health
    kit.bodies.start()
    gate.start()
    await server.start()
    # what is here now stays for ever: the collector need not look at it again
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    ctx.ready()

    limit_s = await ctx.drain_requested()
    deadline_s = asyncio.get_running_loop().time() + limit_s
    kit.draining = True
    await _take_leave(accounts, min(settings.server.drain_window_s, limit_s / 4))
    await server.stop(max(0.1, deadline_s - asyncio.get_running_loop().time() - 1.0))
    await ticker.idle()
    kit.bodies.stop()
    await gate.stop()
    await outbox.drain(max(0.1, deadline_s - asyncio.get_running_loop().time()))
    await windowed.stop()
    await contracts.stop()
    await asyncio.gather(visits.stop(), limiter.stop(), keys.stop())
    await outbox.stop()
    await wire.stop()
    await pool.stop()


async def _take_leave(accounts: Accounts, window_s: float) -> None:
    """
    In this window replies carry `Connection: close`, so that callers go elsewhere by themselves.

    It is longer while requests still come, up to three times as long: a caller who paused, or had no CPU, has not been
    told yet, and what he sends in the moment in which his connection is closed has no answer.
    """
    loop = asyncio.get_running_loop()
    began = quiet_since = loop.time()
    seen = accounts.metrics.received.total()
    while (now := loop.time()) < began + window_s or (
        now < began + 3 * window_s and now < quiet_since + window_s
    ):
        await asyncio.sleep(min(LOOK_S, window_s))
        if (received := accounts.metrics.received.total()) != seen:
            seen, quiet_since = received, loop.time()


if __name__ == "__main__":
    run_child(frontend, ArrivalLoop)
