"""The demo pages' server: a few files and one stream, on loopback, for this machine's browser."""

from __future__ import annotations

import asyncio
import contextlib
import html
import socket
import sys
from pathlib import Path
from typing import Any

from daemon.cli.demoing.follow import Follower
from daemon.cli.output import paint, print_json
from daemon.cli.welcome import demo_merchant, demo_source
from daemon.config.address import reachable
from daemon.config.schema import Settings
from daemon.errors import NotFound, Unavailable

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("page")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/feed.js": ("feed.js", "text/javascript; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
    "/pixel": ("pixel.html", "text/html; charset=utf-8"),
    "/pixel-demo.js": ("pixel-demo.js", "text/javascript; charset=utf-8"),
}
STREAM = "/log"

HEAD_BYTES_MAX = 8 * 1024
HEAD_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 64
KEEP_ALIVE_S = 15.0
PROBE_TIMEOUT_S = 3.0

_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


async def serve(settings: Settings, port: int, *, as_json: bool) -> None:
    """
    Serve the page until cancelled; `port` 0 takes a free one.

    Raises Unavailable when no instance answers or the port is taken, NotFound when there is no demo source.
    """
    server = settings.server
    gateway_host = reachable(server.host)
    gateway = f"http://{gateway_host}:{server.ingest_port}"
    await _probe(gateway_host.strip("[]"), server.ingest_port, gateway)
    credentials = Path(settings.data_dir) / "credentials.json"
    source = demo_source(credentials)
    if source is None:
        raise NotFound(
            f"{credentials} names no source, or can't be read; is {settings.data_dir} its data folder?"
        )
    merchant = demo_merchant(credentials)
    if merchant is None:
        raise NotFound(f"{credentials} names no merchant; start the instance again, which makes one")
    follower = Follower(settings, frozenset((str(source["id"]), str(merchant["merchant_id"]))))
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise Unavailable(f"port {port} of {HOST} can't be used: {error.strerror or error}") from None
    demo = Demo(listener.getsockname()[1], gateway, source, merchant, settings, follower)
    following = asyncio.create_task(follower.run())
    serving = await asyncio.start_server(demo.accept, sock=listener, limit=HEAD_BYTES_MAX)
    try:
        _announce(demo.url, gateway, source, settings, as_json=as_json)
        await following
    finally:
        following.cancel()
        serving.close()
        await demo.stop()


def _announce(url: str, gateway: str, source: dict[str, Any], settings: Settings, *, as_json: bool) -> None:
    if as_json:
        print_json({"url": url, "pixel": f"{url}pixel", "gateway": gateway, "source": source["id"]})
        sys.stdout.flush()
        return
    lines = [
        "",
        f"  {paint('demo page', '2')}   {paint(url, '1')}",
        f"  {paint('pixel', '2')}       {paint(url + 'pixel', '1')}",
        f"  {paint('gateway', '2')}     {gateway}",
        f"  {paint('source', '2')}      {source['id']}",
    ]
    if not settings.development:
        lines += [
            "",
            "  In production mode a page may send only if its origin is listed:",
            f"    headgate sources update {source['id']} --origin {url.rstrip('/')}",
        ]
    lines += ["", f"  {paint('Ctrl-C ends it', '2')}", ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


async def _probe(host: str, port: int, gateway: str) -> None:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        raise Unavailable(f"nobody answers at {gateway}; start the instance with: headgate run") from None
    writer.close()


class Demo:
    """Answers the page's browser."""

    def __init__(
        self,
        port: int,
        gateway: str,
        source: dict[str, Any],
        merchant: dict[str, Any],
        settings: Settings,
        follower: Follower,
    ) -> None:
        self.url = f"http://{HOST}:{port}/"
        # A page of another site that had its name point here would have another Host: the stream is not for it.
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        self._follower = follower
        self._connections: set[asyncio.Task[None]] = set()
        words = {
            "gateway": gateway,
            "key": str(source["pipeline_key"]),
            "source": str(source["id"]),
            "merchant": str(merchant["merchant_id"]),
            "mode": settings.mode,
        }
        self._files = {path: self._file(name, kind, words) for path, (name, kind) in FILES.items()}
        policy = (
            f"default-src 'none'; script-src 'self' {gateway}; connect-src 'self' {gateway}; style-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )
        self._headers = [
            f"Content-Security-Policy: {policy}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: strict-origin-when-cross-origin",
            "Connection: close",
        ]

    def _file(self, name: str, kind: str, words: dict[str, str]) -> tuple[str, bytes]:
        text = (PAGE / name).read_text(encoding="utf-8")
        if name.endswith(".html"):
            for word, value in words.items():
                text = text.replace("{{" + word + "}}", html.escape(value))
        return kind, text.encode()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection: one request, one answer."""
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def stop(self) -> None:
        """End every connection."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            method, _, rest = line.partition(" ")
            path = rest.split(" ")[0].split("?")[0]
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (one.partition(":") for one in lines)
            }
            if headers.get("host") not in self._hosts:
                await self._reply(
                    writer, 403, "text/plain; charset=utf-8", b"this page is for this machine's browser\n"
                )
            elif method != "GET":
                await self._reply(writer, 405, "text/plain; charset=utf-8", b"only GET\n", "Allow: GET")
            elif path == STREAM:
                await self._stream(reader, writer)
            elif path in self._files:
                await self._reply(writer, 200, *self._files[path])
            else:
                await self._reply(writer, 404, "text/plain; charset=utf-8", b"there is nothing here\n")
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _reply(
        self, writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, *more: str
    ) -> None:
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
        ]
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            writer.write("\r\n".join([*lines, *self._headers, *more, "", ""]).encode() + body)
            await writer.drain()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Server-sent events until the browser leaves; it comes back by itself."""
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", *self._headers, "", ""]
        writer.write("\r\n".join(lines).encode() + b"retry: 1000\n\n")
        queue = self._follower.subscribe()
        left = asyncio.create_task(reader.read())
        try:
            while not left.done():
                message: bytes | None = b": still here\n\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        message = await queue.get()
                if message is None:
                    return
                writer.write(message)
                async with asyncio.timeout(REPLY_TIMEOUT_S):
                    await writer.drain()
        finally:
            left.cancel()
            self._follower.unsubscribe(queue)
