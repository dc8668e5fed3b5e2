"""
The gate before all events: shut while a store is away that the settings will not do without, or while what was let
in before waits too long for its acknowledgement.

Shut means 503 before the body is read. The check is one attribute; a look at the world every LOOK_S sets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from daemon.config.schema import Settings
from daemon.frontend.refusal import Refusal, unavailable
from daemon.observe.catalog import GATE_CAUSES, GateMetrics

log = logging.getLogger(__name__)

#: Between looks, seconds.
LOOK_S = 0.05
#: When an overload's gate has nothing left that waits and nothing was answered: it opens for one look in so many
#: seconds, as somebody has to try.
TRY_S = 1.0
_NAMES = {"redis": "Redis", "postgres": "PostgreSQL"}

#: What a refused caller is told to wait, seconds.
RETRY_AFTER_S = 1.0


class Gate:
    """
    `why` says why it is shut, or is empty.

    `redis_up` and `postgres_up` tell whether the stores are there, `oldest_s` how long the oldest event has waited
    for its acknowledgement (seconds; 0: none waits), `answers` a number that changes with every answer.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: GateMetrics,
        *,
        redis_up: Callable[[], bool] = lambda: True,
        postgres_up: Callable[[], bool] = lambda: True,
        oldest_s: Callable[[], float] = lambda: 0.0,
        answers: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._refuses = {
            "redis": settings.redis.when_away == "refuse",
            "postgres": settings.postgres.when_away == "refuse",
        }
        self._up = {"redis": redis_up, "postgres": postgres_up}
        self._wait_max_s = settings.frontend.oldest_wait_max_s
        self._oldest_s = oldest_s
        self._answers = answers
        self._clock = clock
        self._metrics = metrics
        self._refused = {cause: metrics.refused.at(cause) for cause in GATE_CAUSES}
        self.why = ""
        self._cause = ""
        self._shut_at = 0.0
        self._answers_then = 0
        self._tried_at = 0.0
        self._trying = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self.look()
        self._task = asyncio.get_running_loop().create_task(self._look_for_ever(), name="gate")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def reasons(self) -> list[str]:
        """Why no event is taken, for /readyz; also while a few are let in to try."""
        return [self._reason(self._cause)] if self._cause else []

    def refusal(self) -> Refusal:
        """What a request gets while it is shut."""
        self._refused[self._cause].n += 1
        return unavailable(self.why, RETRY_AFTER_S)

    def too_many(self) -> Refusal:
        """What a request gets that is one too many."""
        self._refused["requests"].n += 1
        return unavailable("too many requests in work", RETRY_AFTER_S)

    def look(self) -> None:
        """See what holds now."""
        cause = self._found()
        if cause != self._cause:
            self._change(cause)
        self.why = "" if self._ajar() else self._reason(cause)

    def _found(self) -> str:
        for store, refuses in self._refuses.items():
            if refuses and not self._up[store]():
                return store
        return "overload" if self._overloaded() else ""

    def _overloaded(self) -> bool:
        """Shut at the limit; open at half of it, if anything was answered, or nobody came who could find out."""
        limit_s, oldest_s = self._wait_max_s, self._oldest_s()
        if self._cause != "overload":
            return 0 < limit_s < oldest_s
        if oldest_s > limit_s / 2:
            return True
        # Without the second, an idle gateway would stay shut: whoever looks at /readyz sends it nothing.
        return self._answers() == self._answers_then and not (self._trying and not oldest_s)

    def _ajar(self) -> bool:
        """
        Whether a few are let in to try: all that waited was given up, and nobody has answered anything.

        For one look in TRY_S.
        """
        self._trying = (
            self._cause == "overload" and not self._oldest_s() and self._clock() - self._tried_at >= TRY_S
        )
        if self._trying:
            self._tried_at = self._clock()
        return self._trying

    def _reason(self, cause: str) -> str:
        if cause == "overload":
            return f"events wait for more than {self._wait_max_s:g} s for their acknowledgement"
        return (
            f"{_NAMES[cause]} is away, and without it no event is taken ({cause}.when_away)" if cause else ""
        )

    def _change(self, cause: str) -> None:
        now = self._clock()
        if self._cause:
            self._metrics.shut.at(self._cause).n = 0
        if cause:
            self._metrics.shut.at(cause).n = 1
            log.warning("events are refused with 503 from now on: %s", self._reason(cause))
        else:
            log.warning("events are taken again, after %.1f s", now - self._shut_at)
        if not self._cause:
            self._shut_at = now
        self._tried_at = now
        self._answers_then = self._answers()
        self._cause = cause

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:
                log.exception("the look at what holds failed in an unforeseen way; it goes on")
