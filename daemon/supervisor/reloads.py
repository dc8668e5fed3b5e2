"""
Reloads: HUP, and `headgate restart --rolling`. One at a time, the newest settings first checked, then rolled.

Bad settings change nothing and name the key that is wrong. A reload that is asked for while one is on
waits for its end; HUPs that wait are one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from daemon.config.schema import Settings
from daemon.errors import HeadgateError, SettingsError, Unavailable
from daemon.observe import logs
from daemon.observe.metrics import Counter
from daemon.supervisor.crew import Crew
from daemon.supervisor.inbox import Inbox
from daemon.supervisor.plan import Plan, Resolve, changed_keys, check_limits, rollable
from daemon.supervisor.roll import Progress, roll
from daemon.supervisor.systemd import Notifier

log = logging.getLogger(__name__)

#: Reloads that may wait; each is somebody's command.
WAITING_MAX = 16


@dataclass(frozen=True, slots=True)
class Request:
    """A reload that was asked for; without `done` by a signal, so nobody waits."""

    progress: Progress
    done: asyncio.Future[str] | None = None

    def refuse(self, error: HeadgateError) -> None:
        """It is not to be."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(error)

    def grant(self, text: str) -> None:
        """It is done."""
        if self.done is not None and not self.done.done():
            self.done.set_result(text)


class Reloads:
    """The reloads of one supervisor. Its methods are called in the loop."""

    def __init__(
        self,
        crew: Crew,
        inbox: Inbox,
        notifier: Notifier,
        results: Counter,
        *,
        reload_settings: Callable[[], Settings],
        resolve: Resolve,
    ) -> None:
        self._crew = crew
        self._inbox = inbox
        self._notifier = notifier
        self._results = results
        self._reload_settings = reload_settings
        self._resolve = resolve
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._allowed = False
        self._ended = False

    @property
    def running(self) -> bool:
        """Whether a reload is on."""
        return self._task is not None

    def allow(self) -> None:
        """The start is over: those that waited for it may begin."""
        self._allowed = True
        self._next()

    def want(self, request: Request) -> None:
        """One more, now or after those before it."""
        if self._ended:
            request.refuse(Unavailable("the daemon is ending"))
        elif len(self._waiting) >= WAITING_MAX:
            request.refuse(Unavailable("too many reloads are waiting"))
        elif request.done is None and any(waiting.done is None for waiting in self._waiting):
            # One that has not begun will read the newest settings anyway.
            return
        else:
            self._waiting.append(request)
            self._next()

    def end(self) -> None:
        """No more of them; the one that is on is given up where it stands."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        for request in self._waiting:
            request.refuse(Unavailable("the daemon is ending"))
        self._waiting.clear()

    def _next(self) -> None:
        if self._allowed and self._task is None and self._waiting:
            self._task = self._loop.create_task(self._run(self._waiting.popleft()))
            self._task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            self._next()

    async def _run(self, request: Request) -> None:
        self._notifier.reloading()
        try:
            text = await self._reload(request.progress)
        except asyncio.CancelledError:
            request.refuse(Unavailable("the daemon is ending"))
            raise
        except SettingsError as error:
            log.error("reload refused, nothing changed: %s", error, extra={"key": error.key})  # noqa: TRY400
            self._over("refused", f"reload refused, nothing changed: {error}", errno.EINVAL)
            request.refuse(error)
        except HeadgateError as error:
            log.error("reload failed: %s", error)  # noqa: TRY400  an error raised on purpose speaks for itself
            self._over("failed", f"reload failed: {error}", errno.EIO)
            request.refuse(error)
        except Exception as error:
            log.exception("reload failed")
            self._over("failed", f"reload failed: {error}", errno.EIO)
            request.refuse(HeadgateError(f"reload failed: {type(error).__name__}: {error}"))
        else:
            log.info("reloaded: %s", text)
            self._over("done", f"reloaded: {text}", 0)
            request.grant(text)

    def _over(self, result: str, status: str, code: int) -> None:
        self._results.at(result).n += 1
        self._notifier.ready(status, code)

    async def _reload(self, progress: Progress) -> str:
        crew = self._crew
        before = crew.plan.settings
        settings, fixed = rollable(before, self._reload_settings())
        plan = Plan(settings, crew.roles, self._resolve)
        check_limits(plan)
        progress(f"settings: {', '.join(changed_keys(before, settings)) or 'nothing'} changed")
        for key in fixed:
            log.warning("%s changed, but only a restart can change it: it stays", key, extra={"key": key})
            progress(f"{key} changed, but only a restart can change it: it stays")
        rolled = await roll(crew, plan, self._inbox.until, self._loop.time, progress)
        crew.plan = plan
        crew.log_level = None
        observe = settings.observe
        logs.setup(level=observe.log_level, style=observe.log_format, role="supervisor")
        return f"{rolled} slots rolled" + (f"; restart to change {', '.join(fixed)}" if fixed else "")
