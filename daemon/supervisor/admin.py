"""
The admin port: /livez, /readyz, /metrics, /slots and /docs, for load balancers, Prometheus and people.

A small HTTP/1.1 server on the standard library, in the supervisor's loop. It only tells; nothing can
be changed here (that is the control socket's, which only this user can open). One request per
connection; head, time and connections are bounded.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from daemon.supervisor.reference import Reference
from daemon.supervisor.scrape import CONTENT_TYPE

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8 * 1024
HEAD_TIMEOUT_S = 5.0
#: Also the time that a reader gets for a reply; /metrics is the long one, some 100 KiB.
REPLY_TIMEOUT_S = 10.0
LINGER_S = 1.0
CONNECTIONS_MAX = 64

_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


class Told(Protocol):
    """What the admin port tells, asked at each request."""

    def unready(self) -> list[str]:
        """Why a well-formed event can't get a 2xx now; empty: it can."""
        ...

    def slots(self) -> dict[str, object]:
        """The document of /slots."""
        ...

    async def metrics(self) -> bytes:
        """The exposition."""
        ...


class Reply(msgspec.Struct, frozen=True):
    """A reply before it is written."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()


class Admin:
    """The server."""

    def __init__(self, told: Told, reference: Reference) -> None:
        self._told = told
        self._reference = Reply(200, reference.body, "text/html; charset=utf-8", reference.headers)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._paths: dict[str, Callable[[], Awaitable[Reply]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/slots": self._slots,
            "/metrics": self._metrics,
            "/docs": self._docs,
        }

    async def start(self, sock: socket.socket) -> None:
        """Serve on `sock`, a listening socket."""
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=HEAD_BYTES_MAX)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: read a head, reply, close."""
        try:
            try:
                async with asyncio.timeout(HEAD_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                method, reply = await self._answer(head)
                packed = b"gzip" in _header(head, b"accept-encoding")
            except asyncio.LimitOverrunError:
                method, reply, packed = "GET", _problem(431, "the request's head is over 8 KiB"), False
            except TimeoutError:
                method, reply, packed = "GET", _problem(408, "the request's head took too long"), False
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                writer.write(_encode(reply, head_only=method == "HEAD", packed=packed))
                await writer.drain()
            await _linger(reader, writer)
        except (OSError, EOFError, TimeoutError):
            writer.transport.abort()
        except Exception:
            log.exception("the admin port could not answer")
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> tuple[str, Reply]:
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):
            return "GET", _problem(400, "that is no HTTP/1 request")
        method, target, _ = line
        action = self._paths.get(target.split("?", 1)[0])
        if action is None:
            return method, _problem(404, f"there are {', '.join(self._paths)}")
        if method not in {"GET", "HEAD"}:
            problem = _problem(405, "only GET and HEAD")
            return method, Reply(405, problem.body, headers=("Allow: GET, HEAD",))
        return method, await action()

    async def _livez(self) -> Reply:
        return Reply(200, b'{"live":true}')

    async def _readyz(self) -> Reply:
        reasons = self._told.unready()
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        return Reply(503 if reasons else 200, body)

    async def _slots(self) -> Reply:
        return Reply(200, msgspec.json.encode(self._told.slots()))

    async def _metrics(self) -> Reply:
        return Reply(200, await self._told.metrics(), CONTENT_TYPE)

    async def _docs(self) -> Reply:
        return self._reference


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a little of what is still coming: closing with unread bytes would reset the connection, reply and all."""
    try:
        async with asyncio.timeout(LINGER_S):
            writer.write_eof()
            for _ in range(16):
                if not await reader.read(HEAD_BYTES_MAX):
                    return
    except TimeoutError:
        return


def _problem(status: int, text: str) -> Reply:
    return Reply(status, msgspec.json.encode({"error": text}))


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.lower().split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip() == name:
            return value
    return b""


def _encode(reply: Reply, *, head_only: bool, packed: bool) -> bytes:
    body, extra = reply.body, list(reply.headers)
    if packed and len(body) > 1024:
        body = gzip.compress(body, compresslevel=1)
        extra.append("Content-Encoding: gzip")
    head = [
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Vary: Accept-Encoding",
        "Connection: close",
        *extra,
    ]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (b"" if head_only else body)
