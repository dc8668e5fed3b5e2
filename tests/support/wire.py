"""HTTP/1.1 by hand over a plain socket: what is sent is exactly the bytes given, what comes back is all that came."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

#: An answer that takes longer than this has gone wrong.
PATIENCE_S = 30.0

_STATUS_LINE = b"HTTP/1.1 "


@dataclass(frozen=True)
class Reply:
    """One answer. Header names are lower case, in the order they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def get_all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code in the body; empty where there is none."""
        try:
            return str(self.json()["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""

    def cookies(self) -> dict[str, str]:
        """The cookies that it sets: name → value."""
        pairs = (line.split(";", 1)[0].partition("=") for line in self.get_all("set-cookie"))
        return {name: value for name, _, value in pairs}


class Wire:
    """One connection to 127.0.0.1. Use it in a `with`."""

    def __init__(self, port: int, *, timeout_s: float = PATIENCE_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout_s = timeout_s
        self._came = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes; that the other side has closed already is no error, the answer is what counts."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def reset(self) -> None:
        """End the connection at once, as a process that crashes does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def line(self) -> bytes:
        """The next line, as it came; empty when the connection was closed instead."""
        return self._until(b"\r\n") or b""

    def end(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reply(self, method: str = "POST") -> Reply | None:
        """The next answer (interim ones left out); None when the connection was closed instead."""
        # What is left of an interim answer of which `line` took the first line.
        while self._came[:2] == b"\r\n":
            self._take(2)
        while True:
            head = self._until(b"\r\n\r\n")
            if head is None:
                return None
            line, *lines = head[:-4].decode("latin-1").split("\r\n")
            status = int(line.split(" ")[1])
            if status >= 200:
                break
        headers = tuple(
            (name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in lines)
        )
        found = dict(headers)
        if method == "HEAD" or status in (204, 304):
            return Reply(status, headers, b"")
        if "chunked" in found.get("transfer-encoding", ""):
            return Reply(status, headers, self._chunks())
        if "content-length" in found:
            return Reply(status, headers, self._exactly(int(found["content-length"])))
        return Reply(status, headers, self.rest())

    def statuses(self, count: int) -> list[bytes]:
        """The status codes of the next `count` answers, of which nothing else is looked at."""
        while self._came.count(_STATUS_LINE) < count or not self._came.endswith(b"}"):
            assert self._more(), f"closed after {self._came.count(_STATUS_LINE)} of {count} answers"
        lines = bytes(self._came).split(_STATUS_LINE)[1:]
        self._came.clear()
        return [line[:3] for line in lines]

    def rest(self) -> bytes:
        """All that comes until the other side closes; fails when it does not."""
        while self._more():
            pass
        rest = bytes(self._came)
        self._came.clear()
        return rest

    def closed(self) -> bool:
        """Whether the other side closes without a further byte, as long as one may wait for that."""
        return self.rest() == b""

    def quiet(self, for_s: float) -> bool:
        """Whether nothing comes, and nobody closes, for so long."""
        if self._came:
            return False
        self._socket.settimeout(for_s)
        try:
            self._came += self._socket.recv(65536)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        finally:
            self._socket.settimeout(self._timeout_s)
        return False

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            return False
        self._came += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes | None:
        while (at := self._came.find(mark)) < 0:
            if not self._more():
                return None
        return self._take(at + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._came) < size:
            assert self._more(), "the connection was closed in the middle of a body"
        return self._take(size)

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            line = self._until(b"\r\n")
            assert line is not None, "the connection was closed in the middle of a body"
            size = int(line.split(b";")[0], 16)
            parts.append(self._exactly(size + 2)[:-2])
            if not size:
                return b"".join(parts)

    def _take(self, size: int) -> bytes:
        data = bytes(self._came[:size])
        del self._came[:size]
        return data


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", *, length: bool = True
) -> bytes:
    """The bytes of a request, with Host and (unless `length` is False) Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: t.example.com"]
    if length and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refuses(port: int, within_s: float) -> bool:
    """Whether connections to 127.0.0.1:`port` are refused, or answered with 503 or a close, before so long."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            with Wire(port, timeout_s=2.0) as wire:
                wire.send(request("GET", "/health"))
                answer = wire.reply("GET")
        except OSError:
            return True
        if answer is None or answer.status == 503:
            return True
        time.sleep(0.02)
    return False
