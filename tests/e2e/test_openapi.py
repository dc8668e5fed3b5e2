"""The OpenAPI document and the product say the same: requests made from the document get the answers that it names."""

from __future__ import annotations

import copy
import gzip
import hashlib
import hmac
import json
import re
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import pytest
import requests
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error, response_schema_conformance
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    status_code_conformance,
)

from daemon.events.resultfly import SCOPES
from daemon.frontend.openapi import resultfly
from daemon.frontend.openapi.document import document, encoded
from tests.servers.tools import need
from tests.support.product import Product, Source, get, until
from tests.support.tracklayer import FIREFOX

#: Examples per operation, good ones and as many bad ones. Nothing is left to chance: every run sends the same.
EXAMPLES = 10

BOUNDED = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}

DOCUMENT = document()
SCHEMA: Any = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
#: Those that can be asked in a wrong way at all.
REFUSING = [one for one in OPERATIONS if "400" in one.definition.raw["responses"]]

ANY = [pytest.param(one, GenerationMode.POSITIVE, id=f"{one.label} as documented") for one in OPERATIONS]
ANY += [pytest.param(one, GenerationMode.NEGATIVE, id=f"{one.label} otherwise") for one in REFUSING]


class Caller:
    """Sends cases with the credentials of a source and one of its webhooks."""

    def __init__(self, product: Product, source: Source) -> None:
        self.source = source
        self.webhook = product.json("webhooks", "create", "--source", source.id, "--kind", "github")
        self.merchant = product.json("merchants", "create", "--name", "openapi", "--tenant", source.tenant)
        self.cdp_key = self._cdp_key(product, f"{source.tenant}-openapi")
        self._url = product.url
        self._session = requests.Session()

    def _cdp_key(self, product: Product, tenant: str) -> str:
        """A key of ResultFly that may do everything, of a tenant whose event types are in force."""
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        key = str(product.json("keys", "create", "--kind", "cdp", "--tenant", tenant, *scopes)["api_key"])
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        anything = {"properties": {}, "additionalProperties": "allow"}
        contracts = {
            "anything": anything,
            "cart_abandoned": anything,
            "purchase_completed": resultfly.CONTRACT,
        }
        for name, contract in contracts.items():
            put = product.ask("PUT", f"/v1/cdp/contracts/{name}", headers, json.dumps(contract).encode())
            assert put.status == 200, put

        def in_force() -> bool:
            event = {**resultfly.EVENT, "properties": None, "eventType": "anything", "source": "first"}
            sent = [
                product.ask("POST", "/v1/cdp/events", headers, json.dumps(event).encode()) for _ in range(8)
            ]
            return all(reply.status == 200 for reply in sent)

        until(in_force, "in force everywhere", 5.0)
        return key

    def send(self, case: Any) -> requests.Response:
        """Send it packed as it says, and signed or with the key as its operation asks."""
        case.headers = {
            name: text for name, text in case.headers.items() if name not in self._credentials(case, "header")
        }
        case.query = {
            name: text for name, text in case.query.items() if name not in self._credentials(case, "query")
        }
        if case.path == "/v1/webhook":
            case.query["source"] = self.webhook["id"]
        if _is_tracklayers(case.body):
            # an id that nobody has yet, of a merchant that there is
            case.body = {
                **case.body,
                "event_id": f"{uuid.uuid4()}{case.body['event_id']}"[:512],
                "merchant_id": self.merchant["merchant_id"],
            }
        if case.path.startswith("/v1/cdp/events"):
            # the document can't know which event types are registered; a body may be its own example
            case.body = copy.deepcopy(case.body)
            for event in [case.body, *_items(case.body)]:
                if isinstance(event, dict) and {"source", "eventType"} <= event.keys():
                    if isinstance(event["eventType"], str):
                        event["eventType"] = "anything"
                    if event["source"] == resultfly.EVENT["source"]:
                        event["source"] = "schemathesis"
        if case.method == "GET" and case.path.startswith("/v1/cdp/contracts/"):
            # nor which contracts there are
            case.path_parameters["eventType"] = "purchase_completed"
            case.query |= {"version": 1} if isinstance(case.query.get("version"), int) else {}
        if case.path == "/v1/browser/events":
            case.headers["User-Agent"] = FIREFOX
        request = requests.Request(**case.as_transport_kwargs(base_url=self._url))
        prepared: Any = self._session.prepare_request(request)
        body = prepared.body or b""
        pack = PACKED.get(prepared.headers.get("Content-Encoding", ""), bytes)
        body = pack(body.encode() if isinstance(body, str) else body)
        if prepared.body:
            prepared.prepare_body(body, None)
        prepared.headers.update(self._proof(case, body))
        return self._session.send(prepared, timeout=10)

    def _proof(self, case: Any, body: bytes) -> dict[str, str]:
        if case.path == "/v1/events" and _is_tracklayers(case.body):
            return {"Authorization": f"Bearer {self.merchant['api_key']}"}
        asked = {name for one in case.operation.definition.raw["security"] for name in one}
        if "X-Hub-Signature-256" in asked:
            digest = hmac.digest(self.webhook["secret"].encode(), body, hashlib.sha256).hex()
            return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "issues"}
        if "cdpKey" in asked:
            return {"Authorization": f"Bearer {self.cdp_key}"}
        if "signature" in asked:
            stamp = str(int(time.time() * 1000))
            signed = stamp.encode() + b"." + body
            digest = hmac.digest(self.source.secret_key.encode(), signed, hashlib.sha256).hex()
            named = {"X-Pipeline-Key": self.source.pipeline_key}
            return {"X-Signature": f"sha256={digest}", "X-Timestamp": stamp, **named}
        return {"Authorization": f"Bearer {self.source.pipeline_key}"} if asked else {}

    def _credentials(self, case: Any, place: str) -> set[str]:
        schemes = DOCUMENT["components"]["securitySchemes"].values()
        return {"Authorization"} | {one["name"] for one in schemes if one.get("in") == place}

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


