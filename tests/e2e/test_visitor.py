"""A visitor is recognised: over requests, frontends and restarts, the later events carry what the earlier told."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from tests.support.product import NewProduct, Product, Source

PAGE = {
    "type": "page",
    "context": {
        "page": {"url": "https://shop.example.com/?gclid=Cj0K&fbclid=IwAR1&ttclid=E.C.P&utm_source=x"}
    },
}


class Visitor:
    """A browser with a cookie jar; each request goes over a connection of its own, to whichever frontend."""

    def __init__(self, product: Product, source: Source) -> None:
        self._url = product.url
        self._headers = {**source.headers, "Connection": "close", "Origin": "http://localhost:3000"}
        self.browser = httpx.Client(headers=self._headers)
        self.sent: list[str] = []

    def send(self, letter: str, **event: Any) -> httpx.Response:
        kind = {"t": "track", "p": "page", "i": "identify", "g": "group"}[letter]
        self.sent.append(str(uuid.uuid4()))
        reply = self.browser.post(
            f"{self._url}/v1/{letter}", json={"type": kind, "messageId": self.sent[-1], **event}
        )
        assert (reply.status_code, reply.json()) == (200, {"success": True}), reply.text
        return reply

    def events(self, product: Product) -> list[dict[str, Any]]:
        """Its events on the log, in the order it sent them."""
        by_id = {one.get("messageId"): one for one in product.tail("--since", "5m")}
        return [by_id[message_id] for message_id in self.sent]


def check_story(events: list[dict[str, Any]], cookies: dict[str, str]) -> None:
    """page, track, identify, track: what each of them has to carry."""
    clicks = {"gclid": "Cj0K", "fbclid": "IwAR1", "ttclid": "E.C.P"}
    vendors = {name: value for name, value in cookies.items() if name != "_dfid"}
    assert vendors.keys() == {"_ga", "_fbp", "_fbc", "_ttp", "_gcl_aw"}
    assert vendors["_fbc"].endswith(".IwAR1")
    assert vendors["_gcl_aw"].endswith(".Cj0K")
    for event in events:
        assert event["anonymousId"] == cookies["_dfid"]
        assert event["context"]["clickIds"] == clicks
        assert event["context"]["vendorIds"] == vendors
    assert [event.get("userId") for event in events] == [None, None, "user_98765", "user_98765"]
    assert "utm_source" not in events[-1]["context"]["clickIds"]


def test_page_track_identify_track(product: Product, source: Source) -> None:
    visitors = [Visitor(product, source) for _ in range(8)]
    for visitor in visitors:
        visitor.send("p", **PAGE)
        cookies = dict(visitor.browser.cookies)
        for letter, event in (
            ("t", {"event": "Product Viewed"}),
            ("i", {"userId": "user_98765", "traits": {"plan": "premium"}}),
            ("t", {"event": "Order Completed"}),
        ):
            reply = visitor.send(letter, **event)
            assert not reply.headers.get_list("set-cookie"), "what came is kept, not set again"
        assert dict(visitor.browser.cookies) == cookies
        check_story(visitor.events(product), cookies)
    assert len({visitor.browser.cookies["_dfid"] for visitor in visitors}) == len(visitors)
    took = product.metrics().values("headgate_events_total", role="frontend", outcome="accepted")
    assert len(took) == 2
    assert min(took) > 0, "both frontends had their share"


def test_a_later_click_id_replaces_the_earlier_of_its_kind(product: Product, source: Source) -> None:
    visitor = Visitor(product, source)
    visitor.send("p", **PAGE)
    visitor.send("p", properties={"url": "https://shop.example.com/?gclid=Second"})
    visitor.send("t", event="Seen")
    found = visitor.events(product)[-1]["context"]["clickIds"]
    assert found == {"gclid": "Second", "fbclid": "IwAR1", "ttclid": "E.C.P"}


def test_a_visitor_who_lost_the_vendors_cookies_gets_the_same_again(product: Product, source: Source) -> None:
    visitor = Visitor(product, source)
    visitor.send("p", **PAGE)
    cookies = dict(visitor.browser.cookies)
    visitor.browser.cookies.clear()
    visitor.browser.cookies.set("_dfid", cookies["_dfid"])
    visitor.send("t", event="Seen")
    assert dict(visitor.browser.cookies) == cookies
    vendors = visitor.events(product)[-1]["context"]["vendorIds"]
    assert vendors == {name: value for name, value in cookies.items() if name != "_dfid"}


def test_the_same_visitor_of_another_tenant_is_a_stranger(product: Product, source: Source) -> None:
    visitor = Visitor(product, source)
    visitor.send("i", userId="user_1")
    elsewhere = product.create_source(tenant="other")
    visitor.browser.headers["Authorization"] = elsewhere.headers["Authorization"]
    visitor.send("t", event="Seen")
    mine, theirs = visitor.events(product)
    assert mine["anonymousId"] == theirs["anonymousId"]
    assert (mine["userId"], theirs.get("userId")) == ("user_1", None)


def test_identity_survives_restarts(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_FRONTEND__COUNT="1").start()
    source = product.demo
    visitor = Visitor(product, source)
    visitor.send("p", **PAGE)
    visitor.send("t", event="Seen")
    visitor.send("i", userId="user_98765")
    visitor.send("t", event="Seen")
    product.stop()
    product.start()
    assert product.demo == source, "a second start keeps the keys"
    visitor.send("t", event="Seen")
    product.process.kill()
    product.wait()
    product.start()
    visitor.send("t", event="Seen")
    first, *_, fifth, sixth = visitor.events(product)
    cookies = dict(visitor.browser.cookies)
    check_story(visitor.events(product)[:4], cookies)
    for event in (fifth, sixth):
        assert (event["anonymousId"], event["userId"]) == (cookies["_dfid"], "user_98765")
        assert event["context"]["clickIds"] == first["context"]["clickIds"]
        assert event["context"]["vendorIds"] == first["context"]["vendorIds"]
    for message_id in visitor.sent:
        reply = product.post("t", source, {"type": "track", "event": "Seen", "messageId": message_id})
        assert reply.get("x-headgate-duplicate") == "1", "what was claimed before is a duplicate after"
