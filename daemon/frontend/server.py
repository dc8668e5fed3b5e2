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
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from granian._granian import CallbackScheduler, RSGIWorker, SocketHolder
from granian.constants import HTTPModes, Interfaces, TaskImpl
from granian.http import HTTP1Settings
from granian.server.embed import AsyncWorker, Server

from daemon.frontend.arrivals import arrivals_of

log = logging.getLogger(__name__)


# granian ships types that lag behind its code (its stub of SocketHolder has no constructor)
_Holder: Any = SocketHolder
_Server: Any = Server
_Base: Any = CallbackScheduler
_Worker: Any = RSGIWorker


class _Embedded(_Server):  # type: ignore[misc]
    """The embedded server on an inherited listening socket."""

    def __init__(self, target: Any, listen_fd: int, **options: Any) -> None:
        super().__init__(target, **options)
        self._listen_fd = listen_fd

    def _init_shared_socket(self) -> None:
        self._sfd = self._listen_fd
        self._shd = _Holder(self._sfd, False, self.backlog)  # noqa: FBT003  positional only
        self._ssp = None

    @staticmethod
    @AsyncWorker.wrap_target  # type: ignore[untyped-decorator]
    async def _spawn_rsgi_worker(
        worker_id: int,
        ending: Any,
        app: Any,
        sock: Any,
        loop: asyncio.AbstractEventLoop,
        runtime_threads: int,
        runtime_blocking_threads: int | None,
        blocking_threads: int,
        blocking_threads_idle_timeout: int,
        backpressure: int,
        _task_impl: Any,
        http_mode: Any,
        http1_settings: Any,
        http2_settings: Any,
        websockets: bool,
        static_path: Any,
        _log_access_fmt: Any,
        ssl_ctx: Any,
        _scope_opts: Any,
    ) -> None:
        """As granian has it, but for the scheduler."""
        over = loop.create_future()
        ending.add_cb(lambda: loop.call_soon_threadsafe(over.set_result, None))
        worker = _Worker(
            worker_id,
            sock,
            None,
            runtime_threads,
            runtime_blocking_threads,
            blocking_threads,
            blocking_threads_idle_timeout,
            backpressure,
            http_mode,
            http1_settings,
            http2_settings,
            websockets,
            static_path,
            *ssl_ctx,
            (None, None),
        )
        worker.serve_async(_Scheduler(loop, app, None, None, None), loop, ending)
        await over


#: Bodies of up to so many bytes are read before the loop hears of their request.
AHEAD_BYTES_MAX = 16 * 1024
#: Digits that such a length has at most.
_AHEAD_DIGITS = len(str(AHEAD_BYTES_MAX))
#: A body that takes longer than this comes while its request is in work, seconds.
AHEAD_S = 0.01


class _Scheduler(_Base):  # type: ignore[misc]
    """
    How granian's thread hands over requests: with their bodies, where these are small and come at once.

    Nearly all do, in the packet of the head. The loop then hears of a request once in place of twice. What the
    application's `begin` takes gets no task; the others get one, as granian gives to each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any, *_: None) -> None:
        super().__init__()
        self._app = app
        self._arrivals = arrivals_of(loop)
        #: requests whose bodies are on their way, by what reads these; `headers` costs a copy of them all, so once
        self._heads: dict[Any, tuple[Any, Any, float]] = {}
        self._watched = False
        self._watcher: asyncio.TimerHandle | None = None
        self._schedule_fn = self._schedule

    # --- in granian's thread

    def _schedule(self, watcher: Any) -> None:
        headers = watcher.scope.headers
        length = headers.get("content-length")
        if (
            length is None
            or len(length) > _AHEAD_DIGITS
            or not length.isdigit()
            or int(length) > AHEAD_BYTES_MAX
        ):
            self._arrivals.add(self._go, watcher)
            return
        reading = watcher.proto()
        self._heads[reading] = watcher, headers, perf_counter()
        # What reads the body tells us in this very thread: not before this returns.
        reading.add_done_callback(self._came)
        if not self._watched:
            self._watched = True
            self._arrivals.add(self._watch, None)

    # --- in the loop

    def _came(self, reading: Any) -> None:
        head = self._heads.pop(reading, None)
        if head is None:
            return  # it took too long, and is in work
        watcher, headers, began_s = head
        try:
            direct = self._app.begin(watcher.scope, headers, watcher.proto, reading, began_s)
        except Exception:
            log.exception("a request could not be begun; it gets a task")
            direct = False
        if not direct:
            self._work(watcher, _Ahead(watcher.proto, reading))

    def _go(self, watcher: Any) -> None:
        self._work(watcher, watcher.proto)

    def _work(self, watcher: Any, transport: Any) -> None:
        watcher.taskref(self._loop.create_task(self._answered(watcher, transport)))

    async def _answered(self, watcher: Any, transport: Any) -> None:
        try:
            await self._app.__rsgi__(watcher.scope, transport)
        except BaseException as error:  # noqa: BLE001  a cancellation, too, is granian's to know of
            watcher.err(error)
        else:
            watcher.done()

    def _watch(self, _arrived: None = None) -> None:
        """Let requests in whose bodies take their time; look again as long as there are any."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        # Before the look: who puts one in after it sees that nobody watches.
        self._watched = False
        late_s = perf_counter() - AHEAD_S
        for reading, (watcher, _, began_s) in list(self._heads.items()):
            if began_s > late_s:
                break
            del self._heads[reading]
            self._work(watcher, _Ahead(watcher.proto, reading))
        if self._heads:
            self._watched = True
            self._watcher = self._loop.call_later(AHEAD_S, self._watch)


class _Ahead:
    """A request's transport whose body is being read, or has been."""

    __slots__ = ("_proto", "_reading", "response_bytes", "response_empty")

    def __init__(self, proto: Any, reading: Any) -> None:
        self._proto = proto
        self._reading = reading
        self.response_bytes = proto.response_bytes
        self.response_empty = proto.response_empty

    def __call__(self) -> Any:
        return self._reading

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts()

    async def _parts(self) -> AsyncIterator[bytes]:
        yield await self._reading


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
            # one: requests and their bodies come in turns, see _Scheduler
            blocking_threads=1,
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
