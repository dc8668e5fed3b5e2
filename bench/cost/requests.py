"""
The requests of every scenario, byte for byte.

Pure and seeded, but for the signed ones, whose time and signature have to be of the moment.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.generators import MARK
from bench.instance import Source
from daemon.events.signatures import datafly_signature

#: Where one of many keys goes.
KEY_MARK = "#" * 32

#: Prepared requests of a scenario; visitors come back within them.
COUNT = 2000
VISITORS = 500
#: Signed requests can't be filled in by wrk, and each may be sent once: more than a turn can take.
SIGNED_PER_S = 20_000

AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may send: sources of Datafly, a key of ResultFly under whose contract CONTRACTS stands, a merchant and its key."""

    sources: Sequence[Source]
    cdp_key: str
    merchant_id: str
    merchant_key: str


@dataclass(frozen=True, slots=True)
class Given:
    """What requests are made for: who sends them, the seconds of the turn, and a number that no other turn has."""

    access: Access
    seconds: float
    turn: int

    @property
    def sources(self) -> Sequence[Source]:
        """Those of Datafly."""
        return self.access.sources


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table. `keys` of them are in use; 0: those of the sources."""

    name: str
    what: str
    events: int
    connections: int
    make: Callable[[Given, random.Random], Iterable[bytes]]
    keys: int = 0
    #: whether the requests are good for one turn only
    fresh: bool = False


def body(rng: random.Random, size: int, *, message_id: str | None = MARK, **more: Any) -> str:
    """A track event of `size` bytes, as a page sends it."""
    sku = rng.randrange(10_000)
    event: dict[str, Any] = {
        "type": "track",
        "event": rng.choice(("Product Viewed", "Product Added", "Checkout Started", "Order Completed")),
        **({"messageId": message_id} if message_id else {}),
        **more,
        "context": {
            "page": {"url": f"https://shop-0.example/shoes/{sku:05}", "title": "Running shoes"},
            "locale": "en-US",
            "timezone": "Europe/Berlin",
        },
        "properties": {
            "product_id": f"SKU-{sku:05}",
            "price": 89.9,
            "currency": "EUR",
            "quantity": 1,
            "note": "",
        },
    }
    text = json.dumps(event, separators=(",", ":"))
    missing = size - len(text)
    event["properties"]["note"] = "".join(rng.choices("abcdefghij klmnopqrstuvwxyz", k=max(0, missing)))
    return json.dumps(event, separators=(",", ":"))


def cookies(rng: random.Random) -> str:
    """Those of a returning visitor."""

    def uid() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    return (
        f"_dfid={uid()}; _ga=GA1.1.{rng.randrange(2**31)}.1760000000; "
        f"_fbp=fb.1.1760000000000.{rng.randrange(10**9, 10**10)}; _ttp={uid()}"
    )


def http(method: str, target: str, headers: dict[str, str], data: str = "") -> bytes:
    """One request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: events.shop-0.example"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"Content-Length: {len(data.encode())}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data.encode()


def browser(
    size: int, message_id: str | None = MARK, key: str = ""
) -> Callable[[Given, random.Random], Iterable[bytes]]:
    """Single events of returning visitors to /v1/t."""

    def make(given: Given, rng: random.Random) -> Iterable[bytes]:
        visitors = [(cookies(rng), rng.choice(AGENTS)) for _ in range(VISITORS)]
        for _ in range(COUNT):
            source = rng.choice(given.sources)
            cookie, agent = rng.choice(visitors)
            headers = {
                "Authorization": f"Bearer {key or source.key}",
                "Content-Type": "application/json",
                **({} if key else {"Origin": source.origin}),
                "User-Agent": agent,
                "Cookie": cookie,
            }
            yield http("POST", "/v1/t", headers, body(rng, size, message_id=message_id))

    return make


def segment(size: int) -> Callable[[Given, random.Random], Iterable[bytes]]:
    """Single events of servers to /v1/track."""

    def make(given: Given, rng: random.Random) -> Iterable[bytes]:
        for _ in range(COUNT):
            headers = {
                "Authorization": f"Bearer {rng.choice(given.sources).key}",
                "Content-Type": "application/json",
            }
            yield http("POST", "/v1/track", headers, body(rng, size, userId=f"user_{rng.randrange(10**6)}"))

    return make


def pixel(given: Given, rng: random.Random) -> Iterable[bytes]:
    """Pixels of returning visitors."""
    visitors = [(cookies(rng), rng.choice(AGENTS)) for _ in range(VISITORS)]
    for _ in range(COUNT):
        cookie, agent = rng.choice(visitors)
        query = {
            "wk": rng.choice(given.sources).key,
            "e": "Email Opened",
            "mid": MARK,
            "p.campaign": f"autumn {rng.randrange(100)}",
            "p.list": "newsletter",
        }
        target = f"/v1/pixel/track?{urlencode(query, safe='@')}"
        yield http("GET", target, {"User-Agent": agent, "Cookie": cookie, "Accept": "image/*"})


def signed(given: Given, rng: random.Random) -> Iterable[bytes]:
    """Signed single events of servers to /v1/events; every one is good once."""
    now_ms = str(int(time.time() * 1000))
    for number in range(int(SIGNED_PER_S * given.seconds)):
        source = rng.choice(given.sources)
        text = body(rng, 450, message_id=f"{given.turn}-{number:032}", userId=f"user_{rng.randrange(10**6)}")
        headers = {
            "X-Pipeline-Key": source.key,
            "X-Signature": datafly_signature(source.secret.encode(), now_ms, text.encode()),
            "X-Timestamp": now_ms,
            "Content-Type": "application/json",
        }
        yield http("POST", "/v1/events", headers, text)


