"""ResultFly CDP on the product as it is run: the documents' lines, contracts under load, one event for each id."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from daemon.events.resultfly import SCOPES
from tests.servers.tools import need
from tests.support.cdp import PURCHASE, TYPE, purchase
from tests.support.fire import Fire
from tests.support.load import Load
from tests.support.product import ROOT, NewProduct, Product, until
from tests.support.wire import Reply, request

#: Events of the tests under fire, each sent five times by 50 callers. 10,000 is the measure of the promise:
#: CDP_FIRE_EVENTS=10000 pytest -n 0 tests/e2e/test_cdp.py -k fire
FIRE_EVENTS = int(os.environ.get("CDP_FIRE_EVENTS", "1000"))
#: The promised second (0.3.28).
IN_FORCE_S = 1.0


def new_key(product: Product, tenant: str, *scopes: str) -> str:
    """A key of the tenant (made if it is new), by default with every scope and without a limit that matters."""
    args = [part for scope in scopes or SCOPES for part in ("--scope", scope)]
    limits = ("--rate", "1000000", "--burst", "1000000")
    made = product.json("keys", "create", "--kind", "cdp", "--tenant", tenant, *args, *limits)
    return str(made["api_key"])


def ask(product: Product, key: str, method: str, path: str, body: Any = None) -> Reply:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return product.ask(method, path, headers, b"" if body is None else json.dumps(body).encode())


def put(product: Product, key: str, contract: Any, event_type: str = TYPE) -> int:
    """Put a contract into force; its version."""
    reply = ask(product, key, "PUT", f"/v1/cdp/contracts/{event_type}", contract)
    assert reply.status == 200, reply
    return int(reply.json()["version"])


def send(product: Product, key: str, event: Any) -> Reply:
    return ask(product, key, "POST", "/v1/cdp/events", event)


@pytest.fixture(scope="module")
def tenant() -> str:
    return f"cdp-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def key(product: Product, tenant: str) -> str:
    """A key of a tenant whose purchases are registered and in force everywhere."""
    made = new_key(product, tenant)
    put(product, made, PURCHASE)
    time.sleep(IN_FORCE_S)
    return made


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a server with all its children, so that connections stay open and nothing answers."""
    everybody = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    for one in everybody:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in everybody:
            os.kill(one, signal.SIGCONT)


# --- the documents


