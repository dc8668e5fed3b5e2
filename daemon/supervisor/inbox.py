"""
The inbox of the supervisor's loop, and the way to wait for what the loop brings about.

Whoever is not the loop (a signal, a child's message, a command, a roll) may do two things: put an
event in, and wait until something is true after a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from daemon.actors.messages import ToSupervisor
from daemon.errors import HeadgateError
from daemon.supervisor.child import Child


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal came."""

    number: int


@dataclass(frozen=True, slots=True)
class Spoke:
    """A child said something."""

    child: Child
    message: ToSupervisor


@dataclass(frozen=True, slots=True)
class Gone:
    """A child has ended, and all it said was read."""

    child: Child


@dataclass(frozen=True, slots=True)
class Asked:
    """Something to be done in the loop, at the time given; its result or HeadgateError is the answer."""

    action: Callable[[float], Any]
    answer: asyncio.Future[Any]

    def carry_out(self, now: float) -> None:
        """Do it."""
        if self.answer.cancelled():
            return
        try:
            self.answer.set_result(self.action(now))
        except HeadgateError as error:
            self.answer.set_exception(error)


InboxEvent = Signalled | Spoke | Gone | Asked


class Inbox:
    """Events in the order in which they came, and those who wait for a turn's outcome."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[InboxEvent] = asyncio.Queue()
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def put(self, event: InboxEvent) -> None:
        """Never waits. What can be in here is bounded by the children's beats and the commands' limits."""
        self._events.put_nowait(event)

    async def ask(self, action: Callable[[float], Any]) -> Any:
        """Have `action` done in the loop; gives its result or raises its HeadgateError."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.put(Asked(action, answer))
        return await answer

    async def get(self, limit_s: float) -> InboxEvent | None:
        """The next event, or None when there was none for `limit_s` seconds."""
        if not self._events.empty():
            return self._events.get_nowait()
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                return await self._events.get()
        except TimeoutError:
            return None

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until `true()` holds after some turn of the loop (or at once)."""
        if true():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = true
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def turned(self) -> None:
        """A turn is over: wake those whose wait has ended."""
        for future, true in list(self._waiting.items()):
            if not future.done() and true():
                future.set_result(None)
