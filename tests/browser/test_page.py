"""The SDK as a guest in other people's pages: it keeps calls, counts views once, and never gets in the way."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser.conftest import Ready, Shop
from tests.browser.test_delivery import idle, kinds, stored
from tests.support.chromium import Context
from tests.support.product import until
from tests.support.site import Door, Trouble

pytestmark = pytest.mark.usefixtures("strict")

#: The snippet of docs/sdk.md.
STUB = """<script>
  (function (w, n) {
    var q = w[n] = w[n] || [];
    ['track', 'page', 'identify', 'group', 'reset', 'consent'].forEach(function (m) {
      q[m] = q[m] || function () { q.push([m].concat([].slice.call(arguments))); };
    });
  })(window, '_df');
</script>"""


def test_calls_before_the_script_is_there(shop: Shop, context: Context, ready: Ready) -> None:
    """Kept by the stub and played in order after the page view; a reference to the stub stays good."""
    calls = "<script>window.kept = _df; _df.identify('u-1'); _df.track('Early', {n: 1});</script>"
    page = context.open(shop.url(shop.add(head=STUB + calls)))
    ready(page)
    page.js("kept.track('Late'), kept.push(['track', 'Pushed'], ['group', 'g'])")
    shop.arrived(6)
    seen = shop.all()
    assert kinds(seen) == ["page", "identify", "Early", "Late", "Pushed", "group"]
    assert [one.get("userId") for one in seen] == [None, *["u-1"] * 5]
    assert page.js("kept === _df && _df.length") == 0


def test_a_plain_array_is_stub_enough(shop: Shop, context: Context, ready: Ready) -> None:
    """Where no inline script is wanted: `_df = []` and push. What can't be played is passed over."""
    path = shop.add(
        head="<script>_df = [['track', 'Early'], null, 7, ['splice'], ['nothing'], ['track', 'More']]</script>"
    )
    page = context.open(shop.url(path))
    ready(page)
    shop.arrived(3)
    assert kinds(shop.all()) == ["page", "Early", "More"]


def test_the_pages_own_first_view_is_the_only_one(shop: Shop, context: Context, ready: Ready) -> None:
    """A page() that was kept, or comes before the automatic one, takes its place."""
    early = shop.add(
        "early", head=STUB + "<script>_df.track('A'); _df.page('Front', {section: 'x'})</script>"
    )
    page = context.open(shop.url(early))
    ready(page)
    shop.arrived(2)
    late = "<script>document.addEventListener('DOMContentLoaded', () => _df.page('Late'))</script>"
    path = shop.add("late", head=STUB + late)
    page.goto(shop.url(path))
    ready(page)
    shop.arrived(3)
    idle(page)
    seen = shop.all()
    assert [(one["type"], one.get("name")) for one in seen] == [
        ("track", None),
        ("page", "Front"),
        ("page", "Late"),
    ]
    assert seen[1]["properties"]["section"] == "x"
    assert seen[1]["properties"]["path"] == early


def test_views_inside_a_page(shop: Shop, context: Context, ready: Ready) -> None:
    """What routers do is one view each; what changes no page is none."""
    path = shop.add()
    page = context.open(shop.url(path))
    ready(page)
    shop.arrived(1)
    steps = [
        "history.replaceState({x: 1}, '')",  # the same address
        f"history.pushState({{}}, '', '{path}#part')",  # a fragment
        "location.hash = 'other'",
        f"history.pushState({{}}, '', '{path}a'); history.replaceState({{}}, '', '{path}b')",  # a redirect
        f"history.pushState({{}}, '', '{path}c'); document.title = 'C'; _df.page('By hand')",  # the router's own view
        f"history.pushState({{}}, '', '{path}d'); _df.track('On D')",  # the view comes first
        "location.hash = '#/route'",
        "location.hash = '#!/older'",
        f"history.replaceState({{}}, '', '{path}?q=1')",
    ]
    for step in steps:
        page.js(step)
        page.js("new Promise(done => setTimeout(done, 20))")
    shop.arrived(8)
    idle(page)
    seen = shop.all()
    found = [
        (one.get("event") or one.get("name"), one["context"]["page"]["url"][len(shop.url(path)) :])
        for one in seen
    ]
    assert found == [
        (None, ""), (None, "b"), ("By hand", "c"), (None, "d"), ("On D", "d"),
        (None, "d#/route"), (None, "d#!/older"), (None, "?q=1"),
    ]  # fmt: skip
    assert [one["context"]["page"]["referrer"][len(shop.url(path)) :] for one in seen[1:]] == [
        "", "b", "c", "c", "d", "d#/route", "d#!/older",
    ]  # fmt: skip
    assert seen[2]["context"]["page"]["title"] == "C"


