"""`headgate demo`, looked at in the browser: what it says it sent, what it says the log received."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import Context, Page
from tests.support.product import HEADGATE, ROOT, Product, free_ports, until
from tests.support.wire import Wire

#: Headless browsers are no persons for TrackLayer.
PERSON = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)

CARDS = """
[...document.querySelectorAll('#%s .event')].reverse().map((card) =>
  ['.kind', '.name', '.state'].map((part) => card.querySelector(part).textContent))
"""


@pytest.fixture
def demo(product: Product) -> Iterator[dict[str, Any]]:
    """The running command: what it printed, and its process."""
    process = subprocess.Popen(
        [str(HEADGATE), "demo", "--json"],
        cwd=ROOT,
        env=product.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, f"it ended after {text!r}"
        text += line
    yield json.loads(text)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
    process.stdout.close()


def cards(page: Page, column: str) -> list[list[str]]:
    """Type, name and state of a column's cards, oldest first."""
    found: list[list[str]] = page.js(CARDS % column)
    return found


def test_the_demo(demo: dict[str, Any], product: Product, context: Context) -> None:
    """A visit with a spell offline: both columns tell it, and nothing was refused by the page's policy."""
    assert demo["gateway"] == product.url
    page = context.open(demo["url"])
    until(lambda: len(cards(page, "log")) == 1, "the page view")
    for button in ("[data-sku=MUG-1] [data-act=add]", "#identify", "#group", "#push"):
        page.click(button)
    until(lambda: len(cards(page, "log")) == 5, "five on the log")
    for button in ("#page", "#reset", "#track"):
        page.click(button)
    until(lambda: len(cards(page, "log")) == 7, "seven on the log")
    page.click("#network")
    page.click("#checkout")
    until(lambda: cards(page, "sent")[-1][2].startswith("offline, kept"), "an event kept")
    assert page.js("document.getElementById('waiting-count').textContent") == "1"
    page.click("#network")
    until(lambda: len(cards(page, "log")) == 8, "eight on the log")
    expected = [
        ["page", "/"], ["track", "Product Added"], ["identify", "user-42"], ["group", "company-7"],
        ["page", "/?view=1"], ["page", "Demo"], ["track", "Button Clicked"], ["track", "Order Completed"],
    ]  # fmt: skip
    assert [card[:2] for card in cards(page, "sent")] == expected
    assert [card[:2] for card in cards(page, "log")] == expected
    assert all(card[2].startswith("200, local") for card in cards(page, "sent"))
    page.click("#log .event summary")
    until(lambda: page.js("!!document.querySelector('#log pre')"), "the envelope shown")
    assert json.loads(page.js("document.querySelector('#log pre').textContent"))["event"] == "Order Completed"
    # denied: the page's own clicks go on, nothing is sent
    page.js("localStorage.setItem('demo-consent', 'denied')")
    page.click("#track")
    assert len(cards(page, "sent")) == 8
    assert page.errors == []
    assert [text for level, text in page.console if level in ("error", "warning")] == []


def test_the_pixels_page(demo: dict[str, Any], context: Context) -> None:
    """The same for TrackLayer, with a spell offline and a click on an advertisement: all on the log, in order."""
    page = context.open()
    page.call("Emulation.setUserAgentOverride", {"userAgent": PERSON})
    page.goto(demo["pixel"])
    until(lambda: len(cards(page, "log")) == 1, "the page view")
    for button in ("[data-sku=MUG-1] [data-act=add]", "#identify", "#push", "#back", "#track"):
        page.click(button)
    until(lambda: len(cards(page, "log")) == 5, "five on the log")
    page.click("#network")
    page.click("#checkout")
    page.js("new Promise(done => setTimeout(done, 100))")
    assert len(cards(page, "sent")) == 5
    page.click("#network")
    until(lambda: len(cards(page, "log")) == 6, "six on the log")
    expected = ["page_view", "AddToCart", "page_view", "page_view", "Lead", "Purchase"]
    assert [card[1] for card in cards(page, "sent")] == expected
    assert [card[1] for card in cards(page, "log")] == expected
    assert {card[2] for card in cards(page, "sent")} == {"on the log"}
    assert {card[0] for card in cards(page, "log")} == {"browser"}
    page.click("#log .event summary")
    until(lambda: page.js("!!document.querySelector('#log pre')"), "the envelope shown")
    envelope = json.loads(page.js("document.querySelector('#log pre').textContent"))
    assert (envelope["event"], envelope["value"], envelope["currency"]) == ("Purchase", 14.5, "EUR")
    assert envelope["user_data"]["email"] == "ada@example.com"
    page.goto(demo["pixel"] + "?fbclid=Demo-1")
    shown = (
        "[...document.querySelectorAll('#sent .facts')].some((one) => one.textContent.includes('.Demo-1'))"
    )
    until(lambda: page.js(shown), "the click's id")
    assert page.errors == []
    assert [text for level, text in page.console if level in ("error", "warning")] == []


def test_it_answers_this_machines_browser_only(demo: dict[str, Any]) -> None:
    """Another Host (a name that was made to point here), another method, another path."""
    port = int(demo["url"].rstrip("/").rpartition(":")[2])
    for head, status in (
        (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}", 200),
        (f"GET /demo.css HTTP/1.1\r\nHost: localhost:{port}", 200),
        ("GET /log HTTP/1.1\r\nHost: evil.example", 403),
        (f"GET /../serve.py HTTP/1.1\r\nHost: 127.0.0.1:{port}", 404),
        (f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}", 405),
    ):
        with Wire(port) as wire:
            wire.send(head.encode() + b"\r\n\r\n")
            reply = wire.reply("GET")
        assert reply is not None
        assert reply.status == status, head
        policy = reply.get("content-security-policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_without_an_instance(product: Product, tmp_path: Path) -> None:
    """It says what to do."""
    [port] = free_ports(1)
    done = subprocess.run(
        [str(HEADGATE), "demo"],
        cwd=ROOT,
        env={**product.environ, "HEADGATE_INGEST_PORT": str(port), "HEADGATE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 69
    assert "headgate run" in done.stderr
