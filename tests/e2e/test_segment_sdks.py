"""SDKs made for Segment, as they come from their registries, deliver to Headgate: a host and a key are all they are given."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from segment.analytics.client import Client

from daemon.events.envelope import derived_id
from tests.servers.node import SOURCES, run
from tests.support.product import Product, Source

Json = dict[str, Any]

#: When everything happened, as the application says.
HAPPENED = datetime(2026, 2, 25, 14, 30, 0, 250_000, tzinfo=UTC)

PAGE = {"url": "https://www.example.com/p/1?gclid=Cj0KC", "title": "Shoe"}

#: Events in a test of many: more than one batch of either SDK.
MANY = 250


@pytest.fixture
def fresh(product: Product) -> Source:
    """A source of the test's own: what is on the log of it, the test has sent."""
    return product.create_source()


def expected(source: Source, message_id: str, kind: str, library: Json, members: Json) -> Json:
    """The envelope of an event that an SDK sent, but for its times."""
    context = {"library": library, **members.pop("context", {})}
    return {
        "id": derived_id("datafly", source.tenant, source.id, message_id),
        "schema": 1,
        "contract": "datafly",
        "channel": "batch",
        "tenant": source.tenant,
        "source": source.id,
        "type": kind,
        "messageId": message_id,
        "context": context,
        **members,
    }


def received(product: Product, source: Source) -> list[Json]:
    """The source's envelopes; their times are checked and taken out."""
    found = product.tail("--since", "10m", "--source", source.id)
    for one in found:
        timestamp, came, sent = (
            datetime.fromisoformat(one.pop(name)) for name in ("timestamp", "receivedAt", "sentAt")
        )
        # By the error of the sender's clock: contracts 0.2.23. All three are rounded to milliseconds.
        assert abs((timestamp - HAPPENED) - (came - sent)).total_seconds() <= 0.002
    return found


def same(found: list[Json], wanted: list[Json]) -> None:
    """Each once, in whatever order the SDK's requests came in."""
    assert Counter(one["messageId"] for one in found) == Counter(one["messageId"] for one in wanted)
    assert {one["messageId"]: one for one in found} == {one["messageId"]: one for one in wanted}


def ids(*kinds: str) -> dict[str, str]:
    """A messageId for each."""
    return {kind: f"{kind}-{uuid.uuid4()}" for kind in kinds}


KINDS = ("track", "page", "identify", "group", "screen", "alias")


class Python:
    """The SDK for Python, packing its bodies."""

    def __init__(self, product: Product, source: Source) -> None:
        self.errors: list[Any] = []
        self.client = Client(
            source.pipeline_key,
            host=product.url,
            gzip=True,
            max_retries=0,
            on_error=lambda error, items: self.errors.append((error, items)),
        )

    def end(self) -> None:
        """Send all that is left; nothing may have failed."""
        self.client.flush()
        self.client.join()
        assert self.errors == []


def python_library() -> Json:
    from segment.analytics.version import VERSION

    return {"name": "analytics-python", "version": VERSION}


def test_python_every_call(product: Product, fresh: Source) -> None:
    mid = ids(*KINDS)
    sdk = Python(product, fresh)
    at = {"timestamp": HAPPENED}
    visitor = str(uuid.uuid4())
    sdk.client.track(
        "user_1", "Order Completed", {"total": 129.99, "currency": "GBP", "items": [{"sku": "Ä-1"}]},
        {"page": PAGE, "locale": "en-GB"}, anonymous_id=visitor, message_id=mid["track"], **at,
    )  # fmt: skip
    sdk.client.page("user_1", None, "Product", PAGE, message_id=mid["page"], **at)
    sdk.client.identify("user_1", {"email": "jane@example.com"}, message_id=mid["identify"], **at)
    sdk.client.group("user_1", "company_1", {"name": "Acme", "size": 7}, message_id=mid["group"], **at)
    sdk.client.screen("user_1", None, "Cart", {"items": 3}, message_id=mid["screen"], **at)
    sdk.client.alias("previous_1", "user_1", message_id=mid["alias"], **at)
    sdk.end()

    def envelope(kind: str, **members: Any) -> Json:
        return expected(fresh, mid[kind], kind, python_library(), members)

    properties = {"total": 129.99, "currency": "GBP", "items": [{"sku": "Ä-1"}]}
    seen = {"page": PAGE, "locale": "en-GB", "clickIds": {"gclid": "Cj0KC"}}
    same(
        received(product, fresh),
        [
            envelope(
                "track",
                event="Order Completed",
                userId="user_1",
                anonymousId=visitor,
                properties=properties,
                context=seen,
            ),
            envelope("page", name="Product", userId="user_1", properties=PAGE),
            envelope("identify", userId="user_1", traits={"email": "jane@example.com"}),
            envelope("group", userId="user_1", groupId="company_1", traits={"name": "Acme", "size": 7}),
            envelope("screen", name="Cart", userId="user_1", properties={"items": 3}),
            envelope("alias", userId="user_1", previousId="previous_1", anonymousId="previous_1"),
        ],
    )