def test_manual_views(shop: Shop, context: Context, ready: Ready) -> None:
    """data-page="manual": only what page() says."""
    path = shop.add(attributes="data-page=manual")
    page = context.open(shop.url(path))
    ready(page)
    page.js(f"history.pushState({{}}, '', '{path}a')")
    page.js("new Promise(done => setTimeout(done, 20))")
    page.js("_df.page({section: 'x'})")
    shop.arrived(1)
    [only] = shop.all()
    assert (only.get("name"), only["properties"]["section"], only["properties"]["path"]) == (
        None,
        "x",
        path + "a",
    )


def test_back_out_of_the_browsers_cache(shop: Shop, context: Context, ready: Ready) -> None:
    """A page that comes back as it was left is viewed again."""
    page = context.open(shop.url(shop.add()))
    ready(page)
    page.js("window.mark = 1")
    page.goto(shop.url(shop.add("two")))
    ready(page)
    shop.arrived(2)
    page.back()
    until(lambda: page.js("window.mark") == 1, "the first page as it was")
    shop.arrived(3)
    page.js("_df.track('Still here')")
    shop.arrived(4)
    assert [one["context"]["page"]["path"][-3:] for one in shop.all()[1:3]] == ["two", f"{shop.mark}/"[-3:]]


def test_identities(shop: Shop, context: Context, ready: Ready) -> None:
    """Traits gather for a user, are not another's, and reset forgets both; numbers are ids too."""
    page = context.open(shop.url(shop.add(attributes="data-page=manual")))
    ready(page)
    page.js(
        "_df.identify('u-1', {a: 1}), _df.identify('u-1', {b: 2}), _df.identify({c: 3}), _df.track('A'),"
        "_df.identify(42, {d: 4}), _df.group(7), _df.reset(), _df.identify('u-2')"
    )
    shop.arrived(7)
    assert [(one["userId"], one.get("traits"), one.get("groupId")) for one in shop.all()] == [
        ("u-1", {"a": 1}, None),
        ("u-1", {"a": 1, "b": 2}, None),
        ("u-1", {"a": 1, "b": 2, "c": 3}, None),
        ("u-1", None, None),
        ("42", {"d": 4}, None),
        ("42", None, "7"),
        ("u-2", {}, None),
    ]


def test_misuse_never_throws(shop: Shop, context: Context, ready: Ready) -> None:
    """Whatever a page passes: no exception, and what can be sent is."""
    page = context.open(shop.url(shop.add(attributes="data-page=manual")))
    ready(page)
    page.js(
        "const loop = {}; loop.self = loop;"
        "_df.track(); _df.track(''); _df.track(null); _df.identify(); _df.identify(''); _df.group(); _df.push(); _df.push(null);"
        "_df.track('Loop', loop); _df.track('Big', {n: 10n}); _df.track('Getter', {get x() { throw new Error('mine') }});"
        "_df.track('Array', [1]); _df.track('Text', 'x'); _df.track(5, null);"
        "_df.track('Half \\ud83d', {literal: '\\\\ud83d', emoji: '\\ud83d\\ude00', nan: NaN});"
    )
    shop.arrived(4)
    idle(page)
    seen = shop.all()
    assert kinds(seen) == ["Array", "Text", "5", "Half \ufffd"]
    assert [one.get("properties") for one in seen] == [
        None, None, None, {"literal": "\\ud83d", "emoji": "\U0001f600", "nan": None},
    ]  # fmt: skip
    assert len([text for level, text in page.console if level == "warning"]) == 9


