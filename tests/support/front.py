"""A front through the real HTTP server, with the stores and the log in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec

from daemon.config.load import load
from daemon.config.schema import Settings
from daemon.events.outcome import Outcome
from daemon.frontend.accounts import Accounts
from daemon.frontend.app import App
from daemon.frontend.hotkeys import HotKeys
from daemon.frontend.kit import Kit
from daemon.frontend.server import HttpServer
from daemon.frontend.tick import Ticker
from daemon.observe.catalog import IngestMetrics, OutboxMetrics
from daemon.ports import Source
from tests.support.contracts import MemoryContracts
from tests.support.memory import (
    MemoryKeys,
    MemoryLimiter,
    MemoryMerchants,
    MemoryOutbox,
    MemoryVisits,
    MemoryWebhooks,
)

ORIGIN = "https://shop.example.com"
KEY = "dk_live_key"


def source(number: int, *origins: str, enabled: bool = True, **rest: Any) -> Source:
    """One of tenant acme's."""
    fields = {"rate_per_s": None, "burst": None, "cookie_domain": None, **rest}
    return Source(f"src_{number}", "acme", f"source {number}", enabled, origins, version=1, **fields)


SOURCE = source(1, ORIGIN, cookie_domain=".example.com")
OFF = source(2, "https://old.example.com", enabled=False)
BARE = source(3, rate_per_s=10.0, burst=20)


class Front:
    """A front with everything around it in memory; `at_hand`: keys and tokens need no asking, as nearly always."""

    def __init__(self, settings: Settings, *, at_hand: bool = False) -> None:
        self.keys = MemoryKeys({KEY: SOURCE, "dk_live_off": OFF, "dk_live_bare": BARE}, at_hand=at_hand)
        self.webhooks = MemoryWebhooks()
        self.limiter = MemoryLimiter(at_hand=at_hand)
        self.visits = MemoryVisits()
        self.outbox = MemoryOutbox()
        self.metrics = IngestMetrics(list(Outcome))
        queue = OutboxMetrics()
        ticker = Ticker("raw-events", 0.001, self.visits, self.outbox, HotKeys(1000), self.metrics, queue)
        accounts = Accounts(self.metrics)
        self.merchants = MemoryMerchants()
        self.contracts = MemoryContracts()
        self.kit = Kit(
            settings, self.keys, self.keys, self.webhooks, self.merchants, self.limiter, ticker, accounts,
            contracts=self.contracts, contract_store=self.contracts,
        )  # fmt: skip
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.server = HttpServer(
            App(self.kit), self.listener.fileno(), backlog=128, connections_max=256, head_timeout_s=10
        )
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    async def post(
        self, path: str = "/v1/t", body: Any = None, key: str | None = KEY, **headers: str
    ) -> httpx.Response:
        """A POST without a cookie jar; `body` as JSON unless it is bytes; header names with _ for -."""
        self.client.cookies.clear()
        content = body if isinstance(body, bytes) else json.dumps(body or TRACK).encode()
        sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        return await self.client.post(path, content=content, headers=sent)

    def outcome(self, outcome: Outcome) -> float:
        """How many events ended so."""
        return self.metrics.outcomes.at(outcome.value).n

    def balanced(self) -> bool:
        """The conservation law at rest."""
        return (
            self.metrics.received.total() == self.metrics.outcomes.total() and self.kit.accounts.in_work == 0
        )


TRACK = {"type": "track", "event": "Order Completed"}


async def made(*, at_hand: bool = False, **changes: Any) -> AsyncIterator[Front]:
    """A running front; the law holds when the test is over."""
    settings = load(None, {})
    front = Front(msgspec.structs.replace(settings, **changes), at_hand=at_hand)
    front.kit.bodies.start()
    await front.server.start()
    try:
        yield front
        assert front.balanced()
    finally:
        await front.client.aclose()
        await front.server.stop(2)
        front.kit.bodies.stop()
        front.listener.close()


def cookies_of(reply: httpx.Response) -> dict[str, tuple[str, set[str]]]:
    """Set-Cookie lines as name → (value, attributes)."""
    found = {}
    for line in reply.headers.get_list("set-cookie"):
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        found[name] = (value, set(attributes))
    return found
