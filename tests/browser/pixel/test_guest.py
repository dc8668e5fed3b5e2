"""TrackLayer's pixel as a guest in other people's pages: policies, blocked storage, missing parts, and its tag."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.browser.pixel.conftest import MERCHANT, Shop, names, warnings
from tests.support.chromium import Context
from tests.support.product import until
from tests.support.site import Trouble

#: The snippet of docs/pixel.md.
STUB = """<script>
  window.tracklayer = window.tracklayer || { q: [] };
  ['track', 'identify', 'consent'].forEach(function (name) {
    tracklayer[name] = tracklayer[name] || function () { tracklayer.q.push([name].concat([].slice.call(arguments))); };
  });
</script>"""

#: The other one, for the top of a page that allows no inline script; it stands in a file of the page's own.
ARRAY = "window.tracklayer = window.tracklayer || { q: [] };"

MISSING = "[tracklayer] missing data-merchant on script tag"


def test_calls_before_the_script_is_there(shop: Shop) -> None:
    """Played in order, after the view; what the page says of visitor and consent is in the view already."""
    calls = """<script>
        window.kept = tracklayer;
        tracklayer.identify({email: 'a@b.c'});
        tracklayer.consent({ad_storage: 'granted'});
        tracklayer.track('Early', {event_id: 'e-1', n: 1});
        tracklayer.track('More');
    </script>"""
    page = shop.open(shop.add(head=STUB + calls))
    page.js("kept.track('Late'), kept.q.push(['track', 'Pushed'])")
    seen = shop.sent(5)
    assert names(seen) == ["page_view", "Early", "More", "Late", "Pushed"]
    assert {one["user_data"]["email"] for one in seen} == {"a@b.c"}
    assert all(one["consent_state"] == {"ad_storage": "granted"} for one in seen)
    assert (seen[1]["event_id"], seen[1]["custom_data"]) == ("e-1", {"n": 1})
    assert page.js("kept === tracklayer && tracklayer.q.length") == 0


def test_a_plain_queue(shop: Shop) -> None:
    """What can't be played is passed over with a warning."""
    head = f"<script>{ARRAY} tracklayer.q.push(['track', 'A'], null, ['nothing'], ['track', 'B', {{n: 1}}])</script>"
    page = shop.open(shop.add(head=head))
    assert names(shop.sent(3)) == ["page_view", "A", "B"]
    assert len(warnings(page)) == 2


def test_without_a_merchant(shop: Shop) -> None:
    """Said in the console, once and in these words; the methods are there, and nothing is sent or kept."""
    path = shop.add(merchant="", head=STUB + "<script>tracklayer.track('Early')</script>")
    page = shop.tab()
    page.goto(shop.url(path + "?fbclid=Click"))
    until(lambda: warnings(page), "the warning")
    assert page.js("typeof tracklayer.track('A')") == "string"
    page.js(f"tracklayer.identify({{email: 'a@b.c'}}), history.pushState({{}}, '', '{path}x')")
    page.js("new Promise(done => setTimeout(done, 100))")
    page.goto(shop.url("/nothing"))
    assert warnings(page) == [MISSING]
    assert shop.events() == []
    page.goto(shop.url(path.rstrip("/")))
    assert page.js("sessionStorage.length") == 0


def test_a_tag_without_a_merchant_and_one_with(shop: Shop) -> None:
    """The good one counts."""
    path = shop.add(merchant="")
    html, headers = shop.site.pages[path]
    tag = f'<script src="{shop.door.url}/v1/pixel.js" data-merchant={MERCHANT}></script>'
    shop.site.pages[path] = (html.replace("</head>", f"{tag}</head>"), headers)
    page = shop.open(path)
    page.js("tracklayer.track('A')")
    assert names(shop.sent(2)) == ["page_view", "A"]


def test_two_tags(shop: Shop) -> None:
    """It is loaded once."""
    path = shop.add()
    html, headers = shop.site.pages[path]
    tag = html[html.index("<script src") : html.index("</head>")]
    shop.site.pages[path] = (
        html.replace("</head>", f"{tag}</head>").replace("</body>", f"{tag}</body>"),
        headers,
    )
    page = shop.open(path)
    until(lambda: page.js("document.readyState") == "complete", "all of the page")
    page.js(f"history.pushState({{}}, '', '{path}a'), tracklayer.track('A')")
    assert names(shop.sent(3)) == ["page_view", "page_view", "A"]


@pytest.mark.parametrize("how", ["inserted", "module"])
def test_ways_to_load_it(shop: Shop, how: str) -> None:
    """By a tag manager's script, or as a module, which has no current script."""
    path = f"/{shop.mark}/{how}"
    src = f"{shop.door.url}/v1/pixel.js"
    tags = {
        "inserted": "<script>const s = document.createElement('script'); s.async = true;"
        f"s.dataset.merchant = '{MERCHANT}'; s.src = '{src}'; document.head.append(s)</script>",
        "module": f"<script type=module data-merchant={MERCHANT} src='{src}'></script>",
    }
    shop.site.pages[path] = (f"<!doctype html><link rel=icon href='data:,'>{tags[how]}", {})
    shop.open(path)
    [event] = shop.sent(1)
    assert (event["merchant_id"], event["event_name"]) == (MERCHANT, "page_view")