def test_what_a_page_changes_later_is_not_sent(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """An event is what it was at the call."""
    shop = guarded_shop
    page = context.open(shop.url(shop.add(attributes="data-page=manual data-consent=cookie:c")))
    ready(page)
    page.js(
        "window.cart = {n: 1}, _df.track('A', cart), cart.n = 2, _df.track('B', cart), _df.consent('granted')"
    )
    shop.arrived(2)
    assert [one["properties"] for one in shop.all()] == [{"n": 1}, {"n": 2}]


def test_a_large_event(shop: Shop, context: Context, ready: Ready) -> None:
    """More than a browser lets a keepalive request hold."""
    page = context.open(shop.url(shop.add(attributes="data-page=manual")))
    ready(page)
    page.js("_df.track('Large', {text: 'x'.repeat(400_000)}), _df.track('After')")
    shop.arrived(2)
    assert len(shop.all()[0]["properties"]["text"]) == 400_000


def test_the_queue_is_bounded(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """200 events, 256 Ki characters, 24 hours: the oldest go first."""
    shop = guarded_shop
    door.always(Trouble(503, (("Retry-After", "600"),)))
    page = context.open(shop.url(shop.add(attributes="data-page=manual")))
    ready(page)
    kept = "JSON.parse(Object.entries(localStorage).find(e => e[0].startsWith('_df'))[1])[1]"
    page.js("for (let n = 0; n < 250; n++) _df.track('E' + n)")
    assert page.js(f"{kept}.length") == 200
    assert page.js(f"JSON.parse({kept}[0][1]).event") == "E50"
    page.js("for (let n = 0; n < 5; n++) _df.track('Large', {n, text: 'x'.repeat(100_000)})")
    assert page.js(f"{kept}.map(e => JSON.parse(e[1]).properties.n)") == [3, 4]
    # a day later
    page.js("window.now = Date.now, Date.now = () => now() + 24 * 3600 * 1000 + 1000, _df.track('Tomorrow')")
    assert page.js(f"{kept}.map(e => JSON.parse(e[1]).event)") == ["Tomorrow"]


STRICT_CSP = {
    "Content-Security-Policy": "default-src 'none'; script-src {gateway}; connect-src {gateway}; img-src data:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def test_a_strict_policy(shop: Shop, context: Context, ready: Ready) -> None:
    """Nothing inline, no eval, no style, trusted types, COEP: two sources are all it needs."""
    headers = {name: value.replace("{gateway}", shop.gateway) for name, value in STRICT_CSP.items()}
    page = context.open(shop.url(shop.add(headers=headers)))
    ready(page)
    page.js("_df.track('One')")
    shop.arrived(2)
    assert page.js("crossOriginIsolated") is True
    assert kinds(shop.all()) == ["page", "One"]
    assert [entry for entry in page.console if entry[0] in ("error", "warning")] == []


def test_options_of_the_tag(shop: Shop, door: Door, context: Context) -> None:
    """Another name, another endpoint (with a path), twice in a page, and an element with the global's name."""
    path = shop.add(
        attributes=f'data-global=shopEvents data-endpoint="{door.url}/"', body="<p id=shopEvents></p>"
    )
    html, headers = shop.site.pages[path]
    [tag] = re.findall(r"<script src.*?</script>", html)
    shop.site.pages[path] = (html.replace("</body>", f"{tag}</body>"), headers)
    page = context.open(shop.url(path))
    until(lambda: page.js("!!(window.shopEvents && shopEvents.version)"), "the SDK under its name")
    assert page.js("typeof window._df") == "undefined"
    page.js("shopEvents.track('One')")
    shop.arrived(2)
    idle(page)
    assert kinds(shop.all()) == ["page", "One"]
    assert [one.target[:5] for one in door.events()] == ["/v1/p", "/v1/t"]


def test_without_a_key(shop: Shop, context: Context, ready: Ready) -> None:
    """Said in the console; the methods are there and do nothing."""
    path = shop.add()
    html, headers = shop.site.pages[path]
    shop.site.pages[path] = (html.replace(f'data-pipeline-key="{shop.source.pipeline_key}"', ""), headers)
    page = context.open(shop.url(path))
    ready(page)
    assert page.js("_df.track('One'), _df.page(), _df.identify('u')") is None
    assert [text for level, text in page.console if level == "warning"] == [
        "datafly.js: the script tag has no data-pipeline-key"
    ]
    assert stored(page) == []


@pytest.mark.parametrize("way", ["localStorage", "cookie", "setItem", "both"])
def test_blocked_storage(shop: Shop, context: Context, ready: Ready, way: str) -> None:
    """Storage that throws: when it is looked at, when it is written to."""
    denied = "get() { throw new DOMException('denied', 'SecurityError') }"
    blocks = {
        "localStorage": f"Object.defineProperty(window, 'localStorage', {{{denied}}});",
        "cookie": f"Object.defineProperty(Document.prototype, 'cookie', {{{denied}}});",
        "setItem": "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') };",
    }
    script = blocks["localStorage"] + blocks["cookie"] if way == "both" else blocks[way]
    page = context.open(shop.url(shop.add()), before=script)
    ready(page)
    page.js("_df.track('One')")
    shop.arrived(2)
    assert kinds(shop.all()) == ["page", "One"]


def test_all_site_data_blocked(shop: Shop, site_data_blocked: Context, ready: Ready) -> None:
    """The browser's own setting: no cookies, no storage. One page's events are still one visitor's."""
    page = site_data_blocked.open(shop.url(shop.add()))
    ready(page)
    assert (
        page.js("(() => { try { return typeof localStorage } catch (error) { return error.name } })()")
        == "SecurityError"
    )
    page.js("_df.track('One'), _df.track('Two')")
    shop.arrived(3)
    seen = shop.all()
    assert kinds(seen) == ["page", "One", "Two"]
    assert len({one["anonymousId"] for one in seen}) == 1
    assert page.errors == []


def test_a_sandboxed_frame(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """An opaque origin, where cookies and storage throw: nobody may send from there, and nothing breaks."""
    shop = guarded_shop
    inner = shop.add("inner")
    outer = f"/{shop.mark}/outer"
    shop.site.pages[outer] = (f"<iframe sandbox=allow-scripts src='{inner}'></iframe>", {})
    page = context.open(shop.url(outer))
    until(lambda: [one for one in door.events() if one.status], "a try")
    assert (door.events()[0].headers["origin"], door.events()[0].status) == ("null", 403)
    assert page.errors == []


def test_a_script_that_is_not_there(shop: Shop, context: Context) -> None:
    """The gateway is away when the page loads: the stub swallows the calls."""
    path = shop.add(head=STUB, gateway="http://127.0.0.1:9")
    page = context.open(shop.url(path))
    assert page.js("_df.track('One'), _df.identify('u'), _df.length") == 2


def test_many_pages_one_history(shop: Shop, context: Context, ready: Ready) -> None:
    """Another library's wrapper around pushState, put on later, and a pushState that throws, work as before."""
    path = shop.add()
    page = context.open(shop.url(path))
    ready(page)
    shop.arrived(1)
    assert (
        page.js(
            "(() => { try { history.pushState({}, '', 'http://other.test/') } catch (e) { return e.name } })()"
        )
        == "SecurityError"
    )
    page.js(
        "window.calls = 0, window.inner = history.pushState,"
        "history.pushState = function () { calls++; return inner.apply(this, arguments) }"
    )
    page.js(f"history.pushState({{n: 1}}, '', {json.dumps(path + 'a')})")
    shop.arrived(2)
    assert page.js("[calls, history.state.n]") == [1, 1]
    assert kinds(shop.all()) == ["page", "page"]
