"""A webhook of each kind as its sender would use it: settings, secret, a body, and the headers that go with it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from daemon.events.signatures import SignedRequest
from daemon.events.webhooks import KINDS, Mapper, read_config

#: name → (settings, secret); custom has several ways.
WAYS: dict[str, tuple[dict[str, Any], str | None]] = {
    "stripe": ({"source_type": "stripe"}, "whsec_test"),
    "shopify": ({"source_type": "shopify"}, "shpss_test"),
    "hubspot": ({"source_type": "hubspot"}, "hs_secret"),
    "github": ({"source_type": "github"}, "It's a Secret to Everybody"),
    "standard-webhooks": ({"source_type": "standard-webhooks"}, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    "custom sha1": (
        {"source_type": "custom", "header": "X-Sig", "algorithm": "sha1", "prefix": "sha1="},
        "s1",
    ),
    "custom sha512": (
        {"source_type": "custom", "header": "X-Sig", "algorithm": "sha512", "encoding": "base64"},
        "s512",
    ),
    "custom secret": (
        {"source_type": "custom", "scheme": "shared-secret", "header": "Authorization", "prefix": "Bearer "},
        "hush",
    ),
    "custom none": ({"source_type": "custom", "scheme": "none"}, None),
}
assert {settings["source_type"] for settings, _ in WAYS.values()} == set(KINDS)

#: Those whose signature covers the body.
SIGNING = [name for name in WAYS if name not in {"custom secret", "custom none"}]
#: Those that sign a time: name → the header that holds it.
TIMED = {
    "stripe": "stripe-signature",
    "hubspot": "x-hubspot-request-timestamp",
    "standard-webhooks": "webhook-timestamp",
}
#: The header with the signature.
SIGNATURES = {
    "stripe": "stripe-signature",
    "shopify": "x-shopify-hmac-sha256",
    "hubspot": "x-hubspot-signature-v3",
    "github": "x-hub-signature-256",
    "standard-webhooks": "webhook-signature",
    "custom sha1": "x-sig",
    "custom sha512": "x-sig",
    "custom secret": "authorization",
}

#: What each kind sends, and the event's name in it.
BODIES: dict[str, tuple[Any, str]] = {
    "stripe": (
        {"id": "evt_1", "type": "charge.succeeded", "created": 1700000000,
         "data": {"object": {"id": "ch_1", "customer": "cus_1", "amount": 1999, "currency": "eur"}}},
        "charge.succeeded",
    ),
    "shopify": ({"id": 450789469, "customer": {"id": 207119551}, "total_price": "409.94"}, "orders/create"),
    "hubspot": (
        [{"eventId": 100, "subscriptionId": 1, "portalId": 2, "objectId": 3, "occurredAt": 1700000000000,
          "subscriptionType": "contact.creation"}],
        "contact.creation",
    ),
    "github": ({"action": "opened", "sender": {"login": "octocat"}, "issue": {"number": 7}}, "issues"),
    "standard-webhooks": ({"type": "invoice.paid", "data": {"amount": 5}}, "invoice.paid"),
    "custom": ({"event": "Lead Submitted", "messageId": "m-1", "userId": "u1"}, "Lead Submitted"),
}  # fmt: skip

#: What the kinds say in headers besides the signature.
HEADERS = {
    "shopify": {"x-shopify-topic": "orders/create", "x-shopify-webhook-id": "b54557e4"},
    "github": {"x-github-event": "issues", "x-github-delivery": "72d3162e"},
}


def body_of(name: str) -> bytes:
    """The body of one of WAYS."""
    return json.dumps(BODIES[name.partition(" ")[0]][0]).encode()


def event_name(name: str) -> str:
    """The name of the event in it."""
    return BODIES[name.partition(" ")[0]][1]


def signed(
    name: str,
    body: bytes,
    uri: str,
    *,
    now_s: float | None = None,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request of one of WAYS, signed by our own hand (the providers' libraries sign in their tests)."""
    settings, usual = WAYS[name]
    found = {
        "content-type": "application/json",
        **HEADERS.get(settings["source_type"], {}),
        **(headers or {}),
    }
    key = secret or usual
    if key is not None:
        scheme = Mapper(read_config(settings)).scheme
        now_ms = int((time.time() if now_s is None else now_s) * 1000)
        request = SignedRequest("POST", uri, {}, body)
        found |= scheme.sign(request, key.encode(), now_ms, "msg_1")
    return found
