"""
A keeper keeps one slot: it starts the process, starts it again, replaces it, ends it.

It holds the current process (`child`), during a roll the one that is to follow (`next`), and those
that were replaced and still finish what they accepted (`retiring`). All of it happens in the
supervisor's one loop, so nothing here waits: what takes time has a deadline, which `check` looks at.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from daemon.actors.messages import Ready
from daemon.config.schema import Settings
from daemon.errors import SettingsError
from daemon.roles import Role
from daemon.supervisor.backoff import Backoff
from daemon.supervisor.child import Child, Rung
from daemon.supervisor.plan import Plan
from daemon.supervisor.slot import Event, State, after

log = logging.getLogger(__name__)

#: Makes a process of a slot with a plan, at a time; raises OSError or a HeadgateError when it can't.
Spawn = Callable[["Keeper", Plan, float], Child]


class Keeper:
    """One slot with its processes. All times are monotonic seconds."""

    def __init__(self, role: Role, slot: int, plan: Plan, spawn: Spawn) -> None:
        self.role = role
        self.slot = slot
        #: The last plan under which the slot became ready; before that, the first one.
        self.plan = plan
        self.state = State.EMPTY
        self.child: Child | None = None
        self.next: Child | None = None
        self.retiring: set[Child] = set()
        #: Crashes after which a process was started again.
        self.restarts = 0
        #: Silent processes that were aborted.
        self.aborts = 0
        #: How the last process that crashed ended; empty: none did.
        self.last_exit = ""
        #: Why the last replacement failed; empty: it did not.
        self.roll_error = ""
        #: Whether the last crash was because of bad settings.
        self.refused_settings = False
        self.draining_since = math.inf
        self._retry_at = math.inf
        self._spawn = spawn
        watch = plan.settings.supervisor
        self._backoff = Backoff(
            first_s=watch.backoff_first_s,
            max_s=watch.backoff_max_s,
            crashes_max=watch.crashes_max,
            window_s=watch.crash_window_s,
        )

    @property
    def name(self) -> str:
        """`role/slot`, as logs name it."""
        return f"{self.role.name}/{self.slot}"

    @property
    def settings(self) -> Settings:
        """What holds for this slot."""
        return self.plan.settings

    def children(self) -> list[Child]:
        """All its processes."""
        return [child for child in (self.child, self.next, *self.retiring) if child is not None]

    # --- what the supervisor wants

    def start(self, now: float, plan: Plan | None = None) -> None:
        """From EMPTY or BACKOFF: start a process (with a new plan)."""
        self._to(Event.START)
        self._retry_at = math.inf
        self.draining_since = math.inf
        try:
            self.child = self._spawn(self, plan or self.plan, now)
        except Exception as error:  # noqa: BLE001  whatever keeps a process from starting is a crash of that slot
            self.refused_settings = isinstance(error, SettingsError)
            self._crashed(f"could not be started: {error}", now)

    def replace(self, plan: Plan, now: float) -> None:
        """Bring in a process with `plan`; a ready one stays until the new one is ready, and for good if it fails."""
        self.roll_error = ""
        if self.state is State.READY:
            try:
                self.next = self._spawn(self, plan, now)
            except Exception as error:  # noqa: BLE001  as above, but the old process stays
                self.roll_error = f"could not be started: {error}"
            return
        if self.state is State.PARKED:
            self.unpark()
        self.start(now, plan)

    def unpark(self) -> None:
        """From PARKED: forget the crashes, and be EMPTY."""
        self._to(Event.UNPARK)
        self._backoff.forget()
        self.refused_settings = False

    def drain(self, limit_s: float, now: float) -> None:
        """Take nothing new, finish what was accepted, end."""
        if self.next is not None:
            self.next.stop(now)
        if self.state in {State.STARTING, State.READY}:
            assert self.child is not None
            self.draining_since = now
            self.child.drain(limit_s, now)
            self._to(Event.DRAIN)
        elif self.state in {State.BACKOFF, State.PARKED}:
            self._retry_at = math.inf
            self._to(Event.DRAIN)

    def stop(self, now: float) -> None:
        """End now."""
        for child in self.children():
            child.stop(now)
        self._retry_at = math.inf
        if self.state not in {State.EMPTY, State.STOPPING}:
            self._to(Event.STOP)

    @property
    def at_rest(self) -> bool:
        """Whether it has no process and wants none."""
        return self.state is State.EMPTY and not self.children()

    # --- what the processes do

    def on_ready(self, child: Child, message: Ready, now: float) -> None:
        """`child` does its work from now on (unless it was told to end while it said so)."""
        child.is_ready = True
        if self.state not in {State.STARTING, State.READY}:
            return
        log.info(
            "%s is ready (pid %d, %.2f s)%s",
            self.name,
            child.pid,
            now - child.started_at,
            f": {message.note}" if message.note else "",
        )
        if child is self.next and self.state is State.READY:
            old, self.child, self.next = self.child, child, None
            self.plan = child.plan
            self._to(Event.REPLACED)
            if old is not None:
                self.retiring.add(old)
                old.drain(self.settings.server.drain_limit_s, now)
        elif child is self.child and self.state is State.STARTING:
            self.plan = child.plan
            self._to(Event.READY)

    def on_gone(self, child: Child, now: float) -> None:
        """The process has ended, and all it said was heard."""
        if child in self.retiring:
            self.retiring.discard(child)
            if child.exit_code != 0:
                log.warning("%s (pid %d), replaced, ended with %s", self.name, child.pid, child.ending())
            return
        if child is self.next:
            self.next = None
            self.roll_error = child.ending()
            log.error("%s: the new process ended with %s; the old one stays", self.name, self.roll_error)
            return
        self.child = None
        if self.state in {State.DRAINING, State.STOPPING}:
            if child.exit_code != 0:
                log.warning("%s (pid %d) ended with %s", self.name, child.pid, child.ending())
            self._to(Event.EXITED)
            return
        self.refused_settings = child.refused_settings
        self._crashed(child.ending(), now, pid=child.pid)

    # --- time

    def due(self) -> float:
        """When `check` has something to do."""
        return min([self._retry_at, *(min(child.due, self._watch_due(child)) for child in self.children())])

    def check(self, now: float) -> None:
        """Do what is due: restart, abort the silent, press those that don't end."""
        for child in self.children():
            if now >= self._watch_due(child):
                watch = child.plan.settings.supervisor
                self.aborts += 1
                child.abort(
                    f"has been silent for {watch.beat_timeout_s:g} s"
                    if child.is_ready
                    else f"was not ready within {watch.start_timeout_s:g} s",
                    now,
                )
            child.escalate(now)
        if self.state is State.BACKOFF and now >= self._retry_at:
            self.start(now)

    def _watch_due(self, child: Child) -> float:
        """When the patience with a process that says nothing ends."""
        watch = child.plan.settings.supervisor
        if child.rung >= Rung.STOP:
            return math.inf
        if not child.is_ready:
            return child.started_at + watch.start_timeout_s
        return child.heard_at + watch.beat_timeout_s

    def _crashed(self, ending: str, now: float, pid: int = 0) -> None:
        self.last_exit = ending
        details = {"role": self.role.name, "slot": self.slot, "child_pid": pid}
        if self.next is not None:
            # A new process is on its way already: it takes the place.
            log.error("%s crashed (%s); the new process takes its place", self.name, ending, extra=details)
            self._to(Event.CRASH)
            self._to(Event.START)
            self.child, self.next = self.next, None
            self.restarts += 1
            return
        if self.refused_settings:
            log.error("%s refused its settings (%s): it is not tried again", self.name, ending, extra=details)
            self._to(Event.PARK)
            return
        wait_s = self._backoff.crashed(now)
        if wait_s is None:
            log.error(
                "%s crashed (%s), more than %d times in %g s: parked; "
                "when the cause is mended: headgate slots unpark %s %d",
                self.name,
                ending,
                self._backoff.crashes_max,
                self._backoff.window_s,
                self.role.name,
                self.slot,
                extra=details,
            )
            self._to(Event.PARK)
            return
        log.error(
            "%s crashed (%s); restart %s",
            self.name,
            ending,
            f"in {wait_s:.2g} s" if wait_s else "at once",
            extra=details,
        )
        self._to(Event.CRASH)
        self.restarts += 1
        self._retry_at = now + wait_s

    def _to(self, event: Event) -> None:
        self.state = after(self.state, event)
