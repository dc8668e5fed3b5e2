"""
Web sites of this machine for a browser's tests: pages, and a door that stands before the gateway.

The door passes everything on to the real gateway and writes down what went through. It can be told to do what
happens between a visitor and a gateway: to refuse, to break off, or to lose an answer.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

#: What a browser has to do with the answers of the door itself.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers hang up when they like."""


class _Local:
    """A server on a free port of loopback, in threads of its own. Use it in a `with`."""

    handler: type[BaseHTTPRequestHandler]

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), self.handler)
        self._server.owner = self
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # head and body go in two writes: the second would wait 40 ms for the first one's acknowledgement
    disable_nagle_algorithm = True


class _PageHandler(_Handler):
    server: _Server

    def do_GET(self) -> None:
        site: Site = self.server.owner
        html, headers = site.pages.get(urlsplit(self.path).path, (None, {}))
        body = (html or "nothing here").encode()
        self.send_response(200 if html is not None else 404)
        for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Site(_Local):
    """Pages by path."""

    handler = _PageHandler

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, tuple[str, Mapping[str, str]]] = {}


@dataclass
class Passed:
    """A request that came to the door, and how it was answered."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    answer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
    """
    What the door does with one event instead of passing it on.

    Answers with `status`, or breaks off where it is 0; `lost`: passes it on and breaks off when the answer comes.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    lost: bool = False


class _DoorHandler(_Handler):
    server: _Server

    def _pass(self) -> None:
        door: Door = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        passed = Passed(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        event = self.command == "POST"
        trouble = door.next_trouble() if event else None
        if event:
            door.gate.wait()
        with door.lock:
            door.passed.append(passed)
        if trouble is not None and not trouble.lost:
            passed.status = trouble.status
            if trouble.status:
                origin = self.headers.get("Origin", "")
                cors = [
                    ("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"),
                    ("Access-Control-Expose-Headers", "Retry-After"),
                ]  # fmt: skip
                self._answer(trouble.status, [*cors, *trouble.headers], b"{}")
            else:
                self.close_connection = True
            return
        onward = http.client.HTTPConnection("127.0.0.1", door.gateway_port, timeout=20)
        try:
            onward.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = onward.getresponse()
            data = answer.read()
        except OSError:
            passed.status = 502
            self.close_connection = True
            return
        finally:
            onward.close()
        passed.answer = {name.lower(): value for name, value in answer.getheaders()}
        passed.status = answer.status
        if trouble is not None:
            self.close_connection = True
            return
        self._answer(answer.status, [one for one in answer.getheaders() if one[0].lower() not in _HOP], data)

    do_GET = do_HEAD = do_POST = do_OPTIONS = _pass

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Door(_Local):
    """Before the gateway on `gateway_port`."""

    handler = _DoorHandler

    def __init__(self, gateway_port: int) -> None:
        super().__init__()
        self.gateway_port = gateway_port
        self.lock = threading.Lock()
        #: closed: events wait before the gateway
        self.gate = threading.Event()
        self.gate.set()
        self.passed: list[Passed] = []
        self._troubles: deque[Trouble] = deque()
        self._always: Trouble | None = None

    def trouble(self, *troubles: Trouble) -> None:
        """The next events get these, one each."""
        self._troubles.extend(troubles)

    def always(self, trouble: Trouble | None) -> None:
        """Every event gets this, until it is told None."""
        self._always = trouble

    def next_trouble(self) -> Trouble | None:
        """The trouble of the event that comes now."""
        with self.lock:
            return self._troubles.popleft() if self._troubles else self._always

    def events(self, about: str = "") -> list[Passed]:
        """The POSTs whose body holds `about`."""
        with self.lock:
            return [one for one in self.passed if one.method == "POST" and about.encode() in one.body]
