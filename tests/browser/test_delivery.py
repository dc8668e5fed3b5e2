"""The SDK in a real browser against the real product: what a visitor does is on the log, once each."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.browser.conftest import Ready, Shop
from tests.support.chromium import Context, Page
from tests.support.product import Product, Source, until
from tests.support.site import Door, Trouble

pytestmark = pytest.mark.usefixtures("strict")

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

BUTTONS = """
<button id=add>Add</button><button id=in>Sign in</button><button id=team>Team</button>
<a id=next href="next">Next</a>
"""

HANDLERS = """
document.querySelector("#add").onclick = () => _df.track("Product Added", {sku: "A-1", price: 19.9});
document.querySelector("#in").onclick = () => _df.identify("user-7", {plan: "pro"});
document.querySelector("#team").onclick = () => _df.group("team-3", {seats: 4});
document.querySelector("#next").onclick = () => _df.track("Left");
"""


def stored(page: Page) -> list[str]:
    """The names under which the SDK keeps something in the page's storage."""
    names: list[str] = page.js("Object.keys(localStorage).filter(n => n.startsWith('_df'))")
    return names


def kinds(envelopes: list[dict[str, Any]]) -> list[str]:
    """What happened: the event's name, or its type."""
    return [str(one.get("event", one["type"])) for one in envelopes]


def idle(page: Page) -> None:
    """Wait until the page has nothing more to send."""
    until(lambda: not stored(page), "an empty queue")


def hurry(page: Page) -> bool:
    """End the page's back-off, as coming back online does; gives True."""
    return page.js("dispatchEvent(new Event('online'))") is True


