"""
How requests come from the server's thread into the loop: many in one go.

A loop that is woken for each request goes to sleep and wakes some fifty thousand times a second, and each time both
threads ask for the interpreter's lock. So a call from another thread wakes the loop only where nothing else is about
to: while a tick is planned (a millisecond at most) it waits for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

import uvloop

log = logging.getLogger(__name__)


class Arrivals:
    """Calls that other threads have asked for, in order."""

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """`wake` makes the loop call something soon; any thread may call it."""
        self._wake = wake
        self._calls: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._awaited = False

    def add(self, call: Callable[[Any], object], argument: Any) -> None:
        """Let the loop do `call(argument)`. Any thread may say so."""
        self._calls.append((call, argument))
        # After the append: `take` looks the other way round, so that none is left behind.
        if not self._awaited:
            self._awaited = True
            self._wake(self.take)

    def expect(self) -> None:
        """The loop is going to `take` within a tick: nobody need wake it."""
        self._awaited = True

    def take(self) -> None:
        """Do all that has been asked for; called by the loop."""
        self._awaited = False
        calls = self._calls
        while calls:
            call, argument = calls.popleft()
            try:
                call(argument)
            except Exception:
                # Those behind it must not wait for ever.
                log.exception("a call from another thread failed")


class ArrivalLoop(uvloop.Loop):
    """uvloop's loop, whose calls from other threads go by `arrivals`."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals(super().call_soon_threadsafe)

    def call_soon_threadsafe(  # type: ignore[override]  # no handle, see below
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """As asyncio has it. A call with one argument and no context has no handle, as nobody takes it back."""
        if context is None and len(args) == 1:
            self.arrivals.add(callback, args[0])
            return None
        return super().call_soon_threadsafe(callback, *args, context=context)


def arrivals_of(loop: asyncio.AbstractEventLoop) -> Arrivals:
    """The arrivals of the loop; those of another kind of loop wake it each time."""
    return loop.arrivals if isinstance(loop, ArrivalLoop) else Arrivals(loop.call_soon_threadsafe)
