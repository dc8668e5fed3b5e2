"""
The harness of every child process: what `python -m workers.<role>` runs inside.

    def main() -> None:
        run_child(work)

    async def work(ctx: ChildContext) -> None:
        thing = await Thing.start(ctx.settings, ctx.listen_fd)
        ctx.instruments.add(*thing.metrics.instruments())
        ctx.health = lambda: Beat(thing.depth, thing.serving, thing.reasons)
        ctx.ready("kafka")
        limit_s = await ctx.drain_requested()
        await thing.stop(limit_s)

A child obeys its control channel and nothing else: INT, TERM and HUP are for the supervisor, which a
terminal or `kill` may send to the whole group. When the channel ends, the supervisor is gone: the child
drains and exits.

Every second the loop sends a Beat with the metrics beside it, so a process that is killed takes at
most a second of its counts with it. Because the beat comes from the loop that does the work, a loop
that hangs is seen, and the supervisor ends it. With no supervisor left there are two more nets: a
thread that waits for nothing but the end of the channel, and below it, in case the whole interpreter
hangs, a kernel timer (ALRM) that each beat winds up.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec
import uvloop
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.registry import Collector, CollectorRegistry

from daemon.actors.control import CHILD_NAME, CONTROL_FD, Channel, open_child_end
from daemon.actors.messages import (
    Beat,
    Drain,
    Drained,
    Failed,
    Family,
    Metrics,
    Ready,
    Scrape,
    SetLog,
    Setup,
    Stop,
    ToChild,
)
from daemon.actors.snapshot import families, merged
from daemon.config.schema import Settings
from daemon.errors import HeadgateError
from daemon.observe import logs
from daemon.observe.metrics import Instruments
from daemon.observe.process import ProcessMetrics
from daemon.roles import EMBEDDED

log = logging.getLogger(__name__)

BEAT_S = 1.0
#: The supervisor sends Setup at once; a child that hears nothing for so long was started by nobody.
SETUP_TIMEOUT_S = 30.0
#: The kernel's timer is the last net: it is this many times as patient as the supervisor, so that it never
#: ends a process that was merely paused for a while with everything else.
TIMER_PATIENCE = 3
#: What a cancelled `main` gets to close its files and end its own servers.
STOP_GRACE_S = 1.5
#: Interpreter shutdown: threads of libraries have been told to end, and are waited for no longer than this.
EXIT_GRACE_S = 2.0
FLUSH_LIMIT_S = 1.0


class ChildContext:
    """What a worker gets from the supervisor, and what it says to it."""

    def __init__(self, setup: Setup, settings: Settings, send: Callable[[Ready | Drained], None]) -> None:
        self.role = setup.role
        self.slot = setup.slot
        self.settings = settings
        #: Inherited listening socket of this slot; -1: none. It is the slot's, not ours: never shut it down.
        self.listen_fd = setup.listen_fd
        #: Unix sockets of the publishers, by slot.
        self.queue_paths = tuple(setup.queue_paths)
        #: Role → number of slots.
        self.counts = dict(setup.counts)
        #: Metrics of this process; add instruments to it.
        self.instruments = Instruments()
        #: Asked each second, from the loop. Must be quick.
        self.health: Callable[[], Beat] = lambda: Beat(0, True, [])  # noqa: FBT003  a struct's fields
        self._send = send
        self._drain = asyncio.Event()
        self._drain_limit_s = settings.server.drain_limit_s
        self._is_drained = False
        #: Whether `ready` was said.
        self.is_ready = False

    def ready(self, note: str = "") -> None:
        """Say that the work is done from now on; `note` goes to the log (`kafka`, `local`, …)."""
        if not self.is_ready:
            self.is_ready = True
            self._send(Ready(note))

    async def drain_requested(self) -> float:
        """Wait until nothing new is to be taken; give the seconds in which all that was accepted is to end."""
        await self._drain.wait()
        return self._drain_limit_s

    @property
    def draining(self) -> bool:
        """Whether nothing new is to be taken."""
        return self._drain.is_set()

    def drained(self) -> None:
        """Say that all that was accepted is finished. Returning from `main` after a drain says it too."""
        if not self._is_drained:
            self._is_drained = True
            self._send(Drained())

    def request_drain(self, limit_s: float) -> None:
        """For the harness: begin to drain."""
        if not self._drain.is_set():
            self._drain_limit_s = limit_s
            self._drain.set()


Main = Callable[[ChildContext], Awaitable[None]]


def run_child(
    main: Main, make_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> NoReturn:
    """
    Run `main` as a child of the supervisor, in a loop of `make_loop`'s, then end the process.

    Exit codes: 0 after a drain or a stop, that of a HeadgateError that `main` raised (78: bad settings,
    not tried again), 70 for any other end.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN: what is ignored stays ignored in the servers that a child may start.
        signal.signal(number, _ignore)
    _arm(SETUP_TIMEOUT_S)
    named = os.environ.pop(CONTROL_FD, "")
    if not named.isdigit():
        sys.stderr.write(f"{sys.argv[0]}: this is a part of Headgate; start it with: headgate run\n")
        os._exit(64)
    control = socket.socket(fileno=int(named))
    control.set_inheritable(False)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        code = runner.run(_live(main, control))
        _arm(EXIT_GRACE_S)
    # Not sys.exit: a thread that some library forgot must not hold the process, nor its exit code, back.
    logging.shutdown()
    os._exit(code)


