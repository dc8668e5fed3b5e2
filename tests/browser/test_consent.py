"""Consent: what the managers' cookies and APIs say decides whether anything is sent or stored, and goes with each event."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import Ready, Shop
from tests.browser.test_delivery import idle, kinds, stored
from tests.support.chromium import Context
from tests.support.product import until
from tests.support.site import Door, Trouble

pytestmark = pytest.mark.usefixtures("strict")

ALL = {"analytics": True, "marketing": True, "functional": True, "advertising": True}
NONE = dict.fromkeys(ALL, False)
SOME = {**NONE, "analytics": True, "functional": True}


def didomi(enabled: list[str], disabled: list[str]) -> str:
    """A didomi_token."""
    token = {"user_id": "u", "purposes": {"enabled": enabled, "disabled": disabled}, "version": 2}
    return base64.b64encode(json.dumps(token).encode()).decode()


def tc_string(*purposes: int) -> str:
    """The core of a TC string (version 2) with consent to these purposes."""
    bits = [0] * 240
    bits[4] = 1
    for purpose in purposes:
        bits[151 + purpose] = 1
    number = int("".join(map(str, bits)), 2)
    return base64.urlsafe_b64encode(number.to_bytes(30, "big")).decode().rstrip("=")


def onetrust(**groups: int) -> str:
    """An OptanonConsent cookie, as OneTrust encodes it."""
    listed = ",".join(f"{name}:{value}" for name, value in {"C0001": 1, **groups}.items())
    return f"isGpcEnabled=0&datestamp=Mon+Jan+01&version=202405.1.0&groups={quote(listed)}&AwaitingReconsent=false"


def cookiebot(**categories: str) -> str:
    """A CookieConsent cookie."""
    listed = ",".join(f"{name}:{value}" for name, value in {"necessary": "true", **categories}.items())
    return quote(f"{{stamp:'abc==',{listed},method:'explicit',ver:1,utc:1740000000000,region:'de'}}")


#: `data-consent`, cookies, what has to be decided: an object, or None while nothing is.
CASES: list[tuple[str, dict[str, str], dict[str, bool] | None]] = [
    ("granted", {}, ALL),
    ("denied", {}, NONE),
    ("onetrust", {}, None),
    ("onetrust", {"OptanonConsent": onetrust(C0002=1, C0003=1, C0004=0)}, SOME),
    ("onetrust", {"OptanonConsent": onetrust(C0002=0, C0003=0, C0004=0)}, None),
    ("onetrust", {"OptanonConsent": onetrust(C0002=0, C0003=0, C0004=0), "OptanonAlertBoxClosed": "2026-01-01"}, NONE),
    ("cookiebot", {}, None),
    ("cookiebot", {"CookieConsent": cookiebot(preferences="true", statistics="true", marketing="false")}, SOME),
    ("cookiebot", {"CookieConsent": cookiebot(preferences="false", statistics="false", marketing="false")}, NONE),
    ("cookiebot", {"CookieConsent": "-1"}, ALL),
    ("cookiebot", {"CookieConsent": "0"}, NONE),
    ("didomi", {}, None),
    ("didomi", {"didomi_token": didomi(["analytics-xY1", "functional-2"], ["marketing-3"])}, SOME),
    ("didomi", {"didomi_token": didomi(["p4em9a8m", "M9NRHJe3G"], [])}, ALL),
    ("didomi", {"didomi_token": didomi([], ["p4em9a8m", "measure_content_performance"])}, NONE),
    ("osano", {}, None),
    ("osano", {"osano_consentmanager": quote(json.dumps({"ANALYTICS": "ACCEPT", "PERSONALIZATION": "ACCEPT", "MARKETING": "DENY"}))}, SOME),
    ("osano", {"osano_consentmanager": "t5e_8v4OumSWIPLrZ4C41VM5pbZtizjk9iq9"}, None),
    ("tcf", {}, None),
    ("tcf", {"euconsent-v2": tc_string(1, 8)}, SOME),
    ("tcf", {"euconsent-v2": tc_string(*range(1, 11))}, ALL),
    ("tcf", {"euconsent-v2": tc_string(8)}, NONE),
    ("cookie:my_choice", {}, None),
    ("cookie:my_choice", {"my_choice": "granted"}, ALL),
    ("cookie:my_choice", {"my_choice": "rejected"}, NONE),
    ("cookie:my_choice", {"my_choice": "analytics,functional"}, SOME),
    ("cookie:my_choice", {"my_choice": quote('{"analytics":true,"functional":"granted","marketing":false}')}, SOME),
    ("auto", {}, None),
    ("auto", {"CookieConsent": cookiebot(preferences="true", statistics="true", marketing="false")}, SOME),
    ("auto", {"CookieConsent": "somebody-else's"}, None),
    ("nonsense", {}, None),
]  # fmt: skip


def set_cookies(cookies: dict[str, str], path: str) -> str:
    """A script element that sets cookies for one page alone."""
    lines = [
        f"document.cookie = {json.dumps(f'{name}={value}; path={path}')};" for name, value in cookies.items()
    ]
    return f"<script>{''.join(lines)}</script>"


def test_what_the_managers_say(guarded_shop: Shop, door: Door, context: Context, ready: Ready) -> None:
    """Sent with the decision; denied, neither sent nor stored; undecided, kept in memory until there is one."""
    shop = guarded_shop
    page = context.open()
    expected, before = {}, {}
    for number, (option, cookies, choice) in enumerate(CASES):
        name = f"case{number}/"
        path = shop.add(
            name, attributes=f'data-consent="{option}"', head=set_cookies(cookies, f"/{shop.mark}/{name}")
        )
        if number:
            page.js("sessionStorage.clear()")
        page.goto(shop.url(path))
        ready(page)
        page.js("_df.track('Before')")
        if choice is None or not choice["analytics"]:
            before[name] = (stored(page), page.js("sessionStorage.length"), len(door.events(f"/{name}")))
        # Now the page itself says so. What was held is released, what was denied is gone.
        page.js("_df.consent({analytics: true}), _df.track('After')")
        own = {**NONE, "analytics": True}
        if choice is None:
            expected[name] = [("page", own), ("Before", own), ("After", own)]
        elif choice["analytics"]:
            expected[name] = [("page", choice), ("Before", choice), ("After", own)]
        else:
            expected[name] = [("After", own)]
        until(lambda path=path, name=name: len(door.events(path)) >= len(expected[name]), name)  # type: ignore[misc]
        idle(page)
    assert {name: found for name, found in before.items() if found != ([], 0, 0)} == {}
    seen: dict[str, list[tuple[str, Any]]] = {}
    for one in shop.all():
        name = one["context"]["page"]["path"].split("/", 2)[2]
        seen.setdefault(name, []).append((one.get("event", one["type"]), one["context"]["consent"]))
    assert seen == expected


def test_without_the_attribute(shop: Shop, context: Context, ready: Ready) -> None:
    """A manager that shows on the page is obeyed; where none does, nothing is claimed."""
    page = context.open(shop.url(shop.add()))
    ready(page)
    cookies = {"OptanonConsent": onetrust(C0002=0, C0004=0), "OptanonAlertBoxClosed": "2026"}
    page.goto(shop.url(shop.add("denied/", head=set_cookies(cookies, f"/{shop.mark}/denied/"))))
    ready(page)
    page.js("_df.track('Never')")
    cookies = {"CookieConsent": cookiebot(preferences="true", statistics="true", marketing="false")}
    page.goto(shop.url(shop.add("granted/", head=set_cookies(cookies, f"/{shop.mark}/granted/"))))
    ready(page)
    shop.arrived(2)
    first, second = shop.all()
    assert "consent" not in first["context"]
    assert second["context"]["consent"] == SOME


def test_a_decision_while_the_page_is_open(shop: Shop, context: Context, ready: Ready) -> None:
    """Undecided, granted, withdrawn, granted: read again at every event, and what waited is released by itself."""
    path = shop.add("x/", attributes="data-consent=onetrust")
    page = context.open(shop.url(path))
    ready(page)
    page.js("_df.track('Held')")
    decide = "document.cookie = 'OptanonConsent=" + onetrust(C0002=1, C0003=1, C0004=0) + f"; path={path}'"
    page.js(decide)
    assert kinds(shop.arrived(2)) == ["page", "Held"]
    page.js(
        f"document.cookie = 'OptanonConsent={onetrust(C0002=0)}; path={path}',"
        f"document.cookie = 'OptanonAlertBoxClosed=2026; path={path}', _df.track('Never')"
    )
    page.js(decide)
    page.js("_df.track('Again')")
    shop.arrived(3)
    assert kinds(shop.all()) == ["page", "Held", "Again"]


def test_a_queue_is_forgotten_when_consent_is_withdrawn(
    guarded_shop: Shop, door: Door, context: Context, ready: Ready
) -> None:
    """What waits in the store is deleted, that of other tabs too, and never sent."""
    shop = guarded_shop
    door.always(Trouble(503, (("Retry-After", "600"),)))
    page = context.open(shop.url(shop.add(attributes="data-consent=granted")))
    ready(page)
    other = context.open(shop.url(f"/{shop.mark}/"))
    until(lambda: len(door.events()) == 2 and len(stored(page)) == 2, "two queues")
    page.js("_df.consent('denied')")
    assert stored(page) == []
    door.always(None)
    # The other tab finds its queue gone, and does not bring it back with its next event.
    until(lambda: stored(other) == [], "the other tab to see it")
    other.js("_df.track('Other')")
    assert other.js(
        "Object.values(localStorage).map(v => JSON.parse(v)[1].map(e => JSON.parse(e[1]).event)).flat()"
    ) == ["Other"]
    other.close()
    page.js("_df.consent('granted'), _df.track('New')")
    page.goto(shop.url(shop.add("next", attributes="data-consent=granted")))
    ready(page)
    shop.arrived(3)
    idle(page)
    assert sorted(kinds(shop.all())) == ["New", "Other", "page"]
    assert [one["context"]["page"]["path"][-4:] for one in shop.all() if one["type"] == "page"] == ["next"]


TCF = """
window.listeners = [];
window.__tcfapi = (command, version, callback) => {
  if (command === 'addEventListener' && version === 2) listeners.push(callback);
};
window.say = (eventStatus, purposes, gdprApplies = true) => listeners.forEach((callback) => callback(
  {eventStatus, gdprApplies, purpose: {consents: Object.fromEntries(purposes.map((n) => [n, true]))}}, true));
