"""
A roll: every publisher, processor and frontend slot gets a new process, one slot after the other, without a gap.

    for each role in start order (publishers first, frontends last):
        more slots than before? start the new ones
        for each slot: start the new process → wait for Ready → drain the old one → wait for its end
    fewer slots than before? drain the last ones, frontends first

The first slot whose new process fails ends the roll: the old process stays, and so do the slots after
it. The embedded servers are never rolled.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from daemon.errors import HeadgateError
from daemon.supervisor.crew import Crew
from daemon.supervisor.keeper import Keeper
from daemon.supervisor.plan import Plan
from daemon.supervisor.slot import State

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


class RollFailed(HeadgateError):
    """A new process did not become ready; the old one stays."""


class Until(Protocol):
    """Waits for something to be true after one of the supervisor's turns."""

    def __call__(self, true: Callable[[], bool]) -> Awaitable[None]: ...


async def roll(crew: Crew, plan: Plan, until: Until, clock: Callable[[], float], progress: Progress) -> int:
    """Bring in `plan` everywhere; gives the number of slots. Raises RollFailed."""
    rolled = 0
    roles = [role for role in crew.roles if role.rolls]
    for role in roles:
        wanted = plan.counts[role.name]
        present = len(crew.of(role))
        for _ in range(wanted - present):
            await _start_one_more(crew.add(role, plan), crew, until, clock, progress)
            rolled += 1
        for keeper in crew.of(role)[: min(wanted, present)]:
            await _replace(keeper, plan, until, clock, progress)
            rolled += 1
    for role in reversed(roles):
        while len(crew.of(role)) > plan.counts[role.name]:
            keeper = crew.of(role)[-1]
            await _end(keeper, crew, until, clock)
            progress(f"{keeper.name}: ended, there is one fewer now")
    return rolled


async def _replace(
    keeper: Keeper, plan: Plan, until: Until, clock: Callable[[], float], progress: Progress
) -> None:
    # A slot that is just coming up after a crash settles first: either way it can be replaced then.
    await until(lambda: keeper.state is not State.STARTING)
    before, began = keeper.child.pid if keeper.child else None, clock()
    keeper.replace(plan, began)
    await until(lambda: keeper.next is None and keeper.state is not State.STARTING)
    if keeper.plan is not plan or keeper.state is not State.READY:
        reason = keeper.roll_error or keeper.last_exit or f"is {keeper.state}"
        raise RollFailed(f"{keeper.name}: the new process failed ({reason}); {_what_stays(keeper)}")
    after = keeper.child.pid if keeper.child else None
    progress(f"{keeper.name}: pid {before or 'none'} → {after}, ready after {clock() - began:.2f} s")
    await until(lambda: not keeper.retiring)


async def _start_one_more(
    keeper: Keeper, crew: Crew, until: Until, clock: Callable[[], float], progress: Progress
) -> None:
    keeper.start(clock())
    await until(lambda: keeper.state is not State.STARTING)
    if keeper.state is not State.READY:
        reason = keeper.last_exit
        await _end(keeper, crew, until, clock)
        raise RollFailed(f"{keeper.name}: the new slot failed ({reason}); it is not added")
    progress(f"{keeper.name}: new, pid {keeper.child.pid if keeper.child else None}")


async def _end(keeper: Keeper, crew: Crew, until: Until, clock: Callable[[], float]) -> None:
    keeper.drain(keeper.settings.server.drain_limit_s, clock())
    await until(lambda: keeper.at_rest)
    crew.remove(keeper)


def _what_stays(keeper: Keeper) -> str:
    if keeper.state is State.READY and keeper.child is not None:
        return f"the old one (pid {keeper.child.pid}) stays"
    return f"the slot is {keeper.state}"
