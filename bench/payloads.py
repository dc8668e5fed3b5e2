"""
What a shop's pages send: page, track, identify and group events of 200 bytes to 8 KB.

Pure and seeded: the same seed gives the same visitors and the same bodies, so that two runs compare.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import msgspec

Json = dict[str, Any]

#: Path letter → the body's `type`.
TYPES = {"p": "page", "t": "track", "i": "identify", "g": "group"}

#: How often each comes, roughly as sites send them: a few page views, more clicks, seldom a login.
WEIGHTS = {"p": 30, "t": 60, "i": 7, "g": 3}


USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
)
LOCALES = (
    ("de-DE", "Europe/Berlin"),
    ("en-US", "America/New_York"),
    ("fr-FR", "Europe/Paris"),
    ("ja-JP", "Asia/Tokyo"),
)
SECTIONS = ("schuhe", "jacken", "taschen", "sale", "new-in", "accessoires")
CLICK_IDS = ("gclid", "fbclid", "ttclid", "li_fat_id", "ScCid", "epik", "tduid")
WORDS = (
    "leicht", "wasserdicht", "atmungsaktiv", "Größe", "Farbe", "nachhaltig", "recycled", "cotton", "merino",
    "trail", "running", "city", "classic", "limited", "edition", "slim", "regular", "summer", "winter",
    "東京", "été", "Straße", "navy", "oliv", "anthrazit", "bestseller", "restock",
)  # fmt: skip

CLICKS = (
    "Product Clicked", "Product Added", "Product Removed", "Cart Viewed", "Checkout Started", "Coupon Applied",
    "Search Performed", "Video Played", "Form Submitted", "Banner Clicked",
)  # fmt: skip


@dataclass(slots=True)
class Event:
    """One body: `letter` is the path (/v1/<letter>), `message_id` the caller's own id."""

    letter: str
    message_id: str
    body: bytes


@dataclass(slots=True)
class Visitor:
    """One browser: what stays the same from event to event."""

    rng: random.Random
    origin: str
    user_agent: str = ""
    context: Json = field(default_factory=dict)
    landing: str = ""
    user_id: str = ""
    pages: int = 0

    def __post_init__(self) -> None:
        rng = self.rng
        self.user_agent = rng.choice(USER_AGENTS)
        locale, timezone = rng.choice(LOCALES)
        width = rng.choice((390, 412, 1280, 1440, 1920))
        self.context = {
            "userAgent": self.user_agent,
            "locale": locale,
            "timezone": timezone,
            "screen": {"width": width, "height": round(width * 0.62), "density": rng.choice((1, 2, 3))},
            "library": {"name": "datafly.js", "version": "1.4.2"},
            "consent": {"analytics": True, "marketing": rng.random() < 0.7, "functional": True},
        }
        # A third comes by an advertisement, with the network's click id in the address.
        self.landing = f"{self.origin}/{rng.choice(SECTIONS)}"
        if rng.random() < 0.33:
            self.landing += (
                f"?{rng.choice(CLICK_IDS)}={token(rng, 60)}&utm_source=ads&utm_medium=cpc&utm_campaign=herbst"
            )

    def next(self) -> Event:
        """The next event: a page view first, then as WEIGHTS has it."""
        if self.pages == 0:
            return self.event("p")
        return self.event(self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])

    def event(self, letter: str) -> Event:
        """An event of the kind that /v1/<letter> takes."""
        message_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        made: Json = {"type": TYPES[letter], "messageId": message_id}
        if self.user_id:
            made["userId"] = self.user_id
        match letter:
            case "p":
                self._page(made)
            case "t":
                self._track(made)
            case "i":
                self._identify(made)
            case _:
                self._group(made)
        if letter != "p" and "context" not in made:
            # SDKs send the page with every event; some sites strip the rest.
            full = self.rng.random() < 0.8
            made["context"] = {**(self.context if full else {}), "page": self._where()}
        return Event(letter, message_id, msgspec.json.encode(made))

    def _page(self, made: Json) -> None:
        self.pages += 1
        made["name"] = "Home" if self.pages == 1 else "Product"
        made["properties"] = {**self._where(), "title": words(self.rng, 3, 8)}
        made["context"] = {**self.context, "page": self._where()}

    def _track(self, made: Json) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.06:
            made["event"] = "Order Completed"
            items = [item(rng) for _ in range(rng.randint(1, 14))]
            made["properties"] = {
                "order_id": f"O-{rng.randrange(10**9)}",
                "value": round(sum(one["price"] * one["quantity"] for one in items), 2),
                "currency": rng.choice(("EUR", "USD", "JPY")),
                "products": items,
            }
        elif kind < 0.16:
            # A list of what was seen: the big ones.
            made["event"] = "Product List Viewed"
            made["properties"] = {
                "list_id": rng.choice(SECTIONS),
                "products": [item(rng) for _ in range(rng.randint(8, rng.choice((16, 24, 42))))],
            }
        elif kind < 0.55:
            made["event"] = rng.choice(CLICKS)
            made["properties"] = item(rng)
        else:
            # Clicks and scrolls: small, with nothing around them.
            made["event"] = rng.choice(("Scroll", "Click", "Hover", "Heartbeat"))
            made["properties"] = {
                "target": f"#{token(rng, 8)}",
                "x": rng.randint(100, 1400),
                "y": rng.randint(100, 5000),
            }
            made["context"] = {"page": {"url": self.landing}}

    def _identify(self, made: Json) -> None:
        rng = self.rng
        self.user_id = self.user_id or f"user_{rng.randrange(10**8)}"
        made["userId"] = self.user_id
        made["traits"] = {
            "email": f"{token(rng, 9).lower()}@example.com",
            "firstName": rng.choice(("Zoë", "Jürgen", "Mary", "花子")),
            "plan": rng.choice(("free", "pro", "team")),
            "createdAt": "2024-03-01T09:30:00.000Z",
        }

    def _group(self, made: Json) -> None:
        rng = self.rng
        made["groupId"] = f"company_{rng.randrange(5000)}"
        made["traits"] = {"name": words(rng, 1, 3), "employees": rng.randint(1, 5000), "industry": "retail"}

    def _where(self) -> Json:
        if self.pages <= 1:
            return {
                "url": self.landing,
                "path": "/",
                "referrer": "https://www.example.org/",
                "title": "Start",
            }
        path = f"/{self.rng.choice(SECTIONS)}/{self.rng.randrange(10**5)}"
        return {"url": self.origin + path, "path": path, "referrer": self.landing, "title": "Product"}


def item(rng: random.Random) -> Json:
    """A product, as carts and lists hold it."""
    return {
        "product_id": f"SKU-{rng.randrange(10**6)}",
        "name": words(rng, 2, 6),
        "brand": rng.choice(("Nordwand", "Kiwa", "Alto")),
        "price": round(rng.uniform(4, 400), 2),
        "quantity": rng.randint(1, 3),
        "category": rng.choice(SECTIONS),
        "position": rng.randint(1, 60),
    }


def words(rng: random.Random, least: int, most: int) -> str:
    """Some words, umlauts and kanji among them."""
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def token(rng: random.Random, length: int) -> str:
    """Letters and digits, as in click ids."""
    return "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", k=length))
