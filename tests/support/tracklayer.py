"""What tests of TrackLayer share: a merchant, its key, an event, and a browser's name."""

from __future__ import annotations

from typing import Any

import httpx

from daemon.ports import ApiKey, Merchant
from tests.support.front import Front

MERCHANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER_MERCHANT = "9a0c4f89-3f25-41d3-8a0c-0305e82c3302"
TL_KEY = "tl_live_key0123456789"

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
HEADLESS = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36"

#: What an event needs.
LEAST: dict[str, Any] = {
    "event_id": "order-12345",
    "event_name": "purchase",
    "event_time": 1772029800,
    "merchant_id": MERCHANT,
}

#: The documented request (contracts C.2).
PURCHASE: dict[str, Any] = {
    **LEAST,
    "source": "server",
    "user_data": {
        "email": "jane@example.com",
        "phone": "+1 650 555 1212",
        "browser_ids": {"fbp": "fb.1.1596403881668.1116446470"},
    },
    "value": 129.99,
    "currency": "USD",
    "order_id": "12345",
    "items": [{"id": "sku-1", "quantity": 1, "price": 129.99}],
}


def prepare(front: Front) -> None:
    """Two merchants, the first with a key."""
    front.merchants.rows[MERCHANT] = Merchant(MERCHANT, "acme", "Shop")
    front.merchants.rows[OTHER_MERCHANT] = Merchant(OTHER_MERCHANT, "globex", "Other")
    front.keys.api_keys[TL_KEY] = tl_key()


def tl_key(*scopes: str, **rest: Any) -> ApiKey:
    """The first merchant's, by default with the scope that it needs."""
    fields = {"rate_per_s": None, "burst": None, "merchant_id": MERCHANT, "kind": "merchant", **rest}
    return ApiKey(id="key_tl", tenant="acme", scopes=scopes or ("events:write",), **fields)


async def track(front: Front, body: Any = None, key: str | None = TL_KEY, **headers: str) -> httpx.Response:
    """An event of a server."""
    return await front.post("/v1/events", PURCHASE if body is None else body, key, **headers)


async def browser(front: Front, body: Any = None, **headers: str) -> httpx.Response:
    """An event of a page; without other words by Firefox."""
    sent = {"user_agent": FIREFOX, **headers}
    return await front.post("/v1/browser/events", PURCHASE if body is None else body, None, **sent)
