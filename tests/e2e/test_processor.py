"""From the door to the row: everything that got a 2xx is stored once, whatever is done to the processor and its database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial

import asyncpg

from tests.support.load import Load
from tests.support.product import NewProduct, Product, until

PER_S = 400.0


def stored(product: Product) -> list[str]:
    """The messageIds of all rows of the demo's tenant, each as often as it is there."""

    async def ask() -> list[str]:
        dsn = json.loads((product.data / "run.json").read_text())["postgres_dsn"]
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch("SELECT message_id FROM events WHERE tenant = 'e2e'")
        finally:
            await connection.close()
        return [row[0] for row in rows]

    return asyncio.run(ask())


def test_what_was_accepted_is_stored_once_whatever_happens(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_PROCESSOR__BATCH_TIMEOUT_S="5").start()
    source = product.create_source()
    with Load(product.ingest_port, source, connections=8, per_s=PER_S) as load:
        load.wait(100)
        for _ in range(3):
            pid = product.kill("processor")
            load.wait(100)
            product.wait_slot("processor", 0, not_pid=pid)
        # It hangs with its database: events are taken all the same.
        postgres = product.servers()["postgres"]
        os.kill(postgres, signal.SIGSTOP)
        pid = product.kill("processor")
        load.wait(200)
        assert product.readyz() == (200, [])
        os.kill(postgres, signal.SIGCONT)
        product.wait_slot("processor", 0, not_pid=pid)
        # Gone with its server and started anew.
        before = product.pid("embedded")
        os.kill(postgres, signal.SIGKILL)
        product.wait_slot("embedded", 0, not_pid=before)
        load.wait(100)
        product.command("restart", "--rolling")
        load.wait(100)
    assert load.failures == []
    assert load.statuses.keys() == {200}
    until(lambda: len(stored(product)) >= len(load.acked), "all stored", 30.0)
    assert sorted(stored(product)) == sorted(load.acked)
    assert product.json("events", "count", "--tenant", "e2e") == {"count": len(load.acked)}
    until(lambda: product.metrics().sum("headgate_processor_lag_records") == 0, "nothing waits")
    assert product.metrics().sum("headgate_processor_records_total", result="poison") == 0
    assert product.metrics().sum("headgate_processor_missed_records_total") == 0
    assert product.slot("processor").state == "READY"


def test_a_person_from_the_door_to_the_profile(product: Product) -> None:
    made = product.json(
        *("keys", "create", "--kind", "cdp", "--tenant", "people"),
        *("--scope", "cdp:events:write", "--scope", "cdp:contracts:write"),
    )
    headers = {"Authorization": f"Bearer {made['api_key']}", "Content-Type": "application/json"}
    put = product.ask("PUT", "/v1/cdp/contracts/order", headers, b'{"properties":{}}')
    assert put.status == 200
    history = [
        {"email": " Jane@Example.COM "},
        {"phone": "+49 30 901820"},
        {"externalUserId": "u1", "email": "jane@example.com"},
        {"externalUserId": "u1", "phone": "+4930901820"},
        {"externalUserId": "u1", "phone": "+4930901820"},
    ]
    for number, identity in enumerate(history):
        event = {"source": "pos", "externalEventId": f"o{min(number, 3)}", "eventType": "order"}
        body = json.dumps(event | {"identity": identity}).encode()
        # The contract is in force within a second.
        until(partial(_accepted, product, headers, body), "the contract is in force")
        # One after the other, so that they are stored in this order whatever partition they go to.
        until(partial(_stored, product, min(number, 3) + 1), "stored")
    found = product.json("profiles", "show", "JANE@example.com", "--tenant", "people")
    assert found["identifiers"] == [
        {"type": "EXTERNAL", "value": "u1"},
        {"type": "EMAIL", "value": "jane@example.com"},
        {"type": "PHONE", "value": "+4930901820"},
    ]
    [merge] = found["merges"]
    assert merge["into"] == found["profile_id"]
    assert merge["from"] != found["profile_id"]
    assert "EXTERNAL and PHONE" in merge["cause"]
    for name in ("u1", "+49 (30) 90-1820", merge["from"]):
        assert product.json("profiles", "show", name, "--tenant", "people") == found
    product.command("profiles", "show", "nobody", "--tenant", "people", code=66)


def _accepted(product: Product, headers: dict[str, str], body: bytes) -> bool:
    return product.ask("POST", "/v1/cdp/events", headers, body).status == 200


def _stored(product: Product, count: int) -> bool:
    found: dict[str, int] = product.json("events", "count", "--tenant", "people")
    return found == {"count": count}
