"""
Every way into the gateway, as a table: how a request for some ids is made, and which of them its answer acknowledges.

A new endpoint gets a line in `inputs_of`. Each id goes where the gateway takes the caller's own one, so that it stands
as `messageId` in the envelope whatever the way in was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.support.product import Product
from tests.support.wire import request

#: A browser that is no robot, where that is looked at.
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
#: Bytes that make an event as large as a usual one.
FILLER = "x" * 300
EVENT_TYPE = "chaos_seen"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the callers have it: names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Build = Callable[[Sequence[str]], bytes]
#: Of the ids of a request, those that the answer calls durable (accepted now, or a duplicate of what is).
Durable = Callable[[Sequence[str], Answer], list[str]]


@dataclass(frozen=True, slots=True)
class Input:
    """One way in. `build` is called again for each attempt, as signatures hold the time."""

    name: str
    build: Build
    durable: Durable
    ids: int = 1
    weight: float = 1.0


def inputs_of(product: Product) -> list[Input]:
    """The table for an instance, with its demo keys and a webhook made for this."""
    keys = product.credentials()
    source = product.demo
    bearer = {"Authorization": f"Bearer {source.pipeline_key}", "Content-Type": "application/json"}
    basic = {"Authorization": _basic(source.pipeline_key), "Content-Type": "application/json"}
    hook = product.json("webhooks", "create", "--source", source.id, "--kind", "custom", "--secret", "chaos",
                        "--header", "X-Sig", "--algorithm", "sha256", "--encoding", "hex")  # fmt: skip
    cdp, merchant = keys["cdp_keys"][0], keys["merchants"][0]
    register(product, cdp["tenant"])
    api = {"Authorization": f"Bearer {cdp['api_key']}", "Content-Type": "application/json"}
    tl = {"Authorization": f"Bearer {merchant['api_key']}", "Content-Type": "application/json"}

    def signed(ids: Sequence[str]) -> bytes:
        body = _event(ids[0], "track", event="Seen", userId="user-1")
        now = str(int(time.time() * 1000))
        digest = hmac.digest(source.secret_key.encode(), now.encode() + b"." + body, hashlib.sha256).hex()
        headers = {
            "X-Pipeline-Key": source.pipeline_key,
            "X-Timestamp": now,
            "X-Signature": f"sha256={digest}",
        }
        return request("POST", "/v1/events", {**headers, "Content-Type": "application/json"}, body)

    def webhook(ids: Sequence[str]) -> bytes:
        body = json.dumps(
            {"event": "Lead Submitted", "messageId": ids[0], "userId": "u1", "f": FILLER}
        ).encode()
        digest = hmac.digest(b"chaos", body, hashlib.sha256).hex()
        headers = {"X-Sig": digest, "Content-Type": "application/json"}
        return request("POST", f"/v1/webhook?source={hook['id']}", headers, body)

    def pixel(ids: Sequence[str]) -> bytes:
        asked = {"wk": source.pipeline_key, "e": "Email Opened", "mid": ids[0], "p.filler": FILLER}
        return request("GET", f"/v1/pixel/track?{urlencode(asked)}", {})

    def batch(ids: Sequence[str]) -> bytes:
        items = [json.loads(_event(one, "track", event="Seen", anonymousId="a-1")) for one in ids]
        return request("POST", "/v1/batch", basic, json.dumps({"batch": items}).encode())

    def cdp_event(one: str) -> dict[str, Any]:
        identity = {"externalUserId": f"user-{one[-2:]}"}
        return {"source": "chaos", "externalEventId": one, "eventType": EVENT_TYPE, "identity": identity,
                "properties": {"filler": FILLER}}  # fmt: skip

    def tracked(one: str) -> dict[str, Any]:
        return {"event_id": one, "event_name": "purchase", "event_time": int(time.time()), "value": 1.5,
                "currency": "EUR", "merchant_id": merchant["merchant_id"]}  # fmt: skip

    def post(path: str, headers: dict[str, str], make: Callable[[str], Any]) -> Build:
        return lambda ids: request("POST", path, headers, _json(make(ids[0])))

    return [
        *(
            Input(f"browser /v1/{letter}", post(f"/v1/{letter}", bearer, _browser(letter)), _whole, weight=weight)
            for letter, weight in (("t", 6), ("p", 3), ("i", 1), ("g", 1))
        ),
        Input("signed server", signed, _whole, weight=3),
        Input("batch", batch, _batch, ids=10, weight=1),
        *(
            Input(f"segment /v1/{kind}", post(f"/v1/{kind}", basic, _segment(kind)), _whole, weight=0.5)
            for kind in ("track", "page", "identify", "group", "screen", "alias")
        ),
        Input("pixel", pixel, _whole, weight=2),
        Input("webhook", webhook, _whole, weight=2),
        Input("cdp event", post("/v1/cdp/events", api, cdp_event), _whole, weight=3),
        Input(
            "cdp batch",
            lambda ids: request("POST", "/v1/cdp/events/batch", api, _json({"items": list(map(cdp_event, ids))})),
            _cdp_batch,
            ids=10,
            weight=1,
        ),
        Input("tracklayer server", post("/v1/events", tl, tracked), _tracklayer, weight=3),
        Input(
            "tracklayer browser",
            post("/v1/browser/events", {"User-Agent": FIREFOX, "Content-Type": "application/json"}, tracked),
            _tracklayer,
            weight=2,
        ),
    ]  # fmt: skip


def register(product: Product, tenant: str) -> None:
    """The contract of the event type that the CDP's events have."""
    path = product.folder / "chaos-contracts.json"
    path.write_text(json.dumps({EVENT_TYPE: {"properties": {"filler": {"type": "string"}}}}))
    product.command("contracts", "apply", str(path), "--tenant", tenant)


def _whole(ids: Sequence[str], answer: Answer) -> list[str]:
    return list(ids) if answer.status == 200 else []


def _tracklayer(ids: Sequence[str], answer: Answer) -> list[str]:
    # 409: a copy of one that is durable, whose answer was lost on its way.
    return list(ids) if answer.status in (202, 409) else []


def _batch(ids: Sequence[str], answer: Answer) -> list[str]:
    if answer.status != 200:
        return []
    failed = {error["index"] for error in json.loads(answer.body).get("errors", ())}
    return [one for number, one in enumerate(ids) if number not in failed]


def _cdp_batch(ids: Sequence[str], answer: Answer) -> list[str]:
    if answer.status != 200:
        return []
    results = json.loads(answer.body)["results"]
    return [
        one for one, result in zip(ids, results, strict=True) if result["status"] in ("accepted", "duplicate")
    ]


def _browser(letter: str) -> Callable[[str], dict[str, Any]]:
    types = {"t": "track", "p": "page", "i": "identify", "g": "group"}
    return lambda one: json.loads(_event(one, types[letter]))


def _segment(kind: str) -> Callable[[str], dict[str, Any]]:
    return lambda one: json.loads(_event(one, kind))


def _event(one: str, kind: str, **more: str) -> bytes:
    needed = {
        "track": {"event": "Seen"},
        "identify": {"userId": "user-1"},
        "group": {"groupId": "group-1", "userId": "user-1"},
        "alias": {"userId": "user-1", "previousId": "user-0"},
    }.get(kind, {})
    made = {"type": kind, "messageId": one, "anonymousId": f"visitor-{one[-2:]}", **needed, **more}
    return _json({**made, "properties": {"filler": FILLER}})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _basic(key: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()
