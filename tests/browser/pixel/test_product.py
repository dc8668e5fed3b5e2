"""TrackLayer's pixel with the real gateway: what a visitor does is on the log, in order, once each."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from tests.browser.conftest import Log
from tests.browser.pixel.conftest import USER_AGENT, Pages, names, warnings
from tests.browser.pixel.test_guest import STRICT_CSP
from tests.support.chromium import Context, Page
from tests.support.product import Product, until
from tests.support.site import Site


@dataclass
class Merchant:
    """A merchant's pages, its key, and what is on the log."""

    id: str
    tenant: str
    api_key: str
    pages: Pages
    product: Product
    followed: Log

    def arrived(self, count: int) -> list[dict[str, Any]]:
        """The envelopes of its pages, once there are `count`, and once all that was answered has been read."""
        until(lambda: len(self.followed.of(self.pages.mark)) >= count, f"{count} envelopes")
        self.followed.settled(self.product.demo)
        return self.followed.of(self.pages.mark)

    def server_sends(self, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the merchant's server is answered for `event`."""
        request = urllib.request.Request(
            f"{self.product.url}/v1/events",
            json.dumps({**event, "merchant_id": self.id, "source": "server"}).encode(),
            {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read())


@pytest.fixture
def merchant(product: Product, site: Site, context: Context, log: Log, strict: None) -> Merchant:
    """A new one: each has a window of 30 events of its own."""
    made = product.json("merchants", "create", "--name", "Pixel shop")
    pages = Pages(site, product.url, context, made["merchant_id"])
    return Merchant(made["merchant_id"], made["tenant"], made["api_key"], pages, product, log)


def events(envelopes: list[dict[str, Any]]) -> list[str]:
    """What happened."""
    return [str(one["event"]) for one in envelopes]


def trouble(page: Page) -> list[tuple[str, str]]:
    """Errors and warnings in the console, whoever wrote them."""
    page.js("0")
    return [entry for entry in page.console if entry[0] in ("error", "warning")]


def test_a_visit(merchant: Merchant) -> None:
    """Load, two pages of a router, back, an event, a sign-in, a purchase, and the tab is closed."""
    pages = merchant.pages
    path = pages.add()
    page = pages.open(path + "?fbclid=IwAR0_AbC-dEf")
    page.js(
        f"document.cookie = '_fbp=fb.1.1596403881668.1116446470',"
        f"history.pushState({{}}, '', '{path}a'), history.pushState({{}}, '', '{path}b')"
    )
    merchant.arrived(3)
    page.back()
    merchant.arrived(4)
    ids = page.js("""[
        tracklayer.track('ViewContent', {colour: 'red'}),
        tracklayer.identify({email: 'jane@example.com', phone: 4915112345678}),
        tracklayer.consent({ad_storage: 'granted'}),
        tracklayer.track('Purchase', {event_id: 'order-12345', value: '59.00', currency: 'eur', order_id: 12345,
                                      items: [{id: 'sku-1', quantity: '1', price: 59}]}),
    ]""")
    merchant.arrived(6)
    page.js("addEventListener('pagehide', () => tracklayer.track('Left')), 0")
    page.close()

    seen = merchant.arrived(7)
    assert events(seen) == [*["page_view"] * 4, "ViewContent", "Purchase", "Left"]
    assert len({one["id"] for one in seen}) == 7
    assert [one["messageId"] for one in seen[4:6]] == [ids[0], "order-12345"]
    assert {(one["contract"], one["channel"], one["type"]) for one in seen} == {
        ("tracklayer", "browser", "track")
    }
    assert {(one["tenant"], one["source"]) for one in seen} == {(merchant.tenant, merchant.id)}
    assert {one["context"]["ip"] for one in seen} == {"127.0.0.1"}
    assert {one["context"]["userAgent"] for one in seen} == {USER_AGENT}
    url = pages.url(path)
    assert [one["context"]["page"]["url"] for one in seen[:4]] == [
        url + "?fbclid=IwAR0_AbC-dEf", url + "a", url + "b", url + "a",
    ]  # fmt: skip
    assert seen[4]["properties"] == {"colour": "red"}
    purchase = seen[5]
    assert (purchase["value"], purchase["currency"], purchase["order_id"]) == (59, "EUR", "12345")
    assert purchase["items"] == [{"id": "sku-1", "quantity": 1, "price": 59}]
    assert purchase["context"]["consent"] == {"ad_storage": "granted"}
    assert purchase["user_data"]["email"] == "jane@example.com"
    assert purchase["user_data"]["phone"] == "4915112345678"
    assert purchase["user_data"]["browser_ids"]["fbp"] == "fb.1.1596403881668.1116446470"
    [fbc] = {one["user_data"]["browser_ids"]["fbc"] for one in seen}
    assert fbc.endswith(".IwAR0_AbC-dEf")
    assert "user_data" not in seen[0] or "email" not in seen[0]["user_data"]


def test_the_server_repeats_an_event(merchant: Merchant) -> None:
    """The usual pair: one event_id, from the page and from the server; both are taken."""
    page = merchant.pages.open()
    event_id = page.js("tracklayer.track('Purchase', {value: 5, currency: 'EUR'})")
    pixel = merchant.arrived(2)[1]
    answer = merchant.server_sends(
        {
            "event_id": event_id, "event_name": "Purchase", "event_time": 1772029800,
            "event_source_url": merchant.pages.url(f"/{merchant.pages.mark}/server"),
        }
    )  # fmt: skip
    assert answer == (202, {"success": True, "event_id": event_id})
    server = merchant.arrived(3)[2]
    assert (pixel["messageId"], server["messageId"]) == (event_id, event_id)
    assert (pixel["channel"], server["channel"]) == ("browser", "server")


@pytest.mark.parametrize("attributes", ["", "data-debug"])
def test_a_strict_policy(merchant: Merchant, attributes: str) -> None:
    """Beacons and requests alike pass a strict policy, and isolation of the page, without a word in the console."""
    pages = merchant.pages
    headers = {name: value.replace("{gateway}", pages.gateway) for name, value in STRICT_CSP.items()}
    page = pages.open(pages.add(headers=headers, attributes=attributes))
    page.js("tracklayer.track('A'), tracklayer.track('B')")
    assert events(merchant.arrived(3)) == ["page_view", "A", "B"]
    assert page.js("crossOriginIsolated") is True
    assert trouble(page) == []


def test_debugging(merchant: Merchant) -> None:
    """What the gateway says of a refused event is in the console, with the field's name; what comes after it arrives."""
    page = merchant.pages.open(merchant.pages.add(attributes="data-debug"))
    page.js("tracklayer.track('Bad', {value: 1, currency: 'XYZ'}), tracklayer.track('Good')")
    assert events(merchant.arrived(2)) == ["page_view", "Good"]
    until(lambda: warnings(page), "the warning")
    [text] = warnings(page)
    assert text.startswith("[tracklayer] 400 {")
    assert json.loads(text.removeprefix("[tracklayer] 400 "))["details"][0]["field"] == "currency"


def test_an_unknown_merchant(merchant: Merchant) -> None:
    """Refused, which the page does not notice."""
    pages = merchant.pages
    page = pages.open(
        pages.add("x", merchant="00000000-0000-4000-8000-000000000000", attributes="data-debug")
    )
    until(lambda: warnings(page), "the warning")
    assert warnings(page)[0].startswith("[tracklayer] 404 {")
    pages.open()
    assert names([{"event_name": one["event"]} for one in merchant.arrived(1)]) == ["page_view"]


def test_a_machine(merchant: Merchant) -> None:
    """A browser that calls itself headless is thanked, and its events are dropped."""
    page = merchant.pages.context.open()
    page.call(
        "Emulation.setUserAgentOverride", {"userAgent": USER_AGENT.replace("Chrome/", "HeadlessChrome/")}
    )
    page.goto(merchant.pages.url(merchant.pages.add()))
    until(lambda: page.js("!!(window.tracklayer && tracklayer.version)"), "the pixel in the page")
    until(
        lambda: page.js("performance.getEntriesByType('resource').some(e => e.initiatorType === 'beacon')"),
        "an answer",
    )
    merchant.pages.open(merchant.pages.add("person"))
    [only] = merchant.arrived(1)
    assert only["context"]["page"]["url"].endswith("/person")
