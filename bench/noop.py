"""
The least that a server built on granian can do: read the body, answer 200 `{"success":true}`.

    python -m bench.noop            (prints its address as JSON, ends on SIGTERM)

It is the unit that Headgate's CPU per request is compared with: one process, one event loop, the settings
that Headgate's frontends use, and no work at all.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import Any

import uvloop
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, TaskImpl
from granian.server.embed import Server

BODY = b'{"success":true}'
HEADERS = [("content-type", "application/json")]

#: Connections at once: granian holds a permit for the life of each.
CONNECTIONS_MAX = 4096

# granian's types lag behind its code.
_Holder: Any = SocketHolder
_Server: Any = Server


class Noop:
    """The application."""

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        await protocol()
        protocol.response_bytes(200, HEADERS, BODY)


class _Listening(_Server):  # type: ignore[misc]
    """granian on a socket of ours, so that the port is known before it starts."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        super().__init__(Noop(), **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._sfd = self._listener.fileno()
        self._shd = _Holder(self._sfd, False, self.backlog)  # noqa: FBT003  positional only
        self._ssp = None


async def serve(listener: socket.socket) -> None:
    """Answer on `listener` until SIGTERM or SIGINT."""
    server = _Listening(
        listener,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        task_impl=TaskImpl.asyncio,
        runtime_threads=1,
        backlog=1024,
        backpressure=CONNECTIONS_MAX,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


def main() -> None:
    """Listen on a free port, say which, and serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)  # noqa: FBT003  positional only
    port = listener.getsockname()[1]
    print(json.dumps({"noop": f"http://127.0.0.1:{port}"}), flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener))


if __name__ == "__main__":
    main()