async def _live(main: Main, control: socket.socket) -> int:
    return await _Harness(main).run(control)


class _Harness:
    """The life of one child process; made inside its loop."""

    def __init__(self, main: Main) -> None:
        self._main = main
        self._setup: asyncio.Future[Setup | None] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._channel: Channel[ToChild] | None = None
        self._context: ChildContext | None = None
        self._process: list[Collector] = []
        self._orphaned = False

    async def run(self, control: socket.socket) -> int:
        """Everything from Setup to Drained; gives the exit code."""
        control_fd = control.fileno()
        self._channel = await open_child_end(control, self._on_message, self._on_closed)
        setup = await self._setup
        if setup is None:
            return 0
        settings = msgspec.json.decode(setup.settings, type=Settings)
        logs.setup(
            level=settings.observe.log_level,
            style=settings.observe.log_format,
            role=setup.role,
            slot=setup.slot,
        )
        _name_process(f"{CHILD_NAME}{setup.role}/{setup.slot}")
        if setup.listen_fd >= 0:
            os.set_inheritable(setup.listen_fd, False)  # noqa: FBT003  positional only
        watch = settings.supervisor
        patience_s = TIMER_PATIENCE * (watch.beat_timeout_s + watch.abort_grace_s)
        _arm(max(watch.start_timeout_s, patience_s) + settings.server.drain_limit_s)
        threading.Thread(
            target=_end_after_the_supervisor,
            args=(os.dup(control_fd), settings.server.drain_limit_s + STOP_GRACE_S),
            name="orphan",
            daemon=True,
        ).start()
        interpreter = CollectorRegistry()
        GCCollector(interpreter)
        PlatformCollector(interpreter)
        process = ProcessMetrics(servers_below=setup.role == EMBEDDED.name)
        self._process = [Instruments(process.instruments()), interpreter]
        self._context = context = ChildContext(setup, settings, self._say)
        if self._orphaned:
            return 0
        beats = asyncio.create_task(self._beat(context, patience_s + settings.server.drain_limit_s))
        code = await self._work(context)
        beats.cancel()
        self._say(Metrics(0, self._families(context, everything=True)))
        if code == 0:
            context.drained()
        await self._channel.flush(FLUSH_LIMIT_S)
        return code

    async def _work(self, context: ChildContext) -> int:
        """Run `main` until it ends or has to; gives the exit code."""
        work = asyncio.ensure_future(self._main(context))
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=STOP_GRACE_S)
            return 0
        stop.cancel()
        try:
            work.result()
        except HeadgateError as error:
            log.error("%s", error)  # noqa: TRY400  an error raised on purpose says what is wrong by itself
            self._say(Failed(str(error), error.exit_code))
            return error.exit_code
        except asyncio.CancelledError:
            return self._fail("its work was cancelled")
        except Exception as error:
            log.exception("the work ended with an error")
            return self._fail(f"{type(error).__name__}: {error}")
        if not context.draining:
            return self._fail("its work ended although nobody asked for that")
        return 0

    def _fail(self, reason: str) -> int:
        self._say(Failed(reason, HeadgateError.exit_code))
        return HeadgateError.exit_code

    async def _beat(self, context: ChildContext, timer_s: float) -> None:
        """Each second: a sign of life, the counts beside it, and the timer that ends a hung process."""
        while True:
            await asyncio.sleep(BEAT_S)
            # Until then the start's own, longer time holds: it may block the loop for good reasons.
            if context.is_ready and not self._orphaned:
                _arm(timer_s)
            self._report(context)

    def _report(self, context: ChildContext) -> None:
        if self._channel is None or self._channel.closed:
            return
        try:
            beat = context.health()
        except Exception as error:
            log.exception("the health of this process can't be told")
            beat = Beat(0, False, [f"health unknown: {type(error).__name__}"])  # noqa: FBT003  a struct's fields
        # Counts first: whoever sees the beat sees counts that are no older.
        self._channel.send(Metrics(0, self._families(context, everything=False)), may_drop=True)
        self._channel.send(beat, may_drop=True)

    def _families(self, context: ChildContext, *, everything: bool) -> list[Family]:
        """The worker's own counts; with `everything` also what /proc says, which costs system calls."""
        try:
            return (
                merged([context.instruments, *self._process]) if everything else families(context.instruments)
            )
        except Exception:
            log.exception("the metrics of this process can't be collected")
            return []

    def _say(self, message: Ready | Drained | Failed | Metrics) -> None:
        if self._channel is None:
            return
        if isinstance(message, Ready):
            log.debug("ready%s", f": {message.note}" if message.note else "")
            # The beat goes first: from the moment it is ready, the supervisor knows how it is.
            if self._context is not None:
                self._report(self._context)
        self._channel.send(message)

    def _on_message(self, message: ToChild) -> None:
        match message:
            case Setup():
                if not self._setup.done():
                    self._setup.set_result(message)
            case Drain(limit_s):
                if self._context is not None:
                    self._context.request_drain(limit_s)
                else:
                    self._stop.set()
            case Stop():
                self._stop.set()
            case Scrape(number):
                if self._context is not None and self._channel is not None:
                    found = self._families(self._context, everything=True)
                    self._channel.send(Metrics(number, found), may_drop=True)
            case SetLog(level):
                logs.set_level(level)

    def _on_closed(self) -> None:
        """The supervisor is gone: finish what was accepted, and be gone too, whatever happens."""
        self._orphaned = True
        if not self._setup.done():
            self._setup.set_result(None)
        context = self._context
        if context is None:
            self._stop.set()
            return
        limit_s = context.settings.server.drain_limit_s
        _arm(limit_s + STOP_GRACE_S + EXIT_GRACE_S)
        if not context.draining:
            log.warning("the supervisor is gone: draining, %g s at most", limit_s)
            context.request_drain(limit_s)
        asyncio.get_running_loop().call_later(limit_s, self._stop.set)


def _arm(seconds: float) -> None:
    """ALRM ends this process in `seconds`, with its stacks written to standard error, unless armed anew."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _end_after_the_supervisor(control_fd: int, limit_s: float) -> None:
    """
    In a thread: end this process `limit_s` seconds after the supervisor is gone, if it is still there then.

    The loop drains by itself when it sees the end of the channel; this is for a loop that hangs.
    """
    poll = select.poll()
    # No event is asked for: what is left is the hang-up of the other end.
    poll.register(control_fd, 0)
    poll.poll()
    time.sleep(limit_s)
    sys.stderr.write("the supervisor is gone and this process hangs: ending it\n")
    faulthandler.dump_traceback(all_threads=True)
    os._exit(HeadgateError.exit_code)


def _ignore(number: int, frame: FrameType | None) -> None:
    """INT, TERM and HUP are the supervisor's."""


def _name_process(name: str) -> None:
    """What `ps -o comm` and `top` show; 15 characters at most."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