#: What ResultFly's events are checked against.
CONTRACTS: dict[str, Any] = {
    "product_viewed": {
        "properties": {
            "product_id": {"type": "string", "required": True},
            "price": {"type": "number", "required": True},
            "currency": {"type": "string", "required": True},
            "quantity": {"type": "integer"},
            "note": {"type": "string"},
        },
        "additionalProperties": "reject",
    }
}


def _padded(event: dict[str, Any], note: dict[str, Any], size: int, rng: random.Random) -> str:
    """`event` as JSON of `size` bytes, filled up in the `note` of a part of it."""
    note["note"] = ""
    missing = size - len(json.dumps(event, separators=(",", ":")))
    note["note"] = "".join(rng.choices("abcdefghij klmnopqrstuvwxyz", k=max(0, missing)))
    return json.dumps(event, separators=(",", ":"))


def cdp(given: Given, rng: random.Random) -> Iterable[bytes]:
    """Single events of ResultFly, under a contract."""
    headers = {"Authorization": f"Bearer {given.access.cdp_key}", "Content-Type": "application/json"}
    for _ in range(COUNT):
        properties: dict[str, Any] = {
            "product_id": f"SKU-{rng.randrange(10_000):05}",
            "price": 89.9,
            "currency": "EUR",
            "quantity": 1,
        }
        event = {
            "source": "shop.backend",
            "externalEventId": MARK,
            "eventType": "product_viewed",
            "identity": {"externalUserId": f"user_{rng.randrange(10**6)}", "email": "jane.doe@example.com"},
            "properties": properties,
        }
        yield http("POST", "/v1/cdp/events", headers, _padded(event, properties, 450, rng))


def tracklayer(given: Given, rng: random.Random) -> Iterable[bytes]:
    """Single events of a merchant's server."""
    headers = {"Authorization": f"Bearer {given.access.merchant_key}", "Content-Type": "application/json"}
    for _ in range(COUNT):
        custom: dict[str, Any] = {}
        event = {
            "event_id": MARK,
            "event_name": "purchase",
            "event_time": int(time.time()),
            "merchant_id": given.access.merchant_id,
            "source": "server",
            "value": 129.99,
            "currency": "USD",
            "order_id": f"{rng.randrange(10**6)}",
            "user_data": {"email": "jane@example.com", "customer_id": f"{rng.randrange(10**6)}"},
            "items": [{"id": "sku-1", "quantity": 1, "price": 129.99}],
            "custom_data": custom,
        }
        yield http("POST", "/v1/events", headers, _padded(event, custom, 450, rng))


def batch(items: int, size: int) -> Callable[[Given, random.Random], Iterable[bytes]]:
    """Batches of servers' events."""

    def make(given: Given, rng: random.Random) -> Iterable[bytes]:
        for _ in range(max(20, COUNT // items)):
            headers = {
                "Authorization": f"Bearer {rng.choice(given.sources).key}",
                "Content-Type": "application/json",
            }
            events = ",".join(body(rng, size, userId=f"user_{rng.randrange(10**6)}") for _ in range(items))
            yield http("POST", "/v1/batch", headers, f'{{"batch":[{events}]}}')

    return make


#: The unit's requests, and those that most rows differ from in one thing.
SINGLE = Scenario("single", "one event of 450 B with a messageId, as pages send it", 1, 64, browser(450))

SCENARIOS: tuple[Scenario, ...] = (
    SINGLE,
    Scenario("no-id", "the same without a messageId", 1, 64, browser(450, None)),
    Scenario("4-kb", "the same with 4 KB", 1, 64, browser(4096)),
    Scenario("one-key", "the same, from pages without an origin, with 1 key", 1, 64,
             browser(450, key=f"dk_test_{KEY_MARK}"), keys=1),
    Scenario("100k-keys", "the same with 100,000 keys", 1, 64,
             browser(450, key=f"dk_test_{KEY_MARK}"), keys=100_000),
    Scenario("server", "one event of 450 B as servers send it (/v1/track)", 1, 64, segment(450)),
    Scenario("pixel", "a pixel with a messageId", 1, 64, pixel),
    Scenario("hmac", "one signed event of 450 B (/v1/events)", 1, 64, signed, fresh=True),
    Scenario("cdp", "one event of ResultFly under a contract, 450 B", 1, 64, cdp),
    Scenario("tracklayer", "one event of TrackLayer from a server, 450 B", 1, 64, tracklayer),
    Scenario("batch-10", "batches of 10 events of 450 B", 10, 32, batch(10, 450)),
    Scenario("batch-100", "batches of 100", 100, 8, batch(100, 450)),
    Scenario("batch-500", "batches of 500", 500, 4, batch(500, 450)),
    Scenario("batch-100-4-kb", "batches of 100 events of 4 KB", 100, 8, batch(100, 4096)),
)  # fmt: skip


def write(scenario: Scenario, given: Given, file: Path) -> None:
    """The requests of a scenario, as raw.lua reads them."""
    rng = random.Random(scenario.name)
    with file.open("wb") as out:
        for request in scenario.make(given, rng):
            out.write(b"%d\n%b\n" % (len(request), request))
