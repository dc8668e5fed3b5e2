"""A visit, as TrackLayer's pixel tells it: every event once, in the order in which it happened."""

from __future__ import annotations

import re
import time

import pytest

from tests.browser.pixel.conftest import MERCHANT, Shop, names, warnings
from tests.support.product import until

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_a_visit(shop: Shop) -> None:
    """Load, two pages of a router, back, an event, a sign-in, another event, and the tab is closed."""
    path = shop.add()
    page = shop.open(path)
    before = int(time.time())
    page.js(f"history.pushState({{n: 1}}, '', '{path}a?x=1#part')")
    page.js(f"history.pushState({{n: 2}}, '', '{path}b')")
    page.back()
    shop.sent(4)
    ids = page.js(
        "[tracklayer.track('ViewContent', {value: 12.5, currency: 'EUR', order_id: 'o-1', "
        "items: [{id: 'sku-1', quantity: 2, price: 6.25}], colour: 'red'}),"
        "tracklayer.identify({email: 'jane@example.com'}), tracklayer.track('AddToCart')]"
    )
    page.js("addEventListener('pagehide', () => tracklayer.track('Left')), 0")
    shop.sent(6)
    page.close()

    seen = shop.sent(7)
    assert names(seen) == [*["page_view"] * 4, "ViewContent", "AddToCart", "Left"]
    assert len({one["event_id"] for one in seen}) == 7
    assert all(UUID4.fullmatch(one["event_id"]) for one in seen)
    assert [seen[4]["event_id"], None, seen[5]["event_id"]] == ids
    url = shop.url(path)
    assert [one["event_source_url"] for one in seen[:4]] == [url, url + "a?x=1", url + "b", url + "a?x=1"]
    assert {(one["merchant_id"], one["source"]) for one in seen} == {(MERCHANT, "browser")}
    assert all(type(one["event_time"]) is int for one in seen)
    assert before - 60 <= seen[0]["event_time"] <= seen[6]["event_time"] <= time.time()
    product = seen[4]
    assert (product["value"], product["currency"], product["order_id"]) == (12.5, "EUR", "o-1")
    assert product["items"] == [{"id": "sku-1", "quantity": 2, "price": 6.25}]
    assert product["custom_data"] == {"colour": "red"}
    assert [one["user_data"].get("email") for one in seen] == [None] * 5 + ["jane@example.com"] * 2


def test_on_the_wire(shop: Shop) -> None:
    """A beacon of plain text, so no page has to ask first; to the script's own origin."""
    shop.open()
    shop.sent(1)
    [request] = shop.requests()
    assert (request.method, request.target) == ("POST", "/v1/browser/events")
    assert request.headers["content-type"].lower() == "text/plain;charset=utf-8"
    assert request.headers["sec-fetch-mode"] == "no-cors"
    assert [one.method for one in shop.door.passed] == ["GET", "POST"]


def test_many_at_once_keep_their_order(shop: Shop) -> None:
    """Beacons side by side would overtake each other."""
    page = shop.open()
    ids = page.js("Array.from({length: 40}, (_, n) => tracklayer.track('E' + n))")
    seen = shop.sent(41)
    assert names(seen) == ["page_view", *(f"E{n}" for n in range(40))]
    assert [one["event_id"] for one in seen[1:]] == ids


@pytest.mark.parametrize("how", ["close", "next", "reload", "hide"])
def test_what_waits_when_the_page_is_left(shop: Shop, how: str) -> None:
    """Behind an answer that does not come: sent in the page's last moment, once."""
    shop.door.gate.clear()
    page = shop.open()
    page.js("for (const n of [1, 2, 3]) tracklayer.track('E' + n)")
    if how == "close":
        page.close()
    elif how == "next":
        page.goto(shop.url("/nothing"))
    elif how == "reload":
        page.reload()
    else:
        page.js(
            "Object.defineProperty(Document.prototype, 'hidden', {get: () => true}),"
            "document.dispatchEvent(new Event('visibilitychange', {bubbles: true})), 0"
        )
    shop.door.gate.set()
    count = 5 if how == "reload" else 4
    seen = shop.sent(count)
    assert sorted(names(seen)) == ["E1", "E2", "E3", *["page_view"] * (count - 3)]
    assert len({one["event_id"] for one in seen}) == count