def test_a_visit(shop: Shop, context: Context, ready: Ready) -> None:
    """Load, clicks, navigation inside the page, identify: each its envelope, all of one visitor, cookies and all."""
    path = shop.add(body=BUTTONS, title="Front")
    page = context.open(shop.url(path + "?utm_source=news&utm_campaign=may&gclid=Click-1#part"))
    ready(page)
    page.js(HANDLERS)
    shop.arrived(1)
    page.click("#add")
    page.js(f"history.pushState({{}}, '', '{path}cart'), document.title = 'Cart'")
    shop.arrived(3)
    page.click("#in")
    page.click("#team")
    page.back()
    shop.arrived(6)
    page.click("#add")
    shop.arrived(7)
    idle(page)

    seen = shop.all()
    assert kinds(seen) == ["page", "Product Added", "page", "identify", "group", "page", "Product Added"]
    first = seen[0]
    cookies = context.cookies()
    assert {"_dfid", "_ga", "_fbp", "_ttp", "_gcl_aw"} <= cookies.keys()
    assert cookies["_dfid"]["httpOnly"] is True
    assert cookies["_dfid"]["sameSite"] == "Lax"
    assert {one["anonymousId"] for one in seen} == {cookies["_dfid"]["value"]}
    assert {one["context"]["vendorIds"]["_ga"] for one in seen} == {cookies["_ga"]["value"]}
    assert {one["context"]["clickIds"]["gclid"] for one in seen} == {"Click-1"}

    url = shop.url(path)
    assert first["context"]["page"] == {
        "url": url + "?utm_source=news&utm_campaign=may&gclid=Click-1",
        "path": path,
        "search": "?utm_source=news&utm_campaign=may&gclid=Click-1",
        "title": "Front",
        "referrer": "",
    }
    assert first["properties"] == first["context"]["page"]
    assert first["context"]["campaign"] == {"source": "news", "name": "may"}
    assert first["context"]["library"]["name"] == "datafly.js"
    assert first["context"]["locale"] == "en-US"
    assert first["context"]["userAgent"] == page.js("navigator.userAgent")
    assert first["context"]["timezone"] == page.js("Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert first["context"]["screen"].keys() == {"width", "height", "density"}
    assert "consent" not in first["context"]
    assert first["channel"] == "browser"
    assert first["source"] == shop.source.id

    assert seen[1]["properties"] == {"sku": "A-1", "price": 19.9}
    cart = seen[2]["context"]["page"]
    assert cart == {
        "url": url + "cart",
        "path": path + "cart",
        "search": "",
        "title": "Cart",
        "referrer": first["context"]["page"]["url"],
    }
    # the campaign stays for as long as the document does
    assert seen[2]["context"]["campaign"] == first["context"]["campaign"]
    assert (seen[3]["userId"], seen[3]["traits"]) == ("user-7", {"plan": "pro"})
    assert (seen[4]["groupId"], seen[4]["traits"]) == ("team-3", {"seats": 4})
    assert [one.get("userId") for one in seen] == [None, None, None, *["user-7"] * 4]
    assert len({one["messageId"] for one in seen}) == 7
    assert all(UUID4.fullmatch(one["messageId"]) for one in seen)
    assert [one["timestamp"] for one in seen] == sorted(one["timestamp"] for one in seen)


def test_the_next_page_is_the_same_visitor(shop: Shop, context: Context, ready: Ready) -> None:
    """A link to another document: what was sent on the way out arrives, and the visitor is known there."""
    shop.add("next", title="Next")
    page = context.open(shop.url(shop.add(body=BUTTONS)))
    ready(page)
    page.js(HANDLERS)
    page.click("#next")
    until(lambda: page.js("document.title") == "Next", "the next page")
    shop.arrived(3)
    idle(page)
    seen = shop.all()
    assert sorted(kinds(seen)) == ["Left", "page", "page"]
    assert len({one["anonymousId"] for one in seen}) == 1
    assert seen[-1]["context"]["page"]["referrer"] == shop.url(f"/{shop.mark}/")


def test_a_visitor_who_is_quicker_than_the_first_answer(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """No cookie yet when the second page sends: still one visitor."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add()))
    ready(page)
    until(lambda: page.js("sessionStorage['_df.id']"), "a first event made")
    door.gate.clear()
    page.js("_df.track('One')")
    page.goto(shop.url(shop.add("next")))
    ready(page)
    until(lambda: len(stored(page)) > 0, "an event of the second page")
    page.js("_df.track('Two')")
    door.gate.set()
    shop.arrived(4)
    idle(page)
    seen = shop.all()
    assert sorted(kinds(seen)) == ["One", "Two", "page", "page"]
    assert {one["anonymousId"] for one in seen} == {context.cookies()["_dfid"]["value"]}


def test_closing_the_tab(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """What is sent in the page's last moment arrives; so does what still waited behind an open request."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add()))
    ready(page)
    shop.arrived(1)
    idle(page)
    page.js("addEventListener('pagehide', () => _df.track('Closed', {at: 'the end'}))")
    door.gate.clear()
    page.js("for (const name of ['One', 'Two', 'Three']) _df.track(name)")
    page.close()
    door.gate.set()
    shop.arrived(5)
    seen = shop.all()
    assert sorted(kinds(seen)) == ["Closed", "One", "Three", "Two", "page"]
    assert len({one["anonymousId"] for one in seen}) == 1


def test_an_offline_spell(shop: Shop, context: Context, ready: Ready) -> None:
    """Without a network everything is kept; with it again everything is sent, in order, with its own time."""
    path = shop.add()
    page = context.open(shop.url(path))
    ready(page)
    shop.arrived(1)
    idle(page)
    page.offline(on=True)
    page.js("_df.track('One')")
    page.js(f"history.pushState({{}}, '', '{path}two')")
    page.js("_df.identify('user-1')")
    until(lambda: len(stored(page)) == 1, "a queue in the storage")
    kept = page.js(
        "JSON.parse(localStorage[Object.keys(localStorage).find(n => n.startsWith('_df'))])[1].length"
    )
    assert kept == 3
    assert len(shop.all()) == 1
    page.offline(on=False)
    shop.arrived(4)
    idle(page)
    seen = shop.all()
    assert kinds(seen) == ["page", "One", "page", "identify"]
    assert all(one["timestamp"] < one["receivedAt"] for one in seen)


def test_the_gateway_is_away_over_a_reload(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """What one page could not send, the next one does."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add()))
    ready(page)
    shop.arrived(1)
    idle(page)
    door.always(Trouble())
    page.js("_df.track('One'), _df.track('Two')")
    until(lambda: door.events('"One"'), "a try")
    door.always(Trouble(503))
    page.reload()
    ready(page)
    until(lambda: len(door.events('"page"')) > 1 or len(stored(page)) == 1, "the queue taken over")
    door.always(None)
    hurry(page)
    shop.arrived(4)
    idle(page)
    seen = shop.all()
    assert sorted(kinds(seen)) == ["One", "Two", "page", "page"]
    assert len({one["anonymousId"] for one in seen}) == 1


def test_a_lost_answer_makes_no_second_event(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """The event is sent again, and the gateway knows it."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes='data-page="manual"')))
    ready(page)
    door.trouble(Trouble(lost=True))
    page.js("_df.track('Order Completed')")
    until(lambda: any(one.status for one in door.events()), "a first try")
    until(lambda: hurry(page) and len(door.events("Order Completed")) == 2, "a second try")
    idle(page)
    assert kinds(shop.all()) == ["Order Completed"]
    assert [one.answer.get("x-headgate-duplicate") for one in door.events()] == [None, "1"]


def test_what_is_tried_again(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """Answers that say nothing about the event, or none at all: it goes again, and those behind it wait."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes='data-page="manual"')))
    ready(page)
    expected: list[str] = []
    for status in (408, 429, 500, 502, 503, 0):
        door.trouble(Trouble(status))
        page.js(f"_df.track('First {status}'), _df.track('Second {status}')")
        until(lambda status=status: hurry(page) and len(door.events(f' {status}"')) >= 3, "a second try")  # type: ignore[misc]
        idle(page)
        expected += [f"First {status}", f"Second {status}"]
        assert [one.status for one in door.events(f' {status}"')][-2:] == [200, 200]
    assert kinds(shop.all()) == expected


def test_what_is_not(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """A refused event does not stop those behind it, and the console says so once."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes='data-page="manual"')))
    ready(page)
    statuses = [400, 401, 403, 404, 413, 415]
    door.trouble(*(Trouble(status) for status in statuses))
    page.js(f"for (let n = 0; n <= {len(statuses)}; n++) _df.track('Event ' + n)")
    shop.arrived(1)
    idle(page)
    assert kinds(shop.all()) == [f"Event {len(statuses)}"]
    assert [one.status for one in door.events()] == [*statuses, 200]
    warnings = [text for level, text in page.console if level == "warning"]
    assert warnings == ["datafly.js: the gateway refused an event with 400"]


def test_retry_after_is_kept_to(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """While the gateway has asked for a pause nothing is sent: not by new events, not by coming back online."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes='data-page="manual"')))
    ready(page)
    page.js(
        "window.waits = [], window.real = setTimeout, window.setTimeout = (f, ms) => (waits.push(ms), real(f, ms))"
    )
    door.trouble(Trouble(429, (("Retry-After", "2"),)))
    page.js("_df.track('One')")
    until(lambda: page.js("waits.some(ms => ms > 1900 && ms <= 2500)"), "a pause of 2 s and a little")
    page.js(
        "_df.track('Two'), dispatchEvent(new Event('online')), document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert len(door.events()) == 1
    shop.arrived(2)
    assert kinds(shop.all()) == ["One", "Two"]


def test_back_off_grows_and_has_an_end(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """1 s doubling to 5 minutes, half of it by chance; an event that never gets through lets others pass."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes='data-page="manual"')))
    ready(page)
    # time itself is shortened: the SDK's waits are written down and end at once
    page.js(
        "window.waits = [], window.real = setTimeout, window.now = performance.now.bind(performance), window.ahead = 0,"
        "performance.now = () => now() + ahead,"
        "window.setTimeout = (f, ms) => { if (ms > 0 && ms !== 30000) { waits.push(ms); ahead += ms; ms = 0 } return real(f, ms) }"
    )
    door.always(Trouble(500))
    page.js("_df.track('One'), _df.track('Two')")
    until(lambda: page.js("waits.length") >= 14, "many tries")
    door.always(None)
    shop.arrived(2)
    waits = page.js("waits")
    for tries, wait in enumerate(waits[:14]):
        most = min(1000 * 2**tries, 300_000)
        # what has gone by since is taken off
        assert most / 2 - 100 < wait <= most, (tries, waits)
    tried = [json.loads(one.body)["event"] for one in door.events()][:6]
    assert tried == ["One", "One", "One", "Two", "Two", "Two"]
    assert sorted(kinds(shop.all())) == ["One", "Two"]


def test_two_tabs(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """Each tab sends its own; what one leaves behind unsent is taken over by one of those that come after it."""
    shop = guarded_shop
    path = shop.add(attributes='data-page="manual"')
    one, two = context.open(shop.url(path)), context.open(shop.url(path))
    ready(one)
    ready(two)
    one.js("_df.track('First')")
    shop.arrived(1)
    idle(one)
    door.always(Trouble(503, (("Retry-After", "600"),)))
    one.js("_df.track('One')")
    two.js("_df.track('Two')")
    until(lambda: len(door.events()) == 3, "a try of each")
    one.close()
    until(
        lambda: two.js("Object.values(localStorage).filter(v => v.startsWith('[0,')).length") == 1,
        "left behind",
    )
    door.always(None)
    three, four = context.open(shop.url(path)), context.open(shop.url(path))
    ready(three)
    ready(four)
    shop.arrived(2)
    until(lambda: len(stored(two)) == 1, "only the second tab's queue left")
    assert kinds(shop.all()) == ["First", "One"]
    assert len(door.events('"One"')) == 2
    assert len(door.events('"Two"')) == 1


def test_an_open_tab_takes_over_from_one_that_is_closed(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """No further page is needed; what was on its way all the same is known to the gateway."""
    shop = guarded_shop
    path = shop.add(attributes='data-page="manual"')
    one, two = context.open(shop.url(path)), context.open(shop.url(path))
    ready(one)
    ready(two)
    door.trouble(Trouble(503, (("Retry-After", "600"),)))
    one.js("_df.track('One'), _df.track('Two')")
    until(lambda: len(door.events()) == 1, "a try")
    one.close()
    shop.arrived(2)
    idle(two)
    assert kinds(shop.all()) == ["One", "Two"]


def test_an_unlisted_origin(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready, product: Product
) -> None:
    """403, and the page goes on as if nothing was: its own script, its clicks, no exception."""
    shop = guarded_shop
    path = shop.add(body="<button id=b onclick='window.clicked = 1, _df.track(\"Click\")'>b</button>")
    page = context.open(shop.url(path, host="not-listed.test"))
    ready(page)
    until(lambda: [one for one in door.events() if one.status], "an answer")
    assert door.events()[0].status == 403
    assert "access-control-allow-origin" not in door.events()[0].answer
    page.click("#b")
    assert page.js("window.clicked") == 1
    assert shop.all() == []
    assert context.cookies() == {}
    # listed from now on: what was kept is sent
    product.command(
        "sources", "update", shop.source.id, "--origin", f"http://not-listed.test:{shop.site.port}"
    )
    until(lambda: hurry(page) and len(shop.all()) >= 2, "both", every_s=0.3)
    assert sorted(kinds(shop.all())) == ["Click", "page"]


def test_a_shop_of_its_own_domain(shop: Shop, context: Context, ready: Ready, product: Product) -> None:
    """As in production: the gateway beside the shop below one domain, the cookie for both. No secure context."""
    made = product.create_source(
        origins=[f"http://www.shop.test:{shop.site.port}"], cookie_domain="shop.test", tenant="shop"
    )
    gateway = f"http://data.shop.test:{product.ingest_port}"
    path = shop.add(gateway=gateway, key=made.pipeline_key, body=BUTTONS)
    page = context.open(shop.url(path, host="www.shop.test"))
    ready(page)
    assert page.js("[isSecureContext, typeof crypto.randomUUID, typeof navigator.locks]") == [
        False, "undefined", "undefined",
    ]  # fmt: skip
    page.js(HANDLERS)
    page.click("#add")
    seen = shop.arrived(2)
    assert kinds(seen) == ["page", "Product Added"]
    assert {one["source"] for one in seen} == {made.id}
    assert all(UUID4.fullmatch(one["messageId"]) for one in seen)
    cookie = context.cookies()["_dfid"]
    assert cookie["domain"] == ".shop.test"
    assert {one["anonymousId"] for one in seen} == {cookie["value"]}


def test_requests_need_no_preflight(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready, source: Source
) -> None:
    """The key in the address, the body as text: the first request of a visitor is the event."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add()))
    ready(page)
    page.js("_df.track('One'), _df.identify('u'), _df.group('g')")
    shop.arrived(4)
    assert {one.method for one in door.passed} == {"GET", "POST"}
    assert [one.target for one in door.events()] == [
        f"/v1/{letter}?wk={source.pipeline_key}" for letter in ("p", "t", "i", "g")
    ]
    assert {one.headers["content-type"] for one in door.events()} == {"text/plain;charset=UTF-8"}
    assert all("_dfid" in one.headers.get("cookie", "") for one in door.events()[1:])
