"""A request as each kind's sender would send it, for `headgate webhooks test`."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

import msgspec

from daemon.events.webhooks import Kind, WebhookConfig, effective


def sample_body(kind: Kind) -> bytes:
    """A body of the kind with fresh ids, so that it is no copy of an earlier one."""
    now_s = int(time.time())
    make = _BODIES[kind]
    return msgspec.json.encode(make(now_s, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))))


def sample_headers(config: WebhookConfig, delivery: str, topic: str | None) -> dict[str, str]:
    """What the sender says in headers besides its signature: the event's name and the delivery's id."""
    config = effective(config)
    headers = {"content-type": "application/json", "user-agent": "headgate webhooks test"}
    if config.message_id_header is not None:
        headers[config.message_id_header.lower()] = delivery
    if config.event_type_header is not None:
        headers[config.event_type_header.lower()] = topic or _TOPICS.get(config.source_type, "test")
    return headers


def delivery_id() -> str:
    """An id for one delivery."""
    return str(uuid.uuid4())


_TOPICS: dict[Kind, str] = {"shopify": "orders/paid", "github": "issues"}


def _stripe(now_s: int, now: str) -> Any:
    del now
    intent = {"id": f"pi_test_{secrets.token_hex(8)}", "object": "payment_intent", "amount": 1999, "currency": "eur",
              "customer": "cus_test", "metadata": {"order": "1001"}, "status": "succeeded"}  # fmt: skip
    return {"id": f"evt_test_{secrets.token_hex(12)}", "object": "event", "created": now_s, "livemode": False,
            "type": "payment_intent.succeeded", "data": {"object": intent}}  # fmt: skip


def _shopify(now_s: int, now: str) -> Any:
    item = {"id": 1, "product_id": 11, "title": "Sample", "quantity": 1, "price": "19.99"}
    return {"id": 820982911946154500 + now_s, "name": "#1001", "updated_at": now, "customer": {"id": 207119551},
            "currency": "EUR", "total_price": "19.99", "subtotal_price": "16.80", "total_tax": "3.19",
            "financial_status": "paid", "line_items": [item]}  # fmt: skip


def _hubspot(now_s: int, now: str) -> Any:
    del now
    event = {"eventId": secrets.randbelow(2**31), "subscriptionId": 12345, "portalId": 62515, "appId": 54321,
             "occurredAt": now_s * 1000, "subscriptionType": "contact.propertyChange", "attemptNumber": 0,
             "objectId": 123, "propertyName": "lifecyclestage", "propertyValue": "customer",
             "changeSource": "CRM_UI"}  # fmt: skip
    return [event]


def _github(now_s: int, now: str) -> Any:
    del now_s, now
    return {"action": "opened", "issue": {"number": 1, "title": "A sample"}, "sender": {"login": "octocat", "id": 1},
            "repository": {"id": 1, "full_name": "octocat/hello-world"}}  # fmt: skip


def _standard(now_s: int, now: str) -> Any:
    del now_s
    return {
        "type": "invoice.paid",
        "timestamp": now,
        "data": {"id": "inv_test", "amount": 19.99, "currency": "EUR"},
    }


def _custom(now_s: int, now: str) -> Any:
    del now_s
    return {
        "event": "Sample Sent",
        "messageId": delivery_id(),
        "userId": "u-sample",
        "timestamp": now,
        "amount": 19.99,
    }


_BODIES = {
    "stripe": _stripe,
    "shopify": _shopify,
    "hubspot": _hubspot,
    "github": _github,
    "standard-webhooks": _standard,
    "custom": _custom,
}