"""

OSANO = """
window.Osano = {cm: {getConsent: () => ({ESSENTIAL: 'ACCEPT', ANALYTICS: 'DENY', MARKETING: 'DENY', PERSONALIZATION: 'DENY'})}};
"""


def test_the_tcf_api(shop: Shop, context: Context, ready: Ready) -> None:
    """The page's TCF API: its banner is waited for, its answer obeyed, also a later one; one listener."""
    page = context.open(shop.url(shop.add(attributes="data-consent=tcf")), before=TCF)
    ready(page)
    page.js("say('cmpuishown', [])")
    page.js("_df.track('Held')")
    assert shop.all() == []
    page.js("say('useractioncomplete', [1, 8])")
    seen = shop.arrived(2)
    assert [one["context"]["consent"] for one in seen] == [SOME, SOME]
    page.js(
        "say('useractioncomplete', []), _df.track('Never'), say('tcloaded', [], false), _df.track('Free')"
    )
    shop.arrived(3)
    assert [(kinds([one])[0], one["context"]["consent"]) for one in shop.all()][2:] == [("Free", ALL)]
    assert page.js("listeners.length") == 1


def test_osanos_own_script(shop: Shop, context: Context, ready: Ready) -> None:
    """Its cookie can't be read by others: that it is there means a decision, which its script tells."""
    path = shop.add("x/", attributes="data-consent=osano")
    page = context.open(shop.url(path), before=OSANO)
    ready(page)
    page.js("_df.track('Held')")
    page.js(
        "Osano.cm.getConsent = () => ({ANALYTICS: 'ACCEPT', PERSONALIZATION: 'ACCEPT', MARKETING: 'DENY'})"
    )
    page.js(f"document.cookie = 'osano_consentmanager=t5e_8v4OumSWIP; path={path}'")
    shop.arrived(2)
    assert [one["context"]["consent"] for one in shop.all()] == [SOME, SOME]


def test_a_value_in_the_local_storage(shop: Shop, context: Context, ready: Ready) -> None:
    """local:KEY."""
    page = context.open(shop.url(shop.add(attributes="data-consent=local:choice")))
    ready(page)
    page.js("_df.track('Held'), localStorage.choice = '{\"analytics\":1,\"functional\":true}'")
    shop.arrived(2)
    assert [one["context"]["consent"] for one in shop.all()] == [SOME, SOME]
    page.js("localStorage.choice = 'no', _df.track('Never')")
    assert len(shop.all()) == 2
    assert stored(page) == []


def test_an_unknown_word_is_said_in_the_console(shop: Shop, context: Context, ready: Ready) -> None:
    """Whoever mistypes learns why nothing arrives."""
    page = context.open(shop.url(shop.add(attributes="data-consent=onetrsut")))
    ready(page)
    assert [text for level, text in page.console if level == "warning"] == [
        'datafly.js: data-consent="onetrsut" is unknown: nothing is sent'
    ]