@pytest.mark.parametrize("moment", ["beforeunload", "pagehide", "visibilitychange", "unload"])
def test_events_of_the_last_moment(shop: Shop, moment: str) -> None:
    """Whatever a page listens to for its end."""
    page = shop.open()
    shop.sent(1)
    page.js(f"addEventListener('{moment}', () => {{ tracklayer.track('One'); tracklayer.track('Two') }})")
    page.goto(shop.url("/nothing"))
    # side by side, so one may overtake the other
    assert sorted(names(shop.sent(3))) == ["One", "Two", "page_view"]


def test_views_inside_a_page(shop: Shop) -> None:
    """One for each address, never two in a row for the same; a fragment counts where it is a route."""
    path = shop.add()
    page = shop.open(path)
    for step in (
        f"history.pushState({{}}, '', '{path}')",  # the same address
        f"history.pushState({{}}, '', '{path}#part')",
        "location.hash = 'other'",
        "history.replaceState({}, '')",
        f"history.pushState({{}}, '', '{path}a'); history.pushState({{}}, '', '{path}a')",
        f"history.pushState({{}}, '', '{path}b'), tracklayer.track('On b')",
        "location.hash = '#/route'",
        "location.hash = '#!/older'",
        "(() => { try { history.pushState({}, '', 'http://other.test/') } catch (error) { return 0 } })()",
        "tracklayer.track('End')",
    ):
        page.js(step)
        page.js("new Promise(done => setTimeout(done, 20))")
    seen = shop.sent(7)
    assert [(one["event_name"], one["event_source_url"][len(shop.url(path)) :]) for one in seen] == [
        ("page_view", ""), ("page_view", "a"), ("page_view", "b"), ("On b", "b"), ("page_view", "b#/route"),
        ("page_view", "b#!/older"), ("End", "b#!/older"),
    ]  # fmt: skip
    assert page.js("[history.pushState.length >= 0, history.length > 3]") == [True, True]


def test_back_and_forward_between_pages(shop: Shop) -> None:
    """A page that comes back as it was left (out of the browser's cache) is viewed again, and goes on."""
    first, second = shop.add("one"), shop.add("two")
    page = shop.open(first)
    page.js("window.mark = 1")
    page.goto(shop.url(second))
    shop.sent(2)
    page.back()
    until(lambda: page.js("window.mark") == 1, "the first page as it was")
    page.js("tracklayer.track('A'), tracklayer.track('B')")
    seen = shop.sent(5)
    assert [(one["event_name"], one["event_source_url"][-3:]) for one in seen] == [
        ("page_view", "one"), ("page_view", "two"), ("page_view", "one"), ("A", "one"), ("B", "one"),
    ]  # fmt: skip


GO = """<script>
  const ask = () => fetch('go').then((reply) => reply.ok ? (location.href = 'ahead') : setTimeout(ask, 50));
  ask();
</script>"""


def test_a_page_that_is_loaded_ahead(shop: Shop) -> None:
    """Chromium's own prerendering: nothing is sent before the visitor comes to it; then the view comes first."""
    early = "window.tracklayer = {q: [['identify', {email: 'a@b.c'}], ['track', 'Early']]}"
    there = f"fetch('{shop.door.url}/' + (document.prerendering ? 'ahead' : 'seen'), {{mode: 'no-cors'}})"
    ahead = shop.add("ahead", head=f"<script>{early}; onload = () => {there}</script>")
    rules = f'{{"prerender": [{{"urls": ["{ahead}"], "eagerness": "immediate"}}]}}'
    path = shop.add(head=f"<script type=speculationrules>{rules}</script>{GO}")
    # A page that DevTools is attached to has nothing loaded ahead.
    shop.context._chromium.call(
        "Target.createTarget", {"url": shop.url(path), "browserContextId": shop.context._id}
    )
    until(lambda: "/ahead" in [one.target for one in shop.door.passed], "the page loaded ahead")
    assert names(shop.sent(1)) == ["page_view"]
    shop.site.pages[f"/{shop.mark}/go"] = ("go", {})
    seen = shop.sent(3)
    assert [(one["event_name"], one["event_source_url"]) for one in seen] == [
        ("page_view", shop.url(path)), ("page_view", shop.url(ahead)), ("Early", shop.url(ahead)),
    ]  # fmt: skip
    assert seen[1]["user_data"]["email"] == "a@b.c"
    assert "/seen" not in [one.target for one in shop.door.passed]


