"""Contracts over HTTP, with the stores in memory (contracts 0.3.28)."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from daemon.events.contract.definition import CONTRACT_BYTES_MAX, PROPERTIES_MAX
from daemon.events.resultfly import CONTRACTS_READ, CONTRACTS_WRITE, EVENTS_WRITE, SCOPES
from daemon.frontend.resultfly import management
from tests.support.cdp import PURCHASE, TYPE, purchase
from tests.support.contracts import cdp_key
from tests.support.front import Front

CONTRACTS = "/v1/cdp/contracts"
KEY = "cdp_live_key"
ORDER = {"properties": {"order_id": {"type": "string", "required": True}}}
STORED = {
    "eventType": TYPE,
    "version": 1,
    "properties": {"order_id": {"type": "string", "required": True}},
    "additionalProperties": "reject",
}


@pytest.fixture
def cdp(front: Front) -> Front:
    front.keys.api_keys[KEY] = cdp_key(1, *SCOPES)
    front.keys.api_keys["cdp_live_reader"] = cdp_key(2, CONTRACTS_READ)
    front.keys.api_keys["cdp_live_writer"] = cdp_key(3, CONTRACTS_WRITE)
    front.keys.api_keys["cdp_live_events"] = cdp_key(4, EVENTS_WRITE)
    front.keys.api_keys["cdp_live_other"] = cdp_key(5, *SCOPES, tenant="other")
    return front


async def ask(
    front: Front, method: str, event_type: str | None = None, body: Any = None, key: str = KEY, query: str = "",
    **headers: str,
) -> httpx.Response:  # fmt: skip
    """A request about contracts; `event_type` goes into the path, percent-encoded."""
    path = (
        CONTRACTS if event_type is None else f"{CONTRACTS}/{quote(event_type, safe='').replace('.', '%2E')}"
    )
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {"authorization": f"Bearer {key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body is not None:
        sent.setdefault("content-type", "application/json")
    url = f"http://127.0.0.1:{front.port}{path}{query}"
    return await front.client.request(method, url, content=content, headers=sent)


def shown(reply: httpx.Response) -> dict[str, Any]:
    """A stored contract without its times."""
    document: dict[str, Any] = reply.json()
    return {name: value for name, value in document.items() if name not in ("createdAt", "endedAt")}


async def test_put_get_list_delete(cdp: Front) -> None:
    put = await ask(cdp, "PUT", TYPE, ORDER)
    assert (put.status_code, shown(put)) == (200, STORED)
    assert put.json()["createdAt"].endswith("Z")
    got = await ask(cdp, "GET", TYPE)
    assert (got.status_code, got.json(), got.headers["content-type"]) == (200, put.json(), "application/json")
    same = await ask(cdp, "PUT", TYPE, {**ORDER, "additionalProperties": "reject"})
    assert same.json() == put.json(), "nothing changed"
    changed = await ask(cdp, "PUT", TYPE, {**ORDER, "additionalProperties": "allow"})
    assert shown(changed) == {**STORED, "version": 2, "additionalProperties": "allow"}
    assert shown(await ask(cdp, "PUT", "refund", {"properties": {}})) == {
        "eventType": "refund", "version": 1, "properties": {}, "additionalProperties": "reject",
    }  # fmt: skip
    listed = await ask(cdp, "GET")
    assert listed.status_code == 200
    assert [(one["eventType"], one["version"]) for one in listed.json()["contracts"]] == [
        (TYPE, 2),
        ("refund", 1),
    ]
    old = await ask(cdp, "GET", TYPE, query="?version=1")
    assert shown(old) == STORED
    assert "endedAt" in old.json()
    gone = await ask(cdp, "DELETE", TYPE)
    assert (gone.status_code, gone.content) == (204, b"")
    for method in ("GET", "DELETE"):
        reply = await ask(cdp, method, TYPE)
        assert (reply.status_code, reply.json()["error_code"]) == (404, "not_found")
    assert (await ask(cdp, "GET", TYPE, query="?version=2")).status_code == 200
    assert shown(await ask(cdp, "PUT", TYPE, ORDER))["version"] == 3
    # another tenant's are its own
    assert (await ask(cdp, "GET", key="cdp_live_other")).json() == {"contracts": []}
    assert (await ask(cdp, "GET", TYPE, key="cdp_live_other")).status_code == 404


async def test_what_is_put_rules(cdp: Front) -> None:
    assert (await cdp.post("/v1/cdp/events", purchase(), KEY)).json()["error_code"] == "unknown_event_type"
    await ask(cdp, "PUT", TYPE, PURCHASE)
    assert (await cdp.post("/v1/cdp/events", purchase(), KEY)).json()["status"] == "accepted"
    await ask(cdp, "PUT", TYPE, ORDER)
    reply = await cdp.post("/v1/cdp/events", purchase("order-2"), KEY)
    assert "properties.amount is not a property of purchase_completed" in reply.json()["message"]
    await ask(cdp, "DELETE", TYPE)
    assert (await cdp.post("/v1/cdp/events", purchase("o"), KEY)).json()["error_code"] == "unknown_event_type"


@pytest.mark.parametrize(
    "event_type",
    ["a b", "a/b", "/", "ä", "名前", "%2F", "100%", "a?b", "a#b", "..", "../x", ".", "a.b", '"', "\\", "a\nb", "__class__",
     "x" * 200, "+", "é" * 200, "events"],
)  # fmt: skip
async def test_any_event_type(cdp: Front, event_type: str) -> None:
    put = await ask(cdp, "PUT", event_type, ORDER)
    assert (put.status_code, put.json().get("eventType")) == (200, event_type)
    assert (await ask(cdp, "GET", event_type)).json() == put.json()
    event = purchase(eventType=event_type, properties={"order_id": "x"})
    assert (await cdp.post("/v1/cdp/events", event, KEY)).json()["status"] == "accepted"
    assert (await ask(cdp, "DELETE", event_type)).status_code == 204


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "eventType must not be empty"),
        ("%20", "eventType must not be empty"),
        ("x" * 201, "eventType is longer than 200 characters"),
        ("a%00b", "eventType must not hold a NUL character"),
        ("%ff", "eventType is not UTF-8, or holds the replacement character U+FFFD"),
    ],
)
async def test_event_types_that_are_none(cdp: Front, path: str, message: str) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    url = f"{CONTRACTS}/{path}"
    reply = await cdp.client.put(url, content=json.dumps(ORDER), headers=headers)
    assert (reply.status_code, reply.json()["error_code"], reply.json()["message"]) == (
        422,
        "validation_failed",
        message,
    )
    for method in ("GET", "DELETE"):
        reply = await cdp.client.request(method, url, headers=headers)
        assert (reply.status_code, reply.json()["error_code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"null", "the contract must be an object, not null"),
        (b"[]", "the contract must be an object, not an array"),
        (b'"x"', "the contract must be an object, not a string"),
        (b"1", "the contract must be an object, not a number"),
        (b"{}", "properties is required; {} is an event type without any"),
        (b'{"properties":null}', "properties must be an object of names and types, not null"),
        (b'{"properties":["order_id"]}', "properties must be an object of names and types, not an array"),
        (b'{"properties":{},"required":["a"]}', "required is not known here; known are properties and additionalProperties"),
        (b'{"properties":{},"additionalProperties":false}', 'additionalProperties must be "reject" or "allow"'),
        (b'{"properties":{},"additionalProperties":null}', 'additionalProperties must be "reject" or "allow"'),
        (b'{"properties":{},"additionalProperties":["allow"]}', 'additionalProperties must be "reject" or "allow"'),
        (b'{"properties":{"a":"string"}}', 'properties.a must be an object such as {"type":"string"}, not a string'),
        (b'{"properties":{"a":null}}', 'properties.a must be an object such as {"type":"string"}, not null'),
        (b'{"properties":{"a":{}}}',
         "properties.a.type is required: one of string, number, integer, boolean, datetime, object, array"),
        (b'{"properties":{"a":{"type":"text"}}}',
         "properties.a.type must be one of string, number, integer, boolean, datetime, object, array"),
        (b'{"properties":{"a":{"type":["string","null"]}}}',
         "properties.a.type must be one of string, number, integer, boolean, datetime, object, array"),
        (b'{"properties":{"a":{"type":null}}}',
         "properties.a.type must be one of string, number, integer, boolean, datetime, object, array"),
        (b'{"properties":{"a":{"type":"string","required":1}}}', "properties.a.required must be true or false"),
        (b'{"properties":{"a":{"type":"string","required":null}}}', "properties.a.required must be true or false"),
        (b'{"properties":{"a":{"type":"string","requierd":true}}}',
         "properties.a.requierd is not known here; known are type and required"),
        (b'{"properties":{"":{"type":7}}}',
         'properties[""].type must be one of string, number, integer, boolean, datetime, object, array'),
        (b'{"properties":{"%b":{"type":"string"}}}' % (b"x" * 201),
         f"properties.{'x' * 200}… has a name of over 200 characters"),
        (json.dumps({"properties": {f"a{n}": {"type": "string"} for n in range(PROPERTIES_MAX + 1)}}).encode(),
         "properties holds 501 properties; at most 500 are taken"),
        (b'{"properties":{"a":' + b'{"a":' * 300 + b"1" + b"}" * 302, "the body is nested deeper than 256 levels"),
    ],
)  # fmt: skip
async def test_bad_contracts(cdp: Front, body: bytes, message: str) -> None:
    reply = await ask(cdp, "PUT", TYPE, body)
    wanted = {"status": "error", "error_code": "validation_failed", "message": message}
    assert (reply.status_code, reply.json()) == (422, wanted)
    assert not cdp.contracts.versions


async def test_the_largest_contract(cdp: Front) -> None:
    names = [f"{'名' * 190}{number}" for number in range(PROPERTIES_MAX)]
    contract = {"properties": {name[:200]: {"type": "integer", "required": True} for name in names}}
    assert (await ask(cdp, "PUT", TYPE, json.dumps(contract).encode())).status_code == 413
    packed = json.dumps({"properties": {name[:100] + name[190:]: {"type": "integer"} for name in names}},
                        ensure_ascii=False, separators=(",", ":")).encode()  # fmt: skip
    assert len(packed) < CONTRACT_BYTES_MAX
    assert (await ask(cdp, "PUT", TYPE, packed)).status_code == 200
    event = purchase(properties={name[:100] + name[190:]: 7 for name in names})
    assert (await cdp.post("/v1/cdp/events", event, KEY)).json()["status"] == "accepted"


async def test_json_schema(cdp: Front) -> None:
    await ask(cdp, "PUT", TYPE, PURCHASE)
    schema = await ask(cdp, "GET", TYPE, query="?format=json-schema")
    assert schema.status_code == 200
    assert schema.headers["content-type"] == "application/schema+json"
    assert schema.json() == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TYPE,
        "type": "object",
        "properties": {
            "order_id": {"type": "string"},
            "amount": {"type": "number"},
            "currency": {"type": ["string", "null"]},
            "store_id": {"type": ["string", "null"]},
            "items": {"type": ["array", "null"]},
            "count": {"type": ["integer", "null"]},
            "gift": {"type": ["boolean", "null"]},
            "shipped_at": {"type": ["string", "null"], "format": "date-time"},
            "address": {"type": ["object", "null"]},
        },
        "required": ["order_id", "amount"],
        "additionalProperties": False,
    }
    asked = await ask(cdp, "GET", TYPE, accept="application/schema+json, application/json;q=0.5")
    assert asked.content == schema.content
    # what the address says decides
    plain = await ask(cdp, "GET", TYPE, query="?format=json", accept="application/schema+json")
    assert plain.json()["version"] == 1
    await ask(cdp, "PUT", TYPE, {"properties": {}, "additionalProperties": "allow"})
    newer = await ask(cdp, "GET", TYPE, query="?format=json-schema")
    assert (newer.json()["properties"], newer.json()["additionalProperties"]) == ({}, True)
    assert (await ask(cdp, "GET", TYPE, query="?version=1&format=json-schema")).json() == schema.json()


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("?version=0", 422, "version must be a whole number from 1 on"),
        ("?version=-1", 422, "version must be a whole number from 1 on"),
        ("?version=1.0", 422, "version must be a whole number from 1 on"),
        ("?version=latest", 422, "version must be a whole number from 1 on"),
        ("?version=%D9%A1", 422, "version must be a whole number from 1 on"),
        ("?version=" + "9" * 30, 422, "version must be a whole number from 1 on"),
        ("?version=2", 404, f"there is no contract for the event type '{TYPE}' in version 2"),
        ("?format=xml", 422, "format must be json or json-schema"),
    ],
)
async def test_bad_queries(cdp: Front, query: str, status: int, message: str) -> None:
    await ask(cdp, "PUT", TYPE, PURCHASE)
    reply = await ask(cdp, "GET", TYPE, query=query)
    assert (reply.status_code, reply.json()["message"]) == (status, message)


async def test_scopes(cdp: Front) -> None:
    needed = {"GET": CONTRACTS_READ, "PUT": CONTRACTS_WRITE, "DELETE": CONTRACTS_WRITE}
    holds = {
        "cdp_live_reader": CONTRACTS_READ,
        "cdp_live_writer": CONTRACTS_WRITE,
        "cdp_live_events": EVENTS_WRITE,
    }
    for key, scope in holds.items():
        for method, wanted in needed.items():
            reply = await ask(cdp, method, TYPE, ORDER if method == "PUT" else None, key)
            if scope == wanted:
                assert reply.status_code in {200, 204, 404}
            else:
                assert reply.status_code == 403
                assert (reply.json()["error_code"], reply.json()["message"]) == (
                    "forbidden",
                    f"this key lacks the scope {wanted}",
                )
    assert (await ask(cdp, "GET", key="cdp_live_events")).status_code == 403
    for key in ("cdp_live_unknown", "dk_live_key", "tl_live_key"):
        for type_ in (None, TYPE):
            reply = await ask(cdp, "GET", type_, key=key)
            assert (reply.status_code, reply.json()["error_code"]) == (401, "invalid_api_key")


async def test_the_frame(cdp: Front) -> None:
    for type_, allow in ((None, "GET"), (TYPE, "GET, PUT, DELETE")):
        for method in ("POST", "PATCH", "OPTIONS", "HEAD"):
            reply = await ask(cdp, method, type_)
            assert (reply.status_code, reply.headers["allow"]) == (405, allow)
    assert (await ask(cdp, "PUT", TYPE, b"{")).json()["error_code"] == "malformed_json"
    assert (await ask(cdp, "PUT", TYPE, b"")).json()["error_code"] == "malformed_json"
    assert (await ask(cdp, "PUT", TYPE, ORDER, content_type="text/html")).status_code == 415
    assert (await ask(cdp, "PUT", TYPE, ORDER, content_encoding="lzma")).status_code == 415
    assert (await ask(cdp, "PUT", TYPE, b" " * (CONTRACT_BYTES_MAX + 1))).status_code == 413
    assert (await ask(cdp, "PUT", TYPE, ORDER, content_encoding="gzip")).json()[
        "error_code"
    ] == "malformed_json"
    cdp.limiter.waits = [4.2]
    reply = await ask(cdp, "PUT", TYPE, ORDER)
    assert (reply.status_code, reply.json()["error_code"], reply.headers["retry-after"]) == (
        429,
        "rate_limited",
        "5",
    )
    cdp.contracts.full = True
    reply = await ask(cdp, "PUT", TYPE, ORDER)
    assert (reply.status_code, reply.json()["error_code"]) == (422, "validation_failed")
    assert "at most 1000 event types" in reply.json()["message"]
    cdp.contracts.away = True
    for method, type_ in (("GET", None), ("GET", TYPE), ("PUT", TYPE), ("DELETE", TYPE)):
        reply = await ask(cdp, method, type_, ORDER if method == "PUT" else None)
        assert (reply.status_code, reply.json()["error_code"], reply.headers["retry-after"]) == (
            503,
            "unavailable",
            "3",
        )
        assert reply.headers["x-request-id"]


async def test_they_are_no_events(cdp: Front) -> None:
    for method, type_ in (("GET", None), ("GET", TYPE), ("PUT", TYPE), ("DELETE", TYPE)):
        await ask(cdp, method, type_, ORDER if method == "PUT" else None)
    await ask(cdp, "GET", key="cdp_live_unknown")
    assert cdp.metrics.received.total() == 0
    assert cdp.metrics.other_requests.at("contracts").n == 5


async def test_few_are_in_work_at_a_time(cdp: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for PostgreSQL; events must not stand behind them."""
    monkeypatch.setattr(management, "REQUESTS_MAX", 2)
    held = asyncio.Event()

    async def slow(tenant: str) -> list[Any]:
        del tenant
        await held.wait()
        return []

    monkeypatch.setattr(cdp.contracts, "in_force", slow)
    waiting = [asyncio.create_task(ask(cdp, "GET")) for _ in range(2)]
    while cdp.metrics.other_requests.at("contracts").n < 2:
        await asyncio.sleep(0.005)
    reply = await ask(cdp, "GET")
    assert (reply.status_code, reply.json()["error_code"]) == (503, "unavailable")
    held.set()
    assert [one.status_code for one in await asyncio.gather(*waiting)] == [200, 200]
    assert (await ask(cdp, "GET")).status_code == 200
