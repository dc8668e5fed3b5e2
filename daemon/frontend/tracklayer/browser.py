"""
POST /v1/browser/events: what the pixel on a merchant's pages says (contracts C.4, 0.4.31).

There is no key: the body names the merchant, any page may send, and each address has a sliding window of events per
merchant. Who is no person is thanked and not listened to, before anything else is looked at.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from daemon.events import tracklayer
from daemon.events.bots import is_bot
from daemon.events.outcome import Outcome
from daemon.events.tracklayer.event import page_url
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers, Refusal, whole_seconds
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.rsgi import Scope, Transport
from daemon.frontend.tracklayer.door import TrackLayerEndpoint
from daemon.frontend.tracklayer.work import TrackLayerWork, WorkMaker
from daemon.ports import Merchant, Window

#: What is kept of a User-Agent: an envelope must not outgrow what the log's topics have to take.
USER_AGENT_CHARS_MAX = 4096

#: Any page may read the answer, and none may send cookies (contracts D).
CORS: Headers = [
    ("access-control-allow-origin", "*"),
    (
        "access-control-expose-headers",
        "Retry-After, RateLimit, RateLimit-Policy, X-Headgate-Durability, X-Request-Id",
    ),
    # a page under COEP would have an error in its console for each beacon
    ("cross-origin-resource-policy", "cross-origin"),
]
PREFLIGHT: Headers = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "POST, OPTIONS"),
    ("access-control-allow-headers", "Content-Type, Content-Encoding, X-Request-Id"),
    ("access-control-max-age", "7200"),
]


class BrowserEventsEndpoint(TrackLayerEndpoint):
    """Events of pages."""

    allow = "POST, OPTIONS"
    cors = CORS

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit, "browser_events")
        self._makes = WorkMaker(kit, "browser")
        self._bytes_max = kit.settings.limits.body_bytes_max
        self._count = kit.settings.tracklayer.browser_events_max
        self._period_s = kit.settings.tracklayer.browser_window_s

    async def steps(self, call: Call) -> Reply:
        """Person, type and length, body, event, merchant, window, log."""
        if is_bot(call.headers.get("user-agent")):
            self.ended(call, Outcome.BOT)
            return Reply(202, [JSON, *self.cors], tracklayer.DROPPED_BOT)
        length = self.declared(call, self._bytes_max)
        event = self.decoded(await self.read(call, length, self._bytes_max))
        merchant = await self._merchant(event.merchant_id)
        ip = self.kit.clients.ip(call.scope, call.headers)
        work = self._makes.work(
            merchant.tenant,
            event,
            self.kit.now(),
            window=Window(f"{merchant.id}:{network(ip)}", self._count, self._period_s),
            ip=ip,
            user_agent=str(call.headers.get("user-agent", ""))[:USER_AGENT_CHARS_MAX],
            referer=page_url(call.headers.get("referer")),
        )
        return await self.durable(call, work)

    async def _merchant(self, merchant_id: str) -> Merchant:
        merchant = await self.kit.merchants.merchant(merchant_id)
        if merchant is None:
            raise Refusal(
                Outcome.INVALID_KEY,
                f"merchant_id {merchant_id} is unknown or disabled",
                code=tracklayer.UNKNOWN_MERCHANT,
            )
        return merchant

    def over_window(self, work: TrackLayerWork) -> Refusal:
        """429, with when there is room for one more."""
        window = work.visit.window
        retry_s = whole_seconds(window.wait_s if window is not None else self._period_s)
        return Refusal(
            Outcome.RATE_LIMITED,
            f"more than {self._count} events in {self._period_s:g} seconds from this address; "
            f"try again in {retry_s} seconds",
            [
                ("retry-after", str(retry_s)),
                ("ratelimit", f'"address";r=0;t={retry_s}'),
                ("ratelimit-policy", f'"address";q={self._count};w={whole_seconds(self._period_s)}'),
            ],
        )

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """A preflight, or 405."""
        if scope.method == "OPTIONS":
            self.kit.accounts.other("preflight")
            transport.response_empty(204, [("allow", self.allow), *PREFLIGHT])
            return
        super().other_method(scope, transport)


@lru_cache(65_536)
def network(ip: str) -> str:
    """
    What counts as one caller: an IPv4 address, or the /64 that an IPv6 address is in.

    A home or a phone is given a whole /64, and takes other addresses out of it as it likes.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.version == 4:
        return ip
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
