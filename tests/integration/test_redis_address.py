"""The ways to Redis: TCP with a password and a database, TLS, Unix sockets; and addresses that are refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemon.adapters.redis.address import parse_url
from daemon.adapters.redis.subscription import Subscription
from daemon.errors import SettingsError
from tests.servers.certificates import Certificates, make_certificates
from tests.support.stores import running_wire, settings_for, until


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def relay(redis_url: str, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A port on loopback that leads to Redis; with TLS, Redis behind a terminator."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(urlsplit(redis_url).path)
        pumps = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted transports close in the loop's next rounds


async def test_tcp_with_a_user_a_password_and_a_database(redis_url: str) -> None:
    async with running_wire(settings_for(redis_url)) as admin, relay(redis_url, None) as port:
        await admin.command("ACL", "SETUSER", "gate", "on", ">p@ss word", "~*", "&*", "+@all")
        try:
            async with running_wire(settings_for(f"redis://gate:p%40ss%20word@127.0.0.1:{port}/3")) as wire:
                assert wire.up
                await wire.command("SET", "where", "here")
            async with running_wire(settings_for(f"redis://gate:wrong@127.0.0.1:{port}/3")) as wire:
                assert not wire.up
            await admin.command("SELECT", 3)
            assert await admin.command("GET", "where") == b"here"
        finally:
            await admin.command("ACL", "DELUSER", "gate")


async def test_tls_checks_the_server(redis_url: str, certificates: Certificates) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificates.server_cert, certificates.server_key)
    async with relay(redis_url, server_side) as port:
        good = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.ca}"
        settings = settings_for(good)
        messages: list[bytes] = []
        subscription = Subscription(settings.redis, "news", messages.append, lambda: None)
        async with running_wire(settings) as wire:
            assert wire.up
            await subscription.start()
            await until(lambda: subscription.up)
            assert await wire.command("PUBLISH", "news", "x") == 1
            await until(lambda: messages == [b"x"])
            await subscription.stop()
        for bad in (
            f"rediss://127.0.0.1:{port}",
            f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.other_ca}",
        ):
            async with running_wire(settings_for(bad)) as wire:
                assert not wire.up
        async with running_wire(settings_for(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")) as wire:
            assert wire.up


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://localhost", "redis://, rediss:// or unix://"),
        ("localhost:6379", "redis://"),
        ("unix://", "path of a socket"),
        ("redis://h:port", "no URL"),
        ("redis://h/db", "database is a number"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "TLS file"),
    ],
)
def test_bad_addresses_are_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        parse_url(url)
    assert caught.value.key == "redis.url"


def test_an_address_never_shows_its_password(tmp_path: Path) -> None:
    address = parse_url("redis://user:hunter2@example.com:7000/5")
    assert (address.host, address.port, address.user, address.password, address.database) == (
        "example.com", 7000, "user", "hunter2", 5,
    )  # fmt: skip
    assert "hunter2" not in repr(address)
    assert parse_url(f"unix://{tmp_path}/x.sock?db=2").path == f"{tmp_path}/x.sock"