def test_python_many_once_each(product: Product, fresh: Source) -> None:
    sdk = Python(product, fresh)
    wanted = [f"many-{uuid.uuid4()}" for _ in range(MANY)]
    for number, message_id in enumerate(wanted):
        sdk.client.track(
            f"user_{number % 7}", "Seen", {"n": number}, message_id=message_id, timestamp=HAPPENED
        )
    sdk.end()
    once_each(received(product, fresh), wanted)


def once_each(found: list[Json], wanted: list[str]) -> None:
    assert Counter(one["messageId"] for one in found) == Counter(wanted)
    assert {one["messageId"]: one["properties"] for one in found} == {
        message_id: {"n": number} for number, message_id in enumerate(wanted)
    }


#: The SDK for Node by its major version: the older one puts its key into the body, the newer one into a header.
NODE = pytest.mark.parametrize("sdk", ["segment-2", "segment-3"])


def node_send(product: Product, source: Source, sdk: str, calls: list[tuple[str, Mapping[str, Any]]]) -> None:
    told = {"sdk": sdk, "host": product.url, "writeKey": source.pipeline_key, "flushAt": 15, "calls": calls}
    assert run("send.mjs", told) == {"errors": []}


def node_library(sdk: str) -> Json:
    pins = json.loads((SOURCES / "package-lock.json").read_text("utf-8"))
    version = pins["packages"][f"node_modules/{sdk}"]["version"]
    return {"name": "@segment/analytics-node", "version": version}


@NODE
def test_node_every_call(product: Product, fresh: Source, sdk: str) -> None:
    mid = ids(*KINDS)
    visitor = str(uuid.uuid4())
    stamp = HAPPENED.isoformat()
    properties = {"total": 129.99, "items": [{"sku": "Ä-1"}]}
    user = {"userId": "user_1", "timestamp": stamp}
    node_send(
        product,
        fresh,
        sdk,
        [
            ("track", {**user, "messageId": mid["track"], "anonymousId": visitor, "event": "Order Completed",
                       "properties": properties, "context": {"page": PAGE, "locale": "en-GB"}}),
            ("page", {**user, "messageId": mid["page"], "name": "Product", "properties": PAGE}),
            ("identify", {**user, "messageId": mid["identify"], "traits": {"email": "jane@example.com"}}),
            ("group", {**user, "messageId": mid["group"], "groupId": "company_1", "traits": {"name": "Acme"}}),
            ("screen", {**user, "messageId": mid["screen"], "name": "Cart", "properties": {"items": 3}}),
            ("alias", {**user, "messageId": mid["alias"], "previousId": "previous_1"}),
        ],
    )  # fmt: skip

    def envelope(kind: str, **members: Any) -> Json:
        return expected(fresh, mid[kind], kind, node_library(sdk), {"userId": "user_1", **members})

    seen = {"page": PAGE, "locale": "en-GB", "clickIds": {"gclid": "Cj0KC"}}
    same(
        received(product, fresh),
        [
            envelope(
                "track", event="Order Completed", anonymousId=visitor, properties=properties, context=seen
            ),
            envelope("page", name="Product", properties=PAGE),
            envelope("identify", traits={"email": "jane@example.com"}),
            envelope("group", groupId="company_1", traits={"name": "Acme"}),
            envelope("screen", name="Cart", properties={"items": 3}),
            envelope("alias", previousId="previous_1", anonymousId="previous_1"),
        ],
    )


@NODE
def test_node_many_once_each(product: Product, fresh: Source, sdk: str) -> None:
    wanted = [f"many-{uuid.uuid4()}" for _ in range(MANY)]
    node_send(
        product,
        fresh,
        sdk,
        [
            ("track", {"userId": f"user_{number % 7}", "event": "Seen", "properties": {"n": number},
                       "messageId": message_id, "timestamp": HAPPENED.isoformat()})
            for number, message_id in enumerate(wanted)
        ],
    )  # fmt: skip
    once_each(received(product, fresh), wanted)


def test_the_pins_of_npm_are_hashes_and_name_no_registry() -> None:
    pins = json.loads((SOURCES / "package-lock.json").read_text("utf-8"))
    packages = {name: one for name, one in pins["packages"].items() if name}
    assert packages
    for name, one in packages.items():
        assert one["integrity"].startswith("sha512-"), name
        assert "resolved" not in one, name
    assert '"registry' not in json.dumps(pins)
