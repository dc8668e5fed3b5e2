"""
granian as a server inside our own process, on a socket that the supervisor owns.

The only module that imports granian. `embed.Server` is marked experimental and takes no file
descriptor, so one method of it is overridden; tests/integration/test_server.py fails when a new
version changes what this relies on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, TaskImpl
from granian.http import HTTP1Settings
from granian.server.embed import Server

log = logging.getLogger(__name__)


# granian ships types that lag behind its code (its stub of SocketHolder has no constructor)
_Holder: Any = SocketHolder
_Server: Any = Server


class _Embedded(_Server):  # type: ignore[misc]
    """The embedded server on an inherited listening socket."""

    def __init__(self, target: Any, listen_fd: int, **options: Any) -> None:
        super().__init__(target, **options)
        self._listen_fd = listen_fd

    def _init_shared_socket(self) -> None:
        self._sfd = self._listen_fd
        self._shd = _Holder(self._sfd, False, self.backlog)  # noqa: FBT003  positional only
        self._ssp = None


#: File descriptors that are not connections: queues, stores, the event loop.
FILES_RESERVED = 64


def _affordable(connections_max: int) -> int:
    """
    No more connections than there are file descriptors for, at least 16.

    Without one accept() fails at once and granian tries again at once, for as long as that lasts. What counts is
    the hard limit: granian raises the soft one to it.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return connections_max
    return max(16, min(connections_max, hard - FILES_RESERVED))


class HttpServer:
    """Serves an RSGI application on `listen_fd` until it is stopped."""

    def __init__(
        self, app: Any, listen_fd: int, *, backlog: int, connections_max: int, head_timeout_s: float
    ) -> None:
        """
        `connections_max` is the budget of this process: granian holds a permit for a connection's whole life.

        The socket stays the supervisor's: this process works on a duplicate.
        """
        fd = os.dup(listen_fd)
        os.set_blocking(fd, False)
        self._server = _Embedded(
            app,
            fd,
            interface=Interfaces.RSGI,
            # HTTP/1 only and no websockets: both cost on every connection and nobody asks for them here
            http=HTTPModes.http1,
            websockets=False,
            # the `rust` implementation of tasks was measured worse than asyncio's
            task_impl=TaskImpl.asyncio,
            runtime_threads=1,
            backlog=backlog,
            backpressure=_affordable(connections_max),
            log_enabled=False,
            http1_settings=HTTP1Settings(
                header_read_timeout=math.ceil(head_timeout_s * 1000), max_buffer_size=64 * 1024
            ),
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept from now on."""
        self._serving = asyncio.create_task(self._server.serve())
        # one pass of the loop: serve() runs up to its first wait, by which time its worker is spawned
        while not self._server.wrks and not self._serving.done():  # noqa: ASYNC110  granian has no event for it
            await asyncio.sleep(0)
        if self._serving.done():
            self._serving.result()

    async def stop(self, limit_s: float) -> bool:
        """
        Accept no more, let open requests finish, close. True when all did within `limit_s` seconds.

        granian's own stop waits for every connection without end, hence the limit.
        """
        if self._serving is None:
            return True
        self._server.stop()
        _, unfinished = await asyncio.wait({self._serving}, timeout=limit_s)
        if unfinished:
            log.warning("connections were still busy after %.1f s and are cut", limit_s)
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        return not unfinished