def _items(body: Any) -> list[Any]:
    items = body.get("items") if isinstance(body, dict) else None
    return items if isinstance(items, list) else []


def _is_tracklayers(body: Any) -> bool:
    """Whether a body is one of TrackLayer's events: where two products share a path the credential goes with it."""
    return isinstance(body, dict) and all(
        isinstance(body.get(name), str) for name in ("event_id", "merchant_id")
    )


@pytest.fixture(scope="module")
def caller(product: Product, source: Source) -> Iterator[Caller]:
    made = Caller(product, source)
    yield made
    made.close()


@pytest.mark.parametrize(("operation", "mode"), ANY)
def test_requests_made_from_the_document(caller: Caller, operation: Any, mode: GenerationMode) -> None:
    # What the document calls right is taken; it says nothing of what is in a text or a webhook's body.
    right = mode is GenerationMode.POSITIVE and operation.path != "/v1/webhook"
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @BOUNDED
    def asked(case: Any) -> None:
        response = caller.send(case)
        statuses.add(response.status_code)
        plain = case.media_type in (None, "application/json")
        case.validate_response(
            response, checks=[*CHECKS, positive_data_acceptance] if right and plain else CHECKS
        )

    asked()
    wanted = {200, 202, 204} if mode is GenerationMode.POSITIVE else {400, 422}
    assert statuses & wanted, f"all were answered {statuses}: nothing of what is meant was tried"


def test_it_is_served_as_it_stands_in_the_docs(product: Product) -> None:
    status, body = get(f"{product.url}/openapi.json")
    assert (status, body) == (200, encoded())
    first = product.ask("HEAD", "/openapi.json")
    assert first.get("access-control-allow-origin") == "*"
    etag = first.get("etag")
    assert etag is not None
    assert product.ask("GET", "/openapi.json", {"If-None-Match": etag}).status == 304


def test_the_page_is_served_with_lines_for_this_instance(product: Product) -> None:
    status, body = get(f"{product.admin}/docs")
    assert status == 200
    assert f"URL={product.url}" in body.decode()
    assert f"{product.admin}/docs" in product.log


LINES = [
    (f"{method.upper()} {path}", sample["source"])
    for path, item in DOCUMENT["paths"].items()
    for method, one in item.items()
    for sample in one.get("x-codeSamples", [])
]


@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[name for name, _ in LINES])
def test_the_lines_to_try_do_what_they_say(product: Product, caller: Caller, line: str) -> None:
    for tool in ("curl", "openssl"):
        need(tool)
    variables = {
        "URL": product.url,
        "KEY": caller.source.pipeline_key,
        "SECRET": caller.source.secret_key,
        "WEBHOOK": caller.webhook["id"],
        "WEBHOOK_SECRET": caller.webhook["secret"],
        "TL_KEY": caller.merchant["api_key"],
        "MERCHANT": caller.merchant["merchant_id"],
        "CDP_KEY": caller.cdp_key,
    }
    done = subprocess.run(
        ["sh", "-eu", "-c", line],
        env={**product.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stdout.startswith("HTTP/"):
        assert re.match(r"HTTP/1.1 20[04] ", done.stdout)
        return
    told = json.loads(done.stdout)
    results = told.get("results", [told])
    assert told.get("success") is True or "contracts" in told or all(
        one.get("status") in ("accepted", "duplicate") or "version" in one for one in results
    ), done.stdout  # fmt: skip
