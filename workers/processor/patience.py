"""Trying again until it works, or until there is no reason to any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from daemon.errors import HeadgateError, SettingsError, Unavailable
from daemon.observe.metrics import Cell

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds before the second try, and at most; an outage is over for us soon after it is.
FIRST_S = 0.1
MAX_S = 2.0


class GivenUp(HeadgateError):
    """The process is ending, or somebody else does the work by now: it comes again, elsewhere or later."""


class Patience:
    """
    Tries for as long as it makes sense.

    `ended` says that it does not any more; `stop` wakes those who wait.
    """

    def __init__(self, ended: Callable[[], bool], stop: asyncio.Event) -> None:
        self._ended = ended
        self._stop = stop

    async def insist(
        self, work: Callable[[], Awaitable[T]], retries: Cell, told: Callable[[], bool] = lambda: False
    ) -> T:
        """
        The result of `work`, tried until nothing is away any more; `retries` counts.

        One line in the log when it begins to fail, one when it works again, unless `told` says that somebody
        else has logged the outage. Raises GivenUp, and whatever `work` raises beside Unavailable and
        SettingsError (a DSN that is turned down may be put right).
        """
        wait_s = FIRST_S
        complained = False
        while True:
            try:
                result = await work()
            except (Unavailable, SettingsError) as error:
                if not complained and not told():
                    complained = True
                    log.warning("trying again until it works: %s", error)
            else:
                if complained:
                    log.warning("it works again")
                return result
            retries.n += 1
            if self._stop.is_set() or self._ended():
                raise GivenUp("not now, not here")
            await pause(self._stop, wait_s)
            wait_s = min(MAX_S, wait_s * 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