def test_while_a_page_is_loaded_ahead(shop: Shop) -> None:
    """Calls are taken, and what they make is told when the visitor comes."""
    page = shop.open(
        before="""
        window.ahead = true;
        Object.defineProperty(Document.prototype, 'prerendering', {get: () => window.ahead});
    """
    )
    event_id = page.js("tracklayer.track('Early', {event_id: 'e-1', n: 1})")
    page.js("new Promise(done => setTimeout(done, 100))")
    assert (event_id, shop.events()) == ("e-1", [])
    page.js("ahead = false, document.dispatchEvent(new Event('prerenderingchange')), 0")
    seen = shop.sent(2)
    assert [(one["event_name"], one["custom_data"]) for one in seen] == [
        ("page_view", {}),
        ("Early", {"n": 1}),
    ]


def test_offline(shop: Shop) -> None:
    """Kept in order until the browser is online again."""
    page = shop.open()
    shop.sent(1)
    page.offline(on=True)
    page.js("for (const n of [1, 2, 3]) tracklayer.track('E' + n)")
    page.js("new Promise(done => setTimeout(done, 100))")
    assert len(shop.events()) == 1
    page.offline(on=False)
    assert names(shop.sent(4)) == ["page_view", "E1", "E2", "E3"]
    page.js("tracklayer.track('End')")
    assert names(shop.sent(5))[4] == "End"


def test_a_page_that_is_left_offline(shop: Shop) -> None:
    """The tab's next page of the site sends what it could not, first and once."""
    path = shop.add()
    page = shop.open(path)
    shop.sent(1)
    offline = "Object.defineProperty(Navigator.prototype, 'onLine', {get: () => false, configurable: true})"
    page.js(f"{offline}, tracklayer.track('One', {{text: 'line\\nend'}}), tracklayer.track('Two')")
    page.goto(shop.url("/nothing"))
    assert len(shop.events()) == 1
    page.goto(shop.url(path))
    shop.sent(4)
    page.goto(shop.url(path))
    seen = shop.sent(5)
    assert names(seen) == ["page_view", "One", "Two", "page_view", "page_view"]
    assert seen[1]["custom_data"] == {"text": "line\nend"}
    assert page.js("sessionStorage.length") == 0


def test_back_online_before_the_page_is_left(shop: Shop) -> None:
    """What was put away when the tab was hidden is not sent twice."""
    page = shop.open()
    shop.sent(1)
    page.js("""
        window.now = {onLine: false, hidden: true};
        Object.defineProperty(Navigator.prototype, 'onLine', {get: () => now.onLine});
        Object.defineProperty(Document.prototype, 'hidden', {get: () => now.hidden});
        tracklayer.track('One');
        document.dispatchEvent(new Event('visibilitychange', {bubbles: true}));
        tracklayer.track('Two');
    """)
    assert "Two" in page.js("sessionStorage.getItem('_tl_queue')")
    assert len(shop.events()) == 1
    page.js("now.onLine = true, dispatchEvent(new Event('online')), 0")
    shop.sent(3)
    page.reload()
    seen = names(shop.sent(4))
    assert (seen[0], sorted(seen[1:3]), seen[3:]) == ("page_view", ["One", "Two"], ["page_view"])


def test_no_more_than_a_hundred_wait(shop: Shop) -> None:
    """The oldest go first."""
    page = shop.open()
    shop.sent(1)
    page.offline(on=True)
    page.js("for (let n = 0; n < 150; n++) tracklayer.track('E' + n)")
    page.js("for (const name of ['x', 'y']) tracklayer.track(name)")
    page.offline(on=False)
    seen = names(shop.sent(101))
    assert (seen[1], seen[-1]) == ("E52", "y")
    assert warnings(page) == []
