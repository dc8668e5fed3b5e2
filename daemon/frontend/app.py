"""
The front's application: a table of paths, and what is said to everybody else.

RSGI calls `__rsgi__` for each request; a path's endpoint does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from daemon.events import datafly, pixel, tracklayer
from daemon.frontend import assets
from daemon.frontend.datafly.batch import BatchEndpoint
from daemon.frontend.datafly.browser import BrowserEndpoint
from daemon.frontend.datafly.pixel import PixelEndpoint, gif_error
from daemon.frontend.datafly.recognise import Recogniser
from daemon.frontend.datafly.segment import SegmentEndpoint
from daemon.frontend.datafly.webhook import WebhookEndpoint
from daemon.frontend.dispatch import EventsEndpoint
from daemon.frontend.endpoint import EventEndpoint, unanswered
from daemon.frontend.kit import Kit
from daemon.frontend.openapi.document import encoded
from daemon.frontend.reply import CLOSE, JSON
from daemon.frontend.resultfly.batch import BatchEndpoint as CdpBatchEndpoint
from daemon.frontend.resultfly.contracts import BELOW as CONTRACTS
from daemon.frontend.resultfly.contracts import ContractEndpoint, ContractsEndpoint
from daemon.frontend.resultfly.door import NotFound
from daemon.frontend.resultfly.events import EventEndpoint as CdpEventEndpoint
from daemon.frontend.resultfly.work import WorkMaker
from daemon.frontend.rsgi import RequestHeaders, Scope, Transport
from daemon.frontend.tracklayer.browser import CORS, BrowserEventsEndpoint

PIXELS = "/v1/pixel/"
#: What begins so is ResultFly's.
RESULTFLY = "/v1/cdp/"
#: What begins so is TrackLayer's.
TRACKLAYER = "/v1/browser/"

Endpoint = Callable[[Scope, Transport], Awaitable[None]]


class App:
    """Routes requests to their endpoints."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        recogniser, maker = Recogniser(kit), WorkMaker(kit)
        self._endpoints: dict[str, Endpoint] = {
            **{f"/v1/{letter}": BrowserEndpoint(kit, letter, recogniser) for letter in datafly.BROWSER_TYPES},
            **{f"/v1/{kind}": SegmentEndpoint(kit, kind, recogniser) for kind in datafly.TYPES},
            **{f"{PIXELS}{kind}": PixelEndpoint(kit, kind, recogniser) for kind in pixel.TYPES},
            "/v1/events": EventsEndpoint(kit, recogniser),
            "/v1/browser/events": BrowserEventsEndpoint(kit),
            "/v1/batch": BatchEndpoint(kit, recogniser),
            "/v1/webhook": WebhookEndpoint(kit, recogniser),
            "/v1/cdp/events": CdpEventEndpoint(kit, maker),
            "/v1/cdp/events/batch": CdpBatchEndpoint(kit, maker),
            "/v1/cdp/contracts": ContractsEndpoint(kit),
            "/datafly.js": assets.sdk(kit),
            "/v1/pixel.js": assets.pixel(kit),
            "/openapi.json": assets.Asset(kit, encoded(), "application/json"),
            "/health": self._health,
        }
        self._events = {path: one for path, one in self._endpoints.items() if isinstance(one, EventEndpoint)}
        #: what may do without a task
        self._direct = {
            path: one.begin for path, one in self._endpoints.items() if isinstance(one, BrowserEndpoint)
        }
        #: whatever is below a path and is no path of its own; the longer one first
        self._prefixes: tuple[tuple[str, Endpoint], ...] = (
            (CONTRACTS, ContractEndpoint(kit)),
            (RESULTFLY, NotFound(kit)),
        )

    @property
    def paths(self) -> frozenset[str]:
        """Every path that has an endpoint."""
        return frozenset((*self._endpoints, f"{CONTRACTS}{{eventType}}"))

    def __rsgi__(self, scope: Scope, transport: Transport) -> Awaitable[None]:
        """One request. Never raises: whatever an endpoint does not answer is a fault of ours, and logged."""
        path = scope.path
        # An endpoint of events sees to its failures itself: one coroutine less for nearly every request.
        endpoint = self._events.get(path)
        if endpoint is not None:
            return endpoint(scope, transport)
        return self._other(self._endpoints.get(path) or self._below(path), scope, transport)

    def begin(
        self,
        scope: Scope,
        headers: RequestHeaders,
        transport: Transport,
        reading: asyncio.Future[bytes],
        started: float,
    ) -> bool:
        """
        Take a request without a task of its own, if its path can; False: it is `__rsgi__`'s.

        `headers` are the scope's, `reading` has its body; it came in at `started` (`perf_counter`).
        """
        begin = self._direct.get(scope.path)
        return begin is not None and begin(scope, headers, transport, reading, started)

    async def _other(self, endpoint: Endpoint, scope: Scope, transport: Transport) -> None:
        try:
            await endpoint(scope, transport)
        except Exception as error:  # noqa: BLE001  whatever it is, the process goes on
            unanswered(scope, error)

    def _below(self, path: str) -> Endpoint:
        for prefix, endpoint in self._prefixes:
            if f"{path}/".startswith(prefix):
                return endpoint
        return self._not_found

    async def _health(self, scope: Scope, transport: Transport) -> None:
        """Whether this process answers: for load balancers that only reach the ingest port."""
        if scope.method not in ("GET", "HEAD"):
            headers = [JSON, ("allow", "GET, HEAD"), *self._kit.turned_away(scope, "method_not_allowed")]
            text = f"{scope.method} is not allowed here; use GET"
            transport.response_bytes(405, headers, datafly.error_body("METHOD_NOT_ALLOWED", text))
            return
        self._kit.accounts.other("health")
        draining = self._kit.draining
        body = msgspec.json.encode({"status": "draining" if draining else "ok"})
        headers = [JSON, ("cache-control", "no-store")] + ([CLOSE] if draining else [])
        transport.response_bytes(503 if draining else 200, headers, body)

    async def _not_found(self, scope: Scope, transport: Transport) -> None:
        named = self._kit.turned_away(scope, "not_found")
        if scope.path.startswith(PIXELS):
            reply = gif_error(404, "NOT_FOUND", named)
            transport.response_bytes(reply.status, reply.headers, reply.body)
            return
        if scope.path.startswith(TRACKLAYER):
            text = f"there is nothing at {scope.path[:200]}; pages send to /v1/browser/events"
            transport.response_bytes(404, [JSON, *CORS, *named], tracklayer.error_body("not_found", text))
            return
        text = f"there is nothing at {scope.path[:200]}; browsers send to /v1/t, /v1/p, /v1/i and /v1/g"
        transport.response_bytes(404, [JSON, *named], datafly.error_body("NOT_FOUND", text))
