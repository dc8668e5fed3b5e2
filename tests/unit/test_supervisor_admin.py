from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator

import pytest

from daemon.supervisor import admin as admin_module
from daemon.supervisor.admin import CONNECTIONS_MAX, Admin
from daemon.supervisor.reference import reference


class Told:
    """A daemon that says what the test set."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.text = b"headgate_ready 1.0\n"

    def unready(self) -> list[str]:
        return self.reasons

    def slots(self) -> dict[str, object]:
        return {"supervisor": 1, "slots": []}

    async def metrics(self) -> bytes:
        return self.text


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def port(told: Told) -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    admin = Admin(told, reference("http://127.0.0.1:8123"))
    await admin.start(sock)
    yield sock.getsockname()[1]
    await admin.stop()


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


async def get(
    port: int, path: str, method: str = "GET", headers: str = ""
) -> tuple[int, dict[str, str], bytes]:
    return await ask(port, f"{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())


async def test_readyz_tells_the_reasons(port: int, told: Told) -> None:
    status, headers, body = await get(port, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
    assert headers["content-type"] == "application/json"
    told.reasons = ["publisher/0 is BACKOFF"]
    status, _, body = await get(port, "/readyz?verbose=1")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["publisher/0 is BACKOFF"]})
    status, _, _ = await get(port, "/livez")
    assert status == 200


async def test_metrics_are_prometheus_text_and_packed_when_asked(port: int, told: Told) -> None:
    told.text *= 100
    status, headers, body = await get(port, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == told.text
    _, headers, body = await get(port, "/metrics", headers="Accept-Encoding: br, gzip\r\n")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == told.text


async def test_docs_are_one_page_for_this_instance_that_may_load_nothing_but_its_own_style(port: int) -> None:
    status, headers, body = await get(port, "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = body.decode()
    assert "URL=http://127.0.0.1:8123" in text
    assert "8080" not in text
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    [style] = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    # What would be fetched or run, besides what a reader clicks on.
    assert not re.search(
        r"<script|<img|<iframe|<link(?! rel=\"icon\" href=\"data:)|@import|url\(|\son\w+=| style=", text
    )
    _, headers, packed = await get(port, "/docs", headers="Accept-Encoding: gzip\r\n")
    assert gzip.decompress(packed) == body


async def test_head_has_the_length_but_no_body(port: int) -> None:
    status, headers, body = await get(port, "/slots", "HEAD")
    assert (status, int(headers["content-length"]) > 0, body) == (200, True, b"")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"POST /slots HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /slots\r\n\r\n", 400),
        (b"\x16\x03\x01 nonsense \xff\r\n\r\n", 400),
        (b"GET /slots HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
)
async def test_bad_requests_get_their_status(port: int, request_bytes: bytes, status: int) -> None:
    found, headers, _ = await ask(port, request_bytes)
    assert found == status
    if status == 405:
        assert headers["allow"] == "GET, HEAD"


async def test_a_head_that_never_ends_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "HEAD_TIMEOUT_S", 0.05)
    assert (await ask(port, b"GET /slots HTTP/1.1\r\n"))[0] == 408


async def test_connections_beyond_the_limit_are_closed(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, other in [*held, (reader, writer)]:
        other.close()
