"""What every endpoint of the front needs, put together once by the composition root."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from daemon.config.schema import Settings
from daemon.frontend.accounts import Accounts
from daemon.frontend.body import BodyReader
from daemon.frontend.client import ClientAddress
from daemon.frontend.gate import Gate
from daemon.frontend.refusal import Headers
from daemon.frontend.rsgi import Scope
from daemon.frontend.tick import Ticker
from daemon.frontend.work import RandomPool
from daemon.observe.catalog import GateMetrics
from daemon.ports import (
    ContractDirectory,
    ContractStore,
    KeyStore,
    MerchantDirectory,
    RateLimiter,
    SourceDirectory,
    WebhookDirectory,
)

log = logging.getLogger(__name__)


class Kit:
    """Plain attributes; see the constructor."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        directory: SourceDirectory,
        webhooks: WebhookDirectory,
        merchants: MerchantDirectory,
        limiter: RateLimiter,
        ticker: Ticker,
        accounts: Accounts,
        contracts: ContractDirectory,
        contract_store: ContractStore,
        now: Callable[[], float] = time.time,
        gate: Gate | None = None,
    ) -> None:
        self.settings = settings
        self.keys = keys
        self.directory = directory
        self.webhooks = webhooks
        self.merchants = merchants
        self.limiter = limiter
        self.ticker = ticker
        self.accounts = accounts
        self.gate = gate or Gate(settings, GateMetrics())
        self.contracts = contracts
        self.contract_store = contract_store
        self.bodies = BodyReader(settings.server.body_timeout_s)
        self.clients = ClientAddress(settings.server.trusted_proxies)
        self.random = RandomPool()
        self.now = now
        self._spawned: set[asyncio.Task[None]] = set()
        #: True once the process takes leave: replies then ask the caller to close the connection.
        self.draining = False

    def request_id(self, scope: Scope) -> str:
        """The caller's own X-Request-Id if it is a short plain one, else a fresh id."""
        given = scope.headers.get("x-request-id")
        if given and len(given) <= 64 and given.isascii() and given.isprintable():
            return str(given)
        return self.random.take(8).hex()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, which must not raise, beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)

    def turned_away(self, scope: Scope, kind: str) -> Headers:
        """Count a request that asks for what is not there (`not_found`, `method_not_allowed`); its X-Request-Id."""
        self.accounts.other(kind)
        request_id = self.request_id(scope)
        if log.isEnabledFor(logging.DEBUG):
            extra = {"request_id": request_id, "method": scope.method, "path": scope.path, "why": kind}
            log.debug("refused", extra=extra)
        return [("x-request-id", request_id)]


class Times:
    """ISO 8601 texts of the present, made once per millisecond."""

    def __init__(self) -> None:
        self._ms = -1
        self._second = -1
        self._head = ""
        self._text = ""

    def iso(self, now_s: float) -> str:
        """`now_s` (Unix seconds) as `2026-02-25T14:30:00.123Z`."""
        ms = int(now_s * 1000)
        if ms != self._ms:
            self._ms = ms
            second, fraction = divmod(ms, 1000)
            if second != self._second:
                self._second = second
                self._head = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._text = f"{self._head}.{fraction:03d}Z"
        return self._text