STRICT_CSP = {
    "Content-Security-Policy": "default-src 'none'; script-src {gateway}; connect-src {gateway}; img-src data:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@pytest.mark.parametrize("beacon", [True, False])
def test_a_strict_policy(shop: Shop, beacon: bool) -> None:
    """Nothing inline, no eval, no style, trusted types, COEP: two sources are all it needs."""
    headers = {name: value.replace("{gateway}", shop.door.url) for name, value in STRICT_CSP.items()}
    before = "" if beacon else "delete Navigator.prototype.sendBeacon;"
    path = shop.add(headers=headers)
    page = shop.open(path, before=before)
    page.js(
        f"history.pushState({{}}, '', '{path}a'), tracklayer.identify({{email: 'a@b.c'}}), tracklayer.track('A')"
    )
    assert names(shop.sent(3)) == ["page_view", "page_view", "A"]
    assert page.js("crossOriginIsolated") is True
    assert [entry for entry in page.console if entry[0] in ("error", "warning")] == []


def test_a_policy_that_forgot_the_gateway(shop: Shop) -> None:
    """The browser says so; the page goes on."""
    headers = {"Content-Security-Policy": f"script-src {shop.door.url}; connect-src 'self'"}
    page = shop.open(shop.add(headers=headers))
    assert page.js("typeof tracklayer.track('A')") == "string"
    until(lambda: any("connect-src" in text for _, text in page.console), "the browser's complaint")
    assert shop.events() == []


@pytest.mark.parametrize("way", ["sessionStorage", "cookie", "setItem", "both", "null"])
def test_blocked_storage(shop: Shop, way: str) -> None:
    """Storage that throws when it is looked at, or when it is written to: the click is known as long as the page lives."""
    denied = "get() { throw new DOMException('denied', 'SecurityError') }"
    blocks = {
        "sessionStorage": f"Object.defineProperty(window, 'sessionStorage', {{{denied}}});",
        "cookie": f"Object.defineProperty(Document.prototype, 'cookie', {{{denied}}});",
        "setItem": "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') };",
        "null": "Object.defineProperty(window, 'sessionStorage', {value: null});",
    }
    script = blocks["sessionStorage"] + blocks["cookie"] if way == "both" else blocks[way]
    path = shop.add()
    page = shop.open(path + "?fbclid=Click", before=script)
    page.js(f"history.pushState({{}}, '', '{path}a'), tracklayer.track('A')")
    seen = shop.sent(3)
    assert names(seen) == ["page_view", "page_view", "A"]
    [made] = {one["user_data"]["browser_ids"]["fbc"] for one in seen}
    assert made.endswith(".Click")
    assert warnings(page) == []


def test_all_site_data_blocked(site_data_blocked: Context, shop_of: Callable[[Context], Shop]) -> None:
    """The browser's own setting: no cookies, no storage."""
    shop = shop_of(site_data_blocked)
    path = shop.add()
    page = shop.open(path + "?fbclid=Click")
    name = page.js("(() => { try { return typeof sessionStorage } catch (error) { return error.name } })()")
    assert name == "SecurityError"
    page.js(f"history.pushState({{}}, '', '{path}a'), tracklayer.track('A')")
    seen = shop.sent(3)
    assert names(seen) == ["page_view", "page_view", "A"]
    assert all(one["user_data"]["browser_ids"]["fbc"].endswith(".Click") for one in seen)
    assert (page.errors, warnings(page)) == ([], [])


@pytest.mark.parametrize("beacon", [True, False])
def test_a_sandboxed_frame(shop: Shop, beacon: bool) -> None:
    """An opaque origin, where cookies and storage throw: its events come all the same."""
    call = "<script>window.tracklayer = {q: [['track', 'Inside']]}</script>"
    no_beacon = "<script>delete Navigator.prototype.sendBeacon</script>"
    inner = shop.add("inner", head=call + ("" if beacon else no_beacon))
    outer = f"/{shop.mark}/outer"
    shop.site.pages[outer] = (f"<iframe sandbox=allow-scripts src='{inner}'></iframe>", {})
    page = shop.tab()
    page.goto(shop.url(outer))
    assert names(shop.sent(2)) == ["page_view", "Inside"]
    assert shop.requests()[0].headers["origin"] == "null"
    assert (page.errors, warnings(page)) == ([], [])


NO_BEACON = {
    "absent": "delete Navigator.prototype.sendBeacon;",
    "refuses": "Navigator.prototype.sendBeacon = () => false;",
    "throws": "Navigator.prototype.sendBeacon = () => { throw new TypeError('no') };",
}


@pytest.mark.parametrize("way", list(NO_BEACON))
def test_without_beacons(shop: Shop, way: str) -> None:
    """fetch takes over, in order, also in the page's last moment."""
    page = shop.open(before=NO_BEACON[way])
    page.js("for (let n = 0; n < 10; n++) tracklayer.track('E' + n)")
    seen = shop.sent(11)
    assert names(seen) == ["page_view", *(f"E{n}" for n in range(10))]
    shop.door.gate.clear()
    page.js(
        "tracklayer.track('Held'), tracklayer.track('Behind'), addEventListener('pagehide', () => tracklayer.track('Last')), 0"
    )
    page.goto(shop.url("/nothing"))
    shop.door.gate.set()
    assert sorted(names(shop.sent(14))[11:]) == ["Behind", "Held", "Last"]
    assert {one.method for one in shop.door.passed} == {"GET", "POST"}
    assert {one.headers["content-type"].lower() for one in shop.requests()} == {"text/plain;charset=utf-8"}
    assert page.errors == []


def test_more_than_a_beacon_carries(shop: Shop) -> None:
    """64 KiB is the most that may outlive a page; what is larger is sent all the same, once and in order."""
    page = shop.open()
    page.js("tracklayer.track('Large', {text: 'x'.repeat(200_000)}), tracklayer.track('After')")
    seen = shop.sent(3)
    assert names(seen) == ["page_view", "Large", "After"]
    assert len(seen[1]["custom_data"]["text"]) == 200_000


@pytest.mark.parametrize(
    "missing", ["PerformanceObserver", "Beacon entries", "history", "pushState", "fetch"]
)
def test_without_parts_of_the_browser(shop: Shop, missing: str) -> None:
    """Older and odder browsers: every event comes, if a little later."""
    scripts = {
        "PerformanceObserver": "delete window.PerformanceObserver;",
        "Beacon entries": "PerformanceObserver.prototype.observe = () => {};",
        "history": "Object.defineProperty(window, 'history', {value: undefined});",
        "pushState": "History.prototype.pushState = undefined;",
        "fetch": "delete window.fetch;",
    }
    page = shop.open(before=scripts[missing])
    page.js("tracklayer.track('A'), tracklayer.track('B')")
    assert names(shop.sent(3)) == ["page_view", "A", "B"]
    assert page.errors == []


def test_without_any_way_to_send(shop: Shop) -> None:
    """Warnings, no exceptions."""
    page = shop.open(before="delete Navigator.prototype.sendBeacon; delete window.fetch;")
    assert page.js("typeof tracklayer.track('A')") == "string"
    until(lambda: len(warnings(page)) == 2, "both warnings")
    assert page.errors == []


def test_the_gateway_breaks_off(shop: Shop) -> None:
    """What fails on its way does not stop what comes after it."""
    page = shop.open(before="delete Navigator.prototype.sendBeacon;")
    shop.sent(1)
    shop.door.always(Trouble(0))
    page.js("tracklayer.track('Lost'), tracklayer.track('After')")
    until(lambda: "After" in names(shop.events()), "the event after it")
    # Chromium itself tries again too
    seen = shop.events()[1:]
    assert len({one["event_id"] for one in seen if one["event_name"] == "Lost"}) == 1
    assert names(seen)[0] == "Lost"
    assert page.errors == []


def test_debugging(shop: Shop) -> None:
    """data-debug: no beacons, so that the gateway's answers can be read, and refusals are in the console."""
    page = shop.open(shop.add(attributes="data-debug"))
    shop.sent(1)
    shop.door.trouble(Trouble(400))
    page.js("tracklayer.track('Bad'), tracklayer.track('Good')")
    assert names(shop.sent(3)) == ["page_view", "Bad", "Good"]
    until(lambda: warnings(page), "the warning")
    assert warnings(page) == ["[tracklayer] 400 {}"]
    assert {one.headers["sec-fetch-mode"] for one in shop.requests()} == {"cors"}


def test_another_library_around_push_state(shop: Shop) -> None:
    """A wrapper put on before or after works as before, and gets what the browser's own function gives."""
    path = shop.add()
    page = shop.open(
        path,
        before="""
        window.before = 0;
        const own = history.pushState;
        history.pushState = function () { window.before++; own.apply(this, arguments); return 'given' };
    """,
    )
    page.js(
        "window.after = 0, window.inner = history.pushState,"
        "history.pushState = function () { after++; return inner.apply(this, arguments) }"
    )
    assert page.js(f"history.pushState({{n: 1}}, '', {json.dumps(path + 'a')})") == "given"
    assert page.js("[before, after, history.state.n]") == [1, 1, 1]
    assert names(shop.sent(2)) == ["page_view", "page_view"]


def test_a_page_that_changed_the_language(shop: Shop) -> None:
    """Older libraries add to Object.prototype, and everybody's loops see it."""
    page = shop.open(before="Object.prototype.added = 'more'; Array.prototype.added = () => 1;")
    page.js("tracklayer.track('A', {value: 1, items: [{id: 'a'}]})")
    seen = shop.sent(2)
    assert (names(seen), seen[1]["value"], seen[1]["items"]) == (["page_view", "A"], 1, [{"id": "a"}])
    assert warnings(page) == []


def test_elements_with_its_name(shop: Shop) -> None:
    """An element with the id `tracklayer` makes a global of that name."""
    page = shop.open(shop.add(body="<p id=tracklayer></p><form><input name=merchant></form>"))
    page.js("tracklayer.track('A')")
    assert names(shop.sent(2)) == ["page_view", "A"]
