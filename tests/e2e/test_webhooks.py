"""Webhooks on the product as it is run: created, tried, rotated and disabled from the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from daemon.events.webhooks import KINDS
from tests.support.product import Product, Source, until
from tests.support.wire import Reply


def deliver(product: Product, webhook_id: str, secret: str, event: dict[str, Any]) -> Reply:
    """One request that Stripe's own library has signed."""
    body = json.dumps(event).encode()
    timestamp = int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{timestamp}.{body.decode()}", secret)
    headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={timestamp},v1={signature}"}
    return product.ask("POST", f"/v1/webhook?source={webhook_id}", headers, body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_sample_of_every_kind_arrives(product: Product, source: Source, kind: str) -> None:
    custom = ("--header", "X-Sig", "--algorithm", "sha512", "--encoding", "base64", "--prefix", "v1=")
    made = product.json(
        "webhooks", "create", "--source", source.id, "--kind", kind, *(custom if kind == "custom" else ())
    )
    first, second = (product.json("webhooks", "test", made["id"]) for _ in range(2))
    for trial in (first, second):
        assert (trial["status"], trial["answer"], trial["duplicate"]) == (200, {"success": True}, False)
        assert trial["durability"] == "local"
        envelope = trial["envelope"]
        assert (envelope["channel"], envelope["source"]) == ("webhook", source.id)
        assert envelope["event"]
        assert envelope["messageId"]
        assert envelope["properties"]
    assert first["envelope"]["id"] != second["envelope"]["id"]


def test_a_mapping_of_ones_own(product: Product, source: Source, tmp_path: Path) -> None:
    mapping, order = tmp_path / "mapping.json", tmp_path / "order.json"
    mapping.write_text(
        json.dumps(
            {
                "source_type": "shopify",
                "mappings": {"userId": "$.email", "properties.skus": "$.line_items[*].sku"},
                "event_names": {"orders/create": "Order Completed"},
            }
        )
    )
    order.write_text(json.dumps({"email": "a@b.example", "line_items": [{"sku": "A"}, {"sku": "B"}]}))
    made = product.json("webhooks", "create", "--source", source.id, "--mapping", str(mapping))
    trial = product.json("webhooks", "test", made["id"], "--event", str(order), "--topic", "orders/create")
    envelope = trial["envelope"]
    assert (envelope["event"], envelope["userId"]) == ("Order Completed", "a@b.example")
    assert envelope["properties"] == {"skus": ["A", "B"]}

    order.write_text(json.dumps({"email": {}}))
    done = product.command("webhooks", "test", made["id"], "--event", str(order), code=69)
    assert "userId ($.email) must be a string or an integer, not an object" in done.stdout


def test_rotation_and_disabling_are_in_force_within_a_second(product: Product, source: Source) -> None:
    made = product.json("webhooks", "create", "--source", source.id, "--kind", "stripe")
    number = iter(range(1000))

    def status(secret: str) -> int:
        event = {"id": f"evt_{made['id']}_{next(number)}", "type": "charge.succeeded"}
        return deliver(product, made["id"], secret, event).status

    assert status(made["secret"]) == 200
    rotated = product.json("webhooks", "rotate", made["id"])["secret"]
    until(lambda: status(rotated) == 200, "the new secret is good", 1.0)
    assert status(made["secret"]) == 200
    product.command("webhooks", "rotate", made["id"], "--overlap", "0", "--secret", "whsec_third")
    until(lambda: status(rotated) == 401 and status(made["secret"]) == 401, "the old ones are not", 1.0)
    assert status("whsec_third") == 200

    product.command("webhooks", "disable", made["id"])
    until(lambda: status("whsec_third") == 404, "disabled", 1.0)
    product.command("webhooks", "enable", made["id"])
    until(lambda: status("whsec_third") == 200, "enabled again", 1.0)


def test_a_replay_and_a_flipped_bit(product: Product, source: Source) -> None:
    made = product.json("webhooks", "create", "--source", source.id, "--kind", "stripe")
    event = {"id": f"evt_{made['id']}", "type": "charge.succeeded"}
    first, second = (deliver(product, made["id"], made["secret"], event) for _ in range(2))
    assert (first.status, first.get("x-headgate-durability")) == (200, "local")
    assert (second.status, second.get("x-headgate-duplicate")) == (200, "1")
    forged = deliver(product, made["id"], made["secret"] + "x", {**event, "id": "evt_forged"})
    assert (forged.status, forged.code) == (401, "INVALID_SIGNATURE")
    assert product.message_ids().count(event["id"]) == 1
    assert "evt_forged" not in product.message_ids()
    product.at_rest()
