"""What is in an event of TrackLayer's pixel: ids, the fields that have a place of their own, people, clicks, consent."""

from __future__ import annotations

import re
import time

from tests.browser.pixel.conftest import Shop, names, warnings
from tests.support.chromium import Page
from tests.support.product import until


def test_ids(shop: Shop) -> None:
    """track() gives the event's id, and takes one that the page has, which a server's copy can then repeat."""
    page = shop.open()
    given = page.js(
        "[tracklayer.track('A', {event_id: 'order-1', n: 1}), tracklayer.track('B', {event_id: 42}), tracklayer.track('C', {event_id: ''}),"
        "tracklayer.track('D', {event_id: null}), tracklayer.track('E')]"
    )
    seen = shop.sent(6)[1:]
    assert [one["event_id"] for one in seen] == given
    assert given[:2] == ["order-1", "42"]
    assert len(set(given)) == 5
    assert [one["custom_data"] for one in seen] == [{"n": 1}, {}, {}, {}, {}]


def test_an_insecure_page_has_ids_too(shop: Shop) -> None:
    """crypto.randomUUID is not there."""
    page = shop.open(host="shop.test")
    assert page.js("typeof crypto.randomUUID") == "undefined"
    ids = page.js("Array.from({length: 200}, () => tracklayer.track('A'))")
    assert len(set(ids)) == 200
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, one) for one in ids)


def test_fields_with_a_place_of_their_own(shop: Shop) -> None:
    """Numbers written as texts become numbers; what is none stays in custom_data, and the event is not lost for it."""
    page = shop.open()
    page.js("""
        tracklayer.track('Good', {value: '19.90', currency: 'eur', order_id: 7, items: [{id: 1, price: '9.95', quantity: '2'}],
                                  consent_state: {ad_storage: 'granted'}});
        tracklayer.track('Bad', {value: '19,90', currency: '€', order_id: {}, items: 'sku'});
        tracklayer.track('Worse', {value: -1, currency: 978, order_id: null, items: {0: 1}});
        tracklayer.track('Empty', {value: '', currency: '', order_id: '', items: []});
        tracklayer.track('Zero', {value: 0, currency: null, value_: 1});
        tracklayer.track('Huge', {value: Infinity, order_id: undefined, items: undefined});
        tracklayer.track('Items', {items: [{id: 'a', price: '5 EUR', quantity: -1, name: 'Mug'}]});
    """)
    good, bad, worse, empty, zero, huge, items = shop.sent(8)[1:]
    lifted = ("value", "currency", "order_id", "items", "consent_state", "custom_data")
    assert [good[name] for name in lifted] == [
        19.9, "eur", "7", [{"id": 1, "price": 9.95, "quantity": 2}], {"ad_storage": "granted"}, {},
    ]  # fmt: skip
    assert [bad.get(name) for name in lifted[:4]] == [None] * 4
    assert bad["custom_data"] == {"value": "19,90", "currency": "€", "order_id": {}, "items": "sku"}
    assert worse["custom_data"] == {"value": -1, "currency": 978, "order_id": None, "items": {"0": 1}}
    assert (empty["order_id"], empty["items"], empty["custom_data"]) == (
        "",
        [],
        {"value": "", "currency": ""},
    )
    assert (zero["value"], zero["custom_data"]) == (0, {"currency": None, "value_": 1})
    assert (huge["value"], huge["custom_data"]) == (None, {})
    assert "order_id" not in huge
    assert items["items"] == [{"id": "a", "name": "Mug"}]
    assert len(warnings(page)) == 4 + 4 + 2 + 1 + 2
    assert warnings(page)[0] == "[tracklayer] value is not valid"


