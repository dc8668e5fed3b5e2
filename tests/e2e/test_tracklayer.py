"""TrackLayer with the whole product: the page's lines run, windows over frontends, keys and merchants that change."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from typing import Any

import pytest

from tests.servers.tools import need
from tests.support.product import ROOT, Product, until
from tests.support.tracklayer import FIREFOX, LEAST
from tests.support.wire import Reply

PAGE = (ROOT / "docs/tracklayer.md").read_text()
#: The page's own lines that call something, without the one that a page on a real host has.
LINES = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "curl" in block]


@pytest.fixture(scope="module")
def merchant(four: Product) -> dict[str, Any]:
    """One of the instance with four frontends, behind a proxy."""
    made: dict[str, Any] = four.json("merchants", "create", "--name", uuid.uuid4().hex[:12])
    return made


def send(
    product: Product, merchant_id: str, event_id: str = "", *, key: str = "", address: str = "203.0.113.1"
) -> Reply:
    """An event of a page, or with a key of a server, on a connection of its own."""
    event = {**LEAST, "event_id": event_id or str(uuid.uuid4()), "merchant_id": merchant_id}
    headers = {"Content-Type": "application/json", "User-Agent": FIREFOX, "X-Forwarded-For": address}
    path = "/v1/browser/events"
    if key:
        path, headers = "/v1/events", {**headers, "Authorization": f"Bearer {key}"}
    return product.ask("POST", path, headers, json.dumps(event).encode())


def test_what_the_docs_say_is_what_happens(product: Product) -> None:
    """The lines of docs/tracklayer.md, in their order, with a new merchant."""
    for tool in ("curl", "sh"):
        need(tool)
    made = product.json("merchants", "create", "--name", "docs")
    given = {"URL": product.url, "MERCHANT": made["merchant_id"], "TL_KEY": made["api_key"]}

    def run(line: str) -> dict[str, Any]:
        done = subprocess.run(
            ["sh", "-eu", "-c", line],
            env={**product.environ, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    purchase, bad, page = LINES
    assert run(purchase) == {"success": True, "event_id": "order-12345"}
    assert run(purchase)["error"] == "duplicate_event"
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert run(bad) == shown
    assert run(page) == {"success": True, "event_id": "order-12345"}
    assert run(re.sub(r"-A '[^']*'", "", page)) == {"ok": True, "dropped": "bot"}
    copies = [one for one in product.tail() if one["source"] == made["merchant_id"]]
    assert [one["channel"] for one in copies] == ["server", "browser"]
    assert copies[0]["user_data"]["email"] == "jane@example.com"
    assert copies[1]["context"]["page"]["url"] == "https://shop.example.com/thanks"


@pytest.mark.parametrize(
    ("begins", "says"), [("TL_KEY=", {"success": True}), ("CDP_KEY=", {"status": "accepted"})]
)
def test_the_printed_lines_work_when_pasted(begins: str, says: dict[str, Any], product: Product) -> None:
    """As often as one likes: each time it is another event."""
    [line] = [one.strip() for one in product.log.splitlines() if one.strip().startswith(begins)]
    for _ in range(2):
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert says.items() <= json.loads(done.stdout).items(), done.stdout


def test_thirty_in_a_minute_over_four_frontends(four: Product, merchant: dict[str, Any]) -> None:
    """Whichever frontend the connections come to: the 31st is refused, other addresses and merchants are not."""
    merchant_id = merchant["merchant_id"]
    replies = [send(four, merchant_id) for _ in range(31)]
    assert [reply.status for reply in replies] == [202] * 30 + [429]
    wait_s = int(replies[-1].get("retry-after") or "0")
    assert 1 <= wait_s <= 60
    assert replies[-1].json()["error"] == "rate_limited"
    assert send(four, merchant_id, address="203.0.113.2").status == 202
    assert send(four, merchant_id, address="2001:db8::1").status == 202
    other = four.json("merchants", "create", "--name", "other")
    assert send(four, other["merchant_id"]).status == 202
    assert send(four, merchant_id, key=merchant["api_key"]).status == 202


def test_one_more_after_the_wait_it_was_told(four: Product, merchant: dict[str, Any]) -> None:
    """Polled until then: refused before, accepted after; with an address of its own."""
    address = "203.0.113.77"
    for _ in range(30):
        assert send(four, merchant["merchant_id"], address=address).status == 202
    # the exact moment is proved with a clock of the test's own in tests/integration/test_window.py
    waits = [
        int(send(four, merchant["merchant_id"], address=address).get("retry-after") or "0") for _ in range(2)
    ]
    assert 1 <= waits[1] <= waits[0] <= 60


def test_both_copies_over_all_frontends(four: Product, merchant: dict[str, Any]) -> None:
    """One of each channel; further ones are copies wherever they come to."""
    event_id, merchant_id, key = str(uuid.uuid4()), merchant["merchant_id"], merchant["api_key"]
    address = "203.0.113.99"
    server = [send(four, merchant_id, event_id, key=key).status for _ in range(6)]
    browser = [send(four, merchant_id, event_id, address=address).status for _ in range(6)]
    assert server == browser == [202] + [409] * 5
    four.at_rest()


def test_merchants_and_keys_change_within_a_second(four: Product) -> None:
    """Every frontend: disabled, enabled, revoked."""
    made = four.json("merchants", "create", "--name", uuid.uuid4().hex[:12])
    merchant_id, key = made["merchant_id"], made["api_key"]

    def statuses() -> tuple[set[int], set[int]]:
        """Of servers and of pages (each from its own address), over many connections."""
        pages = {send(four, merchant_id, address=f"198.51.100.{number}").status for number in range(8)}
        return {send(four, merchant_id, key=key).status for _ in range(8)}, pages

    assert statuses() == ({202}, {202})
    four.command("merchants", "disable", merchant_id)
    until(lambda: statuses() == ({401}, {404}), "disabled everywhere", deadline_s=5)
    four.command("merchants", "enable", merchant_id)
    until(lambda: statuses() == ({202}, {202}), "enabled everywhere", deadline_s=5)
    four.command("keys", "revoke", key)
    until(lambda: statuses() == ({401}, {202}), "revoked everywhere", deadline_s=5)


def test_the_demo_credentials_work(four: Product) -> None:
    """In production mode: the merchant's key and its page."""
    [demo] = four.credentials()["merchants"]
    assert demo["api_key"].startswith("tl_live_")
    assert send(four, demo["merchant_id"], key=demo["api_key"]).status == 202
    assert send(four, demo["merchant_id"], address="203.0.113.200").status == 202
    [key] = four.credentials()["cdp_keys"]
    assert key["api_key"].startswith("cdp_live_")
    assert "cdp:events:write" in key["scopes"]
