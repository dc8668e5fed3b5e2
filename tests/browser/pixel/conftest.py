"""Pages with TrackLayer's pixel, and what they sent to a door that takes everything."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.chromium import Context, Page
from tests.support.product import until
from tests.support.site import Door, Passed, Site, Trouble

MERCHANT = "7b1c9c8e-3a5d-4f2e-9d10-5a1f0c2b3d4e"
#: A browser as visitors have: the headless one's name would be a bot's.
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
#: As the gateway answers, which has to let pages under COEP have it.
TAKEN = Trouble(202, (("Cross-Origin-Resource-Policy", "cross-origin"),))


class Pages:
    """Pages with the pixel of `gateway` below a path that no other test has, and a visitor's browser."""

    def __init__(self, site: Site, gateway: str, context: Context, merchant: str = MERCHANT) -> None:
        self.mark = uuid.uuid4().hex[:12]
        self.site = site
        self.gateway = gateway
        self.context = context
        self.merchant = merchant

    def add(
        self,
        name: str = "",
        *,
        merchant: str | None = None,
        attributes: str = "",
        head: str = "",
        body: str = "",
        headers: dict[str, str] | None = None,
    ) -> str:
        """A page; gives its path."""
        path = f"/{self.mark}/{name}"
        merchant = self.merchant if merchant is None else merchant
        named = f'data-merchant="{merchant}"' if merchant else ""
        html = (
            "<!doctype html><html lang=en><head><meta charset=utf-8><title>Shop</title>"
            f"<link rel=icon href='data:,'>{head}"
            f'<script src="{self.gateway}/v1/pixel.js" {named} {attributes} async></script></head>'
            f"<body>{body}</body></html>"
        )
        self.site.pages[path] = (html, headers or {})
        return path

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path on the site."""
        return f"http://{host}:{self.site.port}{path}"

    def open(self, path: str | None = None, *, before: str = "", host: str = "127.0.0.1") -> Page:
        """A visitor's tab with the page at `path`, or with a new plain one, once the pixel is there."""
        page = self.tab(before=before)
        page.goto(self.url(self.add() if path is None else path, host))
        until(lambda: page.js("!!(window.tracklayer && tracklayer.version)"), "the pixel in the page")
        return page

    def tab(self, *, before: str = "") -> Page:
        """An empty tab of a visitor."""
        page = self.context.open(before=before)
        page.call("Emulation.setUserAgentOverride", {"userAgent": USER_AGENT})
        return page


class Shop(Pages):
    """One whose events go to a door."""

    def __init__(self, site: Site, door: Door, context: Context) -> None:
        super().__init__(site, door.url, context)
        self.door = door

    def requests(self) -> list[Passed]:
        """What was posted, in the order in which it came."""
        return self.door.events()

    def sent(self, count: int) -> list[dict[str, Any]]:
        """The events that were posted, once there are `count`; more are a failure of the caller's comparison."""
        until(lambda: len(self.requests()) >= count, f"{count} events, {names(self.events())}")
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        """The events that were posted up to now."""
        return [json.loads(one.body) for one in self.requests()]


def names(events: list[dict[str, Any]]) -> list[str]:
    """What happened."""
    return [str(one["event_name"]) for one in events]


def warnings(page: Page) -> list[str]:
    """What the pixel wrote to the page's console."""
    page.js("0")  # what Chromium reports is read along with an answer
    return [text for level, text in page.console if level == "warning" and text.startswith("[tracklayer]")]


@pytest.fixture
def shop(site: Site, door: Door, context: Context, strict: None) -> Shop:
    """A shop whose events are all taken."""
    door.always(TAKEN)
    return Shop(site, door, context)


@pytest.fixture
def shop_of(site: Site, door: Door) -> Callable[[Context], Shop]:
    """The same in another browser."""
    door.always(TAKEN)
    return lambda context: Shop(site, door, context)