def test_the_lines_of_the_page_do_what_they_say(product: Product, tmp_path: Path) -> None:
    for tool in ("curl", "jq"):
        need(tool)
    text = (ROOT / "docs/cdp.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    script = "headgate() { (cd " + str(ROOT) + f" && {product.headgate} " + '"$@"); }\n'
    blocks = [block.replace("contracts.toml", str(tmp_path / "contracts.toml")) for block in blocks]
    blocks[1] += "\nsleep 1\n"  # what a contract says is in force by then
    script += "\necho; echo ----\n".join(blocks)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**product.environ, "URL": product.url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [part.strip() for part in done.stdout.split("----")]
    event = json.loads(told[2])
    assert event["status"] == "accepted"
    batch = json.loads(told[3])["results"]
    shown = re.search(r'^\{"results": \[.*?^\]\}', text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert batch == json.loads(shown[0])["results"]
    assert '"eventType":"cart_abandoned","version":1' in told[4]
    assert '"contracts":[{' in told[4]
    assert '"version":1' in told[5]
    assert json.loads(told[7])["title"] == TYPE


def test_documented_requests(product: Product, key: str, tenant: str) -> None:
    event = purchase(str(uuid.uuid4()))
    first = send(product, key, event)
    assert (first.status, first.json()["status"]) == (200, "accepted")
    assert first.get("x-headgate-durability") == "local"
    again = send(product, key, event)
    assert (again.status, again.json()) == (
        200,
        {"status": "duplicate", "original_event_id": first.json()["event_id"]},
    )
    other = purchase(str(uuid.uuid4()))
    reply = ask(
        product,
        key,
        "POST",
        "/v1/cdp/events/batch",
        {"items": [event, {**event, "identity": {}}, other, other]},
    )
    assert [one["status"] for one in reply.json()["results"]] == [
        "duplicate",
        "error",
        "accepted",
        "duplicate",
    ]
    put(product, key, {"properties": {}, "additionalProperties": "allow"}, "refund")
    until(lambda: send(product, key, {**event, "eventType": "refund"}).status == 409, "a conflict", 5.0)
    found = [
        one
        for one in product.tail("--since", "5m")
        if one["contract"] == "resultfly" and one["tenant"] == tenant
    ]
    assert [one["messageId"] for one in found] == [event["externalEventId"], other["externalEventId"]]
    assert found[0]["id"] == first.json()["event_id"]
    assert (found[0]["channel"], found[1]["channel"]) == ("server", "batch")


def test_keys_and_scopes(product: Product, key: str, tenant: str) -> None:
    reader = new_key(product, tenant, "cdp:contracts:read")
    assert send(product, reader, purchase()).status == 403
    assert ask(product, reader, "PUT", f"/v1/cdp/contracts/{TYPE}", PURCHASE).status == 403
    listed = ask(product, reader, "GET", "/v1/cdp/contracts")
    assert TYPE in [one["eventType"] for one in listed.json()["contracts"]]
    product.json(
        "keys",
        "revoke",
        next(
            one["id"] for one in product.json("keys", "list") if reader.startswith(one["prefix"].rstrip("…"))
        ),
    )
    until(lambda: ask(product, reader, "GET", "/v1/cdp/contracts").status == 401, "revoked", IN_FORCE_S + 1.0)
    assert send(product, product.demo.pipeline_key, purchase()).status == 401
    other = new_key(product, f"{tenant}-other")
    assert send(product, other, purchase()).json()["error_code"] == "unknown_event_type"


def test_a_keys_own_rate(product: Product, key: str, tenant: str) -> None:
    args = ("--kind", "cdp", "--tenant", tenant, "--rate", "0.5", "--burst", "2")
    slow = str(product.json("keys", "create", *args)["api_key"])
    replies = [send(product, slow, purchase("rate", source="rate")) for _ in range(4)]
    assert [one.status for one in replies[:2]] == [200, 200]
    reply = replies[-1]
    assert (reply.status, reply.json()["error_code"]) == (429, "rate_limited")
    assert 1 <= int(reply.get("retry-after") or 0) <= 4
    assert reply.get("ratelimit-policy") == '"key";q=2;w=4'
    assert send(product, key, purchase("rate", source="rate")).json()["status"] == "duplicate", (
        "another's is its own"
    )


# --- contracts


def test_a_contract_applied_by_command_is_in_force_within_a_second(
    product: Product, key: str, tenant: str, tmp_path: Path
) -> None:
    file = tmp_path / "contracts.json"
    for number, name in enumerate(("first", "second"), 1):
        file.write_text(
            json.dumps({"applied": {"properties": {name: {"type": "integer", "required": True}}}})
        )
        done = product.json("contracts", "apply", str(file), "--tenant", tenant)
        assert [one["version"] for one in done["contracts"]] == [number]
        time.sleep(IN_FORCE_S)
        # over both frontends
        for _ in range(8):
            event = purchase(str(uuid.uuid4()), eventType="applied", properties={name: 1})
            assert send(product, key, event).status == 200
            reply = send(product, key, {**event, "properties": {"other": 1}})
            assert reply.json()["message"].startswith(f"properties.{name} is required")


def test_a_contract_that_changes_under_load(product: Product, key: str, tenant: str) -> None:
    """No request fails for it, and from a second later the new version rules."""
    contracts = [{"properties": {name: {"type": "string", "required": True}}} for name in ("old", "new")]
    put(product, key, contracts[0], "changing")
    time.sleep(IN_FORCE_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    bodies = [
        purchase(f"changing-{name}", eventType="changing", properties={name: "x"}) for name in ("old", "new")
    ]
    requests = [request("POST", "/v1/cdp/events", headers, json.dumps(body).encode()) for body in bodies]
    #: which contract ruled alone, and in which time
    phases: list[tuple[int, float, float]] = []
    rules, since = 0, 0.0
    with Load(product.ingest_port, requests=requests, connections=16, per_s=600) as load:

        def answered(more: int) -> None:
            goal = len(load.answers) + more
            until(lambda: len(load.answers) >= goal, f"{more} more answers")

        answered(300)
        for number in (1, 0, 1):
            phases.append((rules, since + IN_FORCE_S, time.monotonic()))
            put(product, key, contracts[number], "changing")
            rules, since = number, time.monotonic()
            answered(1200)
        phases.append((rules, since + IN_FORCE_S, time.monotonic()))
        # and back and forth in quick succession
        for number in [0, 1] * 10:
            put(product, key, contracts[number], "changing")
        rules, since = 1, time.monotonic()
        answered(1200)
        phases.append((rules, since + IN_FORCE_S, time.monotonic()))
    assert load.failures == []
    assert set(load.statuses) == {200, 422}
    for rules, since, upto in phases:
        judged = [one for one in load.answers if since <= one.sent_at and one.came_at <= upto]
        assert len(judged) > 100
        assert {(one.number % 2 == rules, one.status) for one in judged} == {(True, 200), (False, 422)}
    stored = ask(product, key, "GET", "/v1/cdp/contracts/changing").json()
    assert stored["version"] == 24


# --- one event for each id


def broken(product: Product, fire: Fire, seed: int) -> Counter[str]:
    """Kill frontends, publishers and the processor at random while it burns; who was killed."""
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    everybody = [("frontend", 0), ("frontend", 1), ("publisher", 0), ("publisher", 1), ("processor", 0)]
    for step in range(1, 9):
        fire.wait(step / 10)
        role, slot = chance.choice(everybody)
        # it may just be coming back from the last time
        with contextlib.suppress(AssertionError, ProcessLookupError):
            product.kill(role, slot)
            killed[role] += 1
    return killed


def judged(product: Product, fire: Fire) -> list[str]:
    """What holds after every fire; the ids on the log, copies among them."""
    assert fire.ended == fire.total
    assert fire.statuses.keys() <= {"accepted", "duplicate"}
    assert all(len(ids) == 1 for ids in fire.ids.values()), "one event, one id"
    given = {event_id for ids in fire.ids.values() for event_id in ids}
    assert len(given) == len(fire.ids) == FIRE_EVENTS, "one id, one event"
    found = [one["id"] for one in product.tail() if one["source"] == "fire"]
    assert set(found) == given
    # and the one that tried whether the contract is in force
    until(lambda: stored(product, "fire") == FIRE_EVENTS + 1, "one row for each event", 120.0)
    return found


def stored(product: Product, tenant: str) -> int:
    """Rows of the tenant."""
    return int(product.json("events", "count", "--tenant", tenant)["count"])


@pytest.fixture
def burning(new_product: NewProduct) -> tuple[Product, str]:
    """An instance with two of each, which may crash as often as it likes, and a key."""
    product = new_product(
        HEADGATE_FRONTEND__COUNT="2", HEADGATE_PUBLISHER__COUNT="2", HEADGATE_SUPERVISOR__CRASHES_MAX="1000"
    ).start()
    made = new_key(product, "fire")
    put(product, made, PURCHASE)
    until(lambda: all(send(product, made, purchase("first")).status == 200 for _ in range(4)), "in force")
    return product, made


@pytest.mark.timeout(600)
def test_one_event_for_each_id_under_fire(burning: tuple[Product, str]) -> None:
    """Processes are killed at random: every caller ends, every id is on the log, and stored once."""
    product, made = burning
    with Fire(product.ingest_port, made, purchase("first", source="fire"), events=FIRE_EVENTS) as fire:
        killed = broken(product, fire, 7)
    assert killed.total() >= 3
    assert fire.again, "somebody noticed"
    ids = judged(product, fire)
    assert len(ids) >= FIRE_EVENTS


@pytest.mark.timeout(600)
def test_one_event_for_each_id_when_redis_is_emptied(burning: tuple[Product, str]) -> None:
    """Copies are accepted again then; their ids are the same, so they are stored once."""
    product, made = burning
    with Fire(product.ingest_port, made, purchase("first", source="fire"), events=FIRE_EVENTS) as fire:
        for step in (0.3, 0.5, 0.7):
            fire.wait(step)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as valkey:
                valkey.connect(str(product.data / "run/valkey.sock"))
                valkey.sendall(b"FLUSHALL\r\n")
                assert valkey.recv(64) == b"+OK\r\n"
    ids = judged(product, fire)
    copies = len(ids) - len(set(ids))
    assert copies > 0, "the door forgot, the ids did not"
    assert fire.statuses["accepted"] == len(ids)
    assert max(fire.accepted.values()) > 1


def test_events_go_on_while_postgres_is_away(burning: tuple[Product, str]) -> None:
    """With the contracts that were in force; they can't be changed meanwhile."""
    product, made = burning
    with frozen(product.servers()["postgres"]):
        for _ in range(10):
            event = purchase(str(uuid.uuid4()))
            assert send(product, made, event).status == 200
            assert send(product, made, {**event, "properties": {}}).status == 422
        reply = ask(product, made, "PUT", f"/v1/cdp/contracts/{TYPE}", {"properties": {}})
        assert (reply.status, reply.json()["error_code"]) == (503, "unavailable")
        assert reply.get("retry-after") is not None
    until(
        lambda: ask(product, made, "PUT", f"/v1/cdp/contracts/{TYPE}", {"properties": {}}).status == 200,
        "back",
    )
