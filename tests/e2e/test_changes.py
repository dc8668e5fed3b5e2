"""What an operator changes is in force over all frontends within a second."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Self

from tests.support.product import Product, Source, until
from tests.support.wire import Reply, Wire, request

#: contracts 0.1.10
IN_FORCE_S = 1.0
#: So many connections reach all of four frontends but once in 100,000 times.
CONNECTIONS = 48
ORIGIN = "https://shop.example.com"


class Everywhere:
    """Connections to every frontend, kept open."""

    def __init__(self, product: Product) -> None:
        self._stack = contextlib.ExitStack()
        self._wires = [self._stack.enter_context(Wire(product.ingest_port)) for _ in range(CONNECTIONS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def ask(self, data: bytes, method: str = "POST") -> list[Reply]:
        for wire in self._wires:
            wire.send(data)
        replies = [wire.reply(method) for wire in self._wires]
        assert None not in replies
        return [reply for reply in replies if reply is not None]

    def soon(self, data: bytes, right: Callable[[Reply], bool], method: str = "POST") -> None:
        """Every connection's answers become right within a second, and stay so."""
        began = time.monotonic()
        while not all(map(right, replies := self.ask(data, method))):
            assert time.monotonic() - began < IN_FORCE_S, [reply.status for reply in replies]
        assert all(map(right, self.ask(data, method)))


def page(source: Source, **headers: str) -> bytes:
    return request("POST", "/v1/p", {**source.headers, **headers}, b'{"type":"page"}')


def test_revoked_key(four: Product) -> None:
    source = four.create_source()
    with Everywhere(four) as everywhere:
        assert {reply.status for reply in everywhere.ask(page(source))} == {200}
        prefixes = [key["prefix"] for key in four.json("keys", "list") if key["source"] == source.id]
        [prefix] = [one for one in prefixes if source.pipeline_key.startswith(one)]
        four.command("keys", "revoke", prefix)
        everywhere.soon(page(source), lambda reply: reply.status == 401)


def test_disabled_source_and_enabled_again(four: Product) -> None:
    source = four.create_source()
    with Everywhere(four) as everywhere:
        assert {reply.status for reply in everywhere.ask(page(source))} == {200}
        four.command("sources", "disable", source.id)
        everywhere.soon(page(source), lambda reply: reply.status == 401)
        four.command("sources", "update", source.id, "--enable")
        everywhere.soon(page(source), lambda reply: reply.status == 200)


def test_changed_origins(four: Product) -> None:
    source = four.create_source()
    preflight = request("OPTIONS", "/v1/p", {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
    with Everywhere(four) as everywhere:
        assert {reply.status for reply in everywhere.ask(page(source, Origin=ORIGIN))} == {403}
        four.command("sources", "update", source.id, "--origin", ORIGIN)
        everywhere.soon(page(source, Origin=ORIGIN), lambda reply: reply.status == 200)
        everywhere.soon(
            preflight, lambda reply: reply.get("access-control-allow-origin") == ORIGIN, "OPTIONS"
        )
        four.command("sources", "update", source.id, "--origin", "https://other.example.com")
        everywhere.soon(page(source, Origin=ORIGIN), lambda reply: reply.status == 403)
        everywhere.soon(preflight, lambda reply: reply.get("access-control-allow-origin") is None, "OPTIONS")


def test_changed_rate(four: Product) -> None:
    source = four.create_source()
    with Everywhere(four) as everywhere:
        assert {reply.status for reply in everywhere.ask(page(source))} == {200}
        four.command("sources", "update", source.id, "--rate", "0.001", "--burst", "1")
        everywhere.soon(page(source), lambda reply: reply.status == 429)
        four.command("sources", "update", source.id, "--rate", "100000", "--burst", "100000")
        everywhere.soon(page(source), lambda reply: reply.status == 200)


def test_changed_cookie_domain(four: Product) -> None:
    source = four.create_source()
    with Everywhere(four) as everywhere:
        assert not any(
            "Domain" in one for reply in everywhere.ask(page(source)) for one in reply.get_all("set-cookie")
        )
        four.command("sources", "update", source.id, "--cookie-domain", "example.com")
        everywhere.soon(
            page(source),
            lambda reply: all("Domain=example.com" in one for one in reply.get_all("set-cookie")),
        )


def test_new_key_works_at_once(four: Product) -> None:
    with Everywhere(four) as everywhere:
        source = four.create_source()
        assert {reply.status for reply in everywhere.ask(page(source))} == {200}


def test_production_mode(four: Product) -> None:
    """Secure cookies, no localhost, no keys in what is printed, and credentials.json all the same."""
    source = four.create_source()
    reply = four.post("p", source, {"type": "page"})
    assert all("; Secure" in line for line in reply.get_all("set-cookie"))
    assert len(reply.cookies()) == 4
    assert four.post("p", source, {"type": "page"}, Origin="http://localhost:3000").status == 403
    assert four.demo.pipeline_key not in four.log
    assert (four.data / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_changes_arrive_although_redis_hangs(four: Product) -> None:
    """The announcement goes over Redis; without it the database itself is asked."""
    source = four.create_source()
    valkey = four.servers()["valkey"]
    with Everywhere(four) as everywhere:
        assert {reply.status for reply in everywhere.ask(page(source))} == {200}
        os.kill(valkey, signal.SIGSTOP)
        try:
            four.command("sources", "disable", source.id)
            everywhere.soon(page(source), lambda reply: reply.status == 401)
        finally:
            os.kill(valkey, signal.SIGCONT)
    until(lambda: set(four.metrics().values("headgate_store_up", role="frontend")) == {1.0}, "Redis is back")