def test_who_the_visitor_is(shop: Shop) -> None:
    """identify() goes into later events and gathers; numbers become texts, and later changes of the page's object don't count."""
    page = shop.open()
    page.js("""
        tracklayer.track('A');
        window.user = {email: 'Jane@Example.com', phone: 4915112345678, browser_ids: {ttp: 't', fbp: 'fb.1.1.1'}};
        tracklayer.identify(user);
        user.email = 'x';
        tracklayer.track('B');
        tracklayer.identify({email: null, external_ids: [7, 'eight']});
        tracklayer.identify(); tracklayer.identify(null); tracklayer.identify('jane');
        tracklayer.track('C');
    """)
    a, b, c = (one["user_data"] for one in shop.sent(4)[1:])
    nothing = {"fbp": "", "fbc": ""}
    assert a == {"browser_ids": nothing}
    ids = {"fbp": "fb.1.1.1", "fbc": "", "ttp": "t"}
    assert b == {"email": "Jane@Example.com", "phone": "4915112345678", "browser_ids": ids}
    assert c["email"] is None
    assert (c["phone"], c["external_ids"]) == ("4915112345678", ["7", "eight"])


def fbc(page: Page, shop: Shop) -> str:
    """The fbc of an event that is made now."""
    event_id = page.js("tracklayer.track('Now')")
    found = lambda: [one for one in shop.events() if one["event_id"] == event_id]  # noqa: E731
    [event] = until(found, "the event")
    return str(event["user_data"]["browser_ids"]["fbc"])


def test_a_click_on_an_advertisement(shop: Shop) -> None:
    """An fbc of the click, with the id as it came, for the whole visit: other pages, a reload, a router."""
    path, other = shop.add(), shop.add("other")
    before = int(time.time() * 1000)
    page = shop.open(path + "?a=1&fbclid=IwAR0_AbC-dEf&b=2")
    [first] = shop.sent(1)
    made = first["user_data"]["browser_ids"]["fbc"]
    match = re.fullmatch(r"fb\.1\.(\d{13})\.IwAR0_AbC-dEf", made)
    assert match
    assert before <= int(match[1]) <= time.time() * 1000
    page.js(f"history.pushState({{}}, '', '{other}')")
    shop.sent(2)
    page.goto(shop.url(other))
    shop.sent(3)
    page.reload()
    shop.sent(4)
    page.goto(shop.url(path + "?a=1&fbclid=IwAR0_AbC-dEf&b=2"))
    seen = shop.sent(5)
    assert {one["user_data"]["browser_ids"]["fbc"] for one in seen} == {made}
    # the next click is another one
    page.goto(shop.url(path + "?fbclid=Second"))
    assert shop.sent(6)[5]["user_data"]["browser_ids"]["fbc"].endswith(".Second")
    assert page.js("document.cookie") == ""


def test_the_cookies_of_metas_own_pixel(shop: Shop) -> None:
    """Read at each event; an _fbc of the same click counts, one of an older click does not."""
    path = shop.add()
    page = shop.open(path)
    shop.sent(1)
    page.js("document.cookie = '_fbp=fb.1.1596403881668.1116446470', document.cookie = 'x_fbc=no'")
    assert fbc(page, shop) == ""
    page.js("document.cookie = '_fbc=fb.1.1700000000000.Old'")
    assert fbc(page, shop) == "fb.1.1700000000000.Old"
    page.goto(shop.url(path + "?fbclid=Old"))
    seen = shop.sent(4)
    assert seen[3]["user_data"]["browser_ids"] == {
        "fbp": "fb.1.1596403881668.1116446470", "fbc": "fb.1.1700000000000.Old",
    }  # fmt: skip
    page.goto(shop.url(path + "?fbclid=New"))
    assert shop.sent(5)[4]["user_data"]["browser_ids"]["fbc"].endswith(".New")
    # Meta's pixel wrote its own for the same click, a moment later
    page.js("document.cookie = '_fbc=fb.1.1800000000000.New'")
    assert fbc(page, shop) == "fb.1.1800000000000.New"


