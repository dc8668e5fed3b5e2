"""Where Redis is: `redis://`, `rediss://` and `unix://` taken apart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from daemon.errors import SettingsError

_KEY = "redis.url"

P = TypeVar("P", bound=asyncio.Protocol)


class Address(Struct, frozen=True):
    """
    A Redis server. `path` is that of a unix socket (then `host` is empty), `tls` None for plain text.

    The names in the query are redis-py's: `db`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
    `ssl_cert_reqs=none`, `ssl_check_hostname=false`, so that one URL means the same to both clients.
    """

    host: str
    port: int
    path: str
    user: str
    password: str
    database: int
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        """Where, never with which password."""
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """The place, for logs and messages."""
        return self.path or f"{self.host}:{self.port}"


def parse_url(url: str) -> Address:
    """The parts of `url`. Raises SettingsError for one that is none of redis://, rediss:// or unix://."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{_KEY} is no URL: {error}", _KEY) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    path = unquote(parts.path)
    if parts.scheme == "unix":
        if not path:
            raise SettingsError(f"{_KEY}: unix:// needs the path of a socket", _KEY)
        database, host, socket_path = query.get("db", "0"), "", path
    elif parts.scheme in {"redis", "rediss"}:
        database, host, socket_path = (
            query.get("db") or path.strip("/") or "0",
            parts.hostname or "localhost",
            "",
        )
    else:
        raise SettingsError(f"{_KEY} begins with redis://, rediss:// or unix://, not {parts.scheme!r}", _KEY)
    if not database.isdigit():
        raise SettingsError(f"{_KEY}: the database is a number, not {database!r}", _KEY)
    return Address(
        host=host,
        port=port or 6379,
        path=socket_path,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=int(database),
        tls=_tls(query) if parts.scheme == "rediss" else None,
    )


async def connect(address: Address, factory: Callable[[], P], timeout_s: float) -> P:
    """Open a connection. Raises OSError; `timeout_s` is for TLS alone, put the whole under a limit of its own."""
    loop = asyncio.get_running_loop()
    if address.path:
        return (await loop.create_unix_connection(factory, address.path))[1]
    if address.tls is None:
        return (await loop.create_connection(factory, address.host, address.port))[1]
    _, protocol = await loop.create_connection(
        factory,
        address.host,
        address.port,
        ssl=address.tls,
        server_hostname=address.host,
        ssl_handshake_timeout=timeout_s,
    )
    return protocol


def greeting(address: Address) -> list[tuple[str | int, ...]]:
    """The commands that a new connection begins with."""
    commands: list[tuple[str | int, ...]] = []
    if address.password:
        commands.append(
            ("AUTH", address.user, address.password) if address.user else ("AUTH", address.password)
        )
    if address.database:
        commands.append(("SELECT", address.database))
    commands.append(("CLIENT", "SETNAME", "headgate"))
    return commands


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if authorities := query.get("ssl_ca_certs"):
            context.load_verify_locations(authorities)
        if certificate := query.get("ssl_certfile"):
            context.load_cert_chain(certificate, query.get("ssl_keyfile"))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{_KEY}: a TLS file can't be used: {error}", _KEY) from None
    if query.get("ssl_check_hostname", "true").lower() in {"false", "0", "no"}:
        context.check_hostname = False
    if query.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