def test_consent(shop: Shop) -> None:
    """Goes with every event from then on; with ad_storage denied the ids of advertising are neither read nor kept."""
    page = shop.open(shop.add() + "?fbclid=Click")
    page.js("""
        document.cookie = '_fbp=fb.1.1.1';
        sessionStorage.clear();
        tracklayer.consent({ad_storage: 'denied', analytics_storage: 'granted'});
        tracklayer.identify({email: 'a@b.c', browser_ids: {fbp: 'fb.1.2.2'}});
        tracklayer.track('Denied');
        sessionStorage.seen = JSON.stringify(Object.keys(sessionStorage));
        tracklayer.consent({ad_storage: 'granted'});
        tracklayer.track('Granted');
    """)
    first, denied, granted = shop.sent(3)
    assert first["consent_state"] == {}
    assert denied["consent_state"] == {"ad_storage": "denied", "analytics_storage": "granted"}
    assert denied["user_data"] == {"email": "a@b.c"}
    assert page.js("sessionStorage.seen") == "[]"
    assert granted["consent_state"] == {"ad_storage": "granted", "analytics_storage": "granted"}
    assert granted["user_data"]["browser_ids"]["fbp"] == "fb.1.2.2"
    assert granted["user_data"]["browser_ids"]["fbc"].endswith(".Click")


def test_misuse_never_throws(shop: Shop) -> None:
    """Whatever a page passes: no exception, one line in the console, and what can be sent is."""
    page = shop.open()
    page.js("""
        const loop = {}; loop.self = loop;
        window.ids = [
          tracklayer.track(), tracklayer.track(''), tracklayer.track(null), tracklayer.track(Symbol('s')),
          tracklayer.track('Loop', loop), tracklayer.track('Big', {n: 10n}),
          tracklayer.track('Getter', {get x() { throw new Error('mine') }}),
          tracklayer.track('Id', {event_id: Symbol('s')}),
          tracklayer.track('Item', {items: [null]}),
          tracklayer.identify(loop), tracklayer.consent(loop),
          tracklayer.q.push(), tracklayer.q.push(null), tracklayer.q.push(['nothing']), tracklayer.q.push(7),
        ];
        tracklayer.track('Array', [1]); tracklayer.track('Text', 'x'); tracklayer.track(5, null); tracklayer.track('Function', () => 1);
        tracklayer.track('Half \\ud83d', {literal: '\\\\ud83d', emoji: '\\ud83d\\ude00', nan: NaN, none: undefined});
    """)
    seen = shop.sent(6)
    assert names(seen) == ["page_view", "Array", "Text", "5", "Function", "Half \ufffd"]
    assert [one["custom_data"] for one in seen[1:]] == [
        {"0": 1}, {}, {}, {}, {"literal": "\\ud83d", "emoji": "\U0001f600", "nan": None},
    ]  # fmt: skip
    assert all(one["user_data"].keys() == {"browser_ids"} for one in seen)
    assert len(warnings(page)) == 15
    assert warnings(page)[0] == "[tracklayer] track() needs a name"
    assert "circular" in warnings(page)[4]


def test_what_a_page_changes_later_is_not_sent(shop: Shop) -> None:
    """An event is what it was at the call, and the page's object stays as it was."""
    page = shop.open()
    page.js(
        "window.cart = {n: 1, value: 5, event_id: 'e'}, tracklayer.track('A', cart), cart.n = 2, tracklayer.track('B', cart)"
    )
    assert [one["custom_data"] for one in shop.sent(3)[1:]] == [{"n": 1}, {"n": 2}]
    assert page.js("cart") == {"n": 2, "value": 5, "event_id": "e"}


def test_a_page_without_an_address(shop: Shop) -> None:
    """A frame of srcdoc: the gateway would refuse its address, so there is none. A very long one is cut."""
    path = shop.add()
    inner = shop.site.pages[path][0].replace('"', "&quot;")
    outer = f"/{shop.mark}/outer"
    shop.site.pages[outer] = (f'<iframe srcdoc="{inner}"></iframe>', {})
    page = shop.tab()
    page.goto(shop.url(outer))
    assert shop.sent(1)[0]["event_source_url"] == ""
    page.goto(shop.url(path + "?q=" + "x" * 20_000))
    assert len(shop.sent(2)[1]["event_source_url"]) == 8000
