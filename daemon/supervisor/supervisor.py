"""
The supervisor: one loop that decides.

    signals ──┐
    children ─┤ events ──▶ inbox ──▶ handle(event) ──▶ tick: due restarts, watch, phase, waiters
    commands ─┘                          ▲                              │
                                         └──────── next event or due ◀──┘

Signals, children and commands only put an event into the inbox. Every turn of the loop handles one
event and then looks at all that is due. A reload is a task beside the loop which waits, step by step,
for what it wants to be true after some turn (`reloads.py`, `roll.py`).

    STARTING ──all slots ready──▶ RUNNING ──TERM, INT, or a role with all slots parked──▶ ENDING ──▶ exit

Starting goes up the roles (embedded, publishers, frontends), ending goes down, so what the frontends
accepted is still written. /readyz is false from the first moment of ENDING on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path

from daemon.actors.messages import Metrics, Scrape
from daemon.actors.snapshot import families
from daemon.config.schema import Settings
from daemon.errors import HeadgateError, SettingsError, UsageError
from daemon.observe import logs
from daemon.observe.catalog import SupervisorMetrics
from daemon.observe.metrics import Instruments
from daemon.observe.process import ProcessMetrics
from daemon.roles import EMBEDDED, Role
from daemon.supervisor.crew import Crew
from daemon.supervisor.inbox import Asked, Gone, Inbox, InboxEvent, Signalled, Spoke
from daemon.supervisor.plan import Plan, Resolve, check_limits
from daemon.supervisor.reloads import Reloads, Request
from daemon.supervisor.roll import Progress
from daemon.supervisor.slot import State
from daemon.supervisor.systemd import Notifier
from daemon.supervisor.telling import StatusLine, count, fresh, slots, unready

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: `make` passes TERM on to its child, which had it from the process group already: that is one TERM.
SAME_SIGNAL_S = 1.0
#: The loop turns at least this often.
TURN_S = 1.0
#: A turn that comes so much too late means that the supervisor itself was stopped or starved.
AWAY_S = 3.0
STATUS_S = 5.0
SCRAPE_TIMEOUT_S = 0.5
PREPARE_TIMEOUT_S = 60.0
ANNOUNCE_TIMEOUT_S = 60.0


class Phase(StrEnum):
    """How far the whole is."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"


class Supervisor:
    """
    All processes of one instance. Make it inside the event loop; `run` once.

    `reload_settings` reads the settings anew (SettingsError: they are bad); `prepare` is awaited once between
    the embedded servers and those who use the stores (SettingsError ends the daemon, any other failure does
    not); `missing` says what keeps events from being taken beside the processes' own state; `announce` is awaited once when all is ready, before /readyz says so; `resolve` fills in the embedded
    servers' addresses.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        roles: Sequence[Role],
        run_dir: Path,
        reload_settings: Callable[[], Settings],
        announce: Callable[[Settings], Awaitable[None]],
        prepare: Callable[[Settings], Awaitable[None]],
        missing: Callable[[], list[str]],
        resolve: Resolve,
        notifier: Notifier,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._roles = tuple(roles)
        self._announce = announce
        self._prepare = prepare
        self._missing = missing
        self._preparing: asyncio.Task[None] | None = None
        self._prepared = False
        self._notifier = notifier
        self._inbox = Inbox()
        self._phase = Phase.STARTING
        self._announced = False
        self._announcing: asyncio.Task[None] | None = None
        self._exit_code = 0
        self._term_at = -math.inf
        self._hurry = False
        self._over = False
        self._turned_at = self._clock()
        self._fed_at = -math.inf
        self._status_at = -math.inf
        self._scrapes = 0
        self._scraped: dict[int, int] = {}
        # Under nohup HUP is ignored when we start: then the terminal's end is no reason to end.
        self._had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        plan = Plan(settings, roles, resolve)
        check_limits(plan)
        self.crew = Crew(
            roles,
            plan,
            run_dir,
            on_message=lambda child, message: self._inbox.put(Spoke(child, message)),
            on_gone=lambda child: self._inbox.put(Gone(child)),
        )
        self._status = StatusLine(self.crew)
        self._metrics = SupervisorMetrics(tuple(role.name for role in roles), tuple(State))
        self._own = Instruments([*self._metrics.instruments(), *ProcessMetrics().instruments()])
        self._reloads = Reloads(
            self.crew,
            self._inbox,
            notifier,
            self._metrics.rolls,
            reload_settings=reload_settings,
            resolve=resolve,
        )

    async def run(self) -> int:
        """Start everything, keep it running, end it; gives the exit code. The crew's sockets must be open."""
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._inbox.put, Signalled(number))
        try:
            self._tick(self._clock())
            while not self._over:
                event = await self._inbox.get(self._next_due() - self._clock())
                now = self._clock()
                if event is not None:
                    self._handle(event, now)
                self._tick(now)
        finally:
            for number in SIGNALS:
                self._loop.remove_signal_handler(number)
                # The copy of a TERM that `make` passes on must not turn a clean end into a killed one.
                signal.signal(number, signal.SIG_IGN)
            for task in (self._preparing, self._announcing):
                if task is not None:
                    task.cancel()
            self._reloads.end()
        return self._exit_code

    # --- what others ask (admin port, control socket)

    def unready(self) -> list[str]:
        """Why a well-formed event can't get a 2xx now; empty: it can."""
        if self._phase is Phase.ENDING:
            return ["shutting down"]
        reasons = unready(self.crew, self._clock()) + self._missing()
        return reasons or ([] if self._announced else ["starting"])

    def slots(self) -> dict[str, object]:
        """The document of /slots."""
        return slots(self.crew, self._clock())

    async def metrics(self) -> bytes:
        """The exposition, of this moment; a child that does not answer is shown as of its last beat."""
        self._scrapes += 1
        number = self._scrapes
        asked = {child.pid for child in self.crew.children() if child.is_ready}
        for child in self.crew.children():
            child.send(Scrape(number))

        def answered() -> bool:
            here = {child.pid for child in self.crew.children()}
            return all(self._scraped.get(pid, 0) >= number for pid in asked & here)

        try:
            async with asyncio.timeout(SCRAPE_TIMEOUT_S):
                await self._inbox.until(answered)
        except TimeoutError:
            log.debug("scrape %d: not all processes answered in time", number)
        self._count()
        return self.crew.ledger.exposition(families(self._own))

    async def reload(self, progress: Progress) -> str:
        """Read the settings anew and roll; gives a sentence about it. Raises SettingsError, RollFailed."""
        done: asyncio.Future[str] = self._loop.create_future()
        await self._inbox.ask(lambda _: self._reloads.want(Request(progress, done)))
        return await done

    async def unpark(self, role: str, slot: int) -> str:
        """Bring a parked slot back. Raises NotFound, UsageError."""

        def action(now: float) -> str:
            keeper = self.crew.find(role, slot)
            if keeper.state is not State.PARKED:
                raise UsageError(f"{keeper.name} is {keeper.state}, not PARKED")
            keeper.unpark()
            keeper.start(now)
            log.info("%s was unparked", keeper.name)
            return f"{keeper.name} is starting"

        return str(await self._inbox.ask(action))

    async def set_log(self, level: str) -> str:
        """Log from `level` on in every process, until the next reload. Raises UsageError."""
        if level not in logs.LEVELS:
            raise UsageError(f"{level!r} is no log level; there are {', '.join(logs.LEVELS)}")

        def action(_: float) -> str:
            logs.set_level(level)
            self.crew.set_log(level)
            return f"logging from {level} on"

        return str(await self._inbox.ask(action))

    # --- one turn

    def _next_due(self) -> float:
        turn_s = min(TURN_S, self._notifier.watchdog_s or TURN_S)
        return min(self.crew.due(), self._turned_at + turn_s)

    def _handle(self, event: InboxEvent, now: float) -> None:
        match event:
            case Signalled(number):
                self._signalled(number, now)
            case Spoke(child, message):
                if isinstance(message, Metrics) and message.number:
                    self._scraped[child.pid] = message.number
                self.crew.heard(child, message, now)
            case Gone(child):
                self._scraped.pop(child.pid, None)
                self.crew.gone(child, now)
            case Asked():
                event.carry_out(now)

    def _tick(self, now: float) -> None:
        away_s = now - self._turned_at - TURN_S
        self._turned_at = now
        if away_s > AWAY_S:
            log.warning("the supervisor was away for %.1f s; nobody's silence counts", away_s)
            self.crew.pardon(now, away_s)
        self.crew.check(now)
        if self._phase is Phase.STARTING:
            self._start_up(now)
        if self._phase is not Phase.ENDING:
            self._look_for_the_end()
        if self._phase is Phase.ENDING:
            self._wind_down(now)
        self._inbox.turned()
        self._tell_systemd(now)

    # --- phases

    def _start_up(self, now: float) -> None:
        """Start the roles one after the other: each when all slots of the one before are up."""
        for role in self._roles:
            if role.name != EMBEDDED.name and not self._prepared:
                if self._preparing is None:
                    self._preparing = self._loop.create_task(self._prepare_once())
                return
            keepers = self.crew.of(role)
            for keeper in keepers:
                if keeper.state is State.EMPTY:
                    keeper.start(now)
            ready = count(keepers, State.READY)
            if keepers and (not ready or ready + count(keepers, State.PARKED) < len(keepers)):
                return
        self._phase = Phase.RUNNING
        log.info("all slots are ready")
        self._announcing = self._loop.create_task(self._announce_once())

    async def _prepare_once(self) -> None:
        """What the stores need before anybody uses them; a store that is away is no reason not to start."""
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT_S):
                await self._prepare(self.crew.plan.settings)
        except SettingsError as error:
            refused = str(error)
            await self._inbox.ask(lambda _: self._end(SettingsError.exit_code, refused))
            return
        except Exception:
            log.exception("the stores could not be prepared")
        await self._inbox.ask(self._go_on)

    def _go_on(self, _: float) -> None:
        self._prepared = True

    async def _announce_once(self) -> None:
        try:
            async with asyncio.timeout(ANNOUNCE_TIMEOUT_S):
                await self._announce(self.crew.plan.settings)
        except HeadgateError as error:
            log.error("after the start: %s", error)  # noqa: TRY400  an error raised on purpose speaks for itself
        except Exception:
            log.exception("after the start: what was to be announced could not be")
        await self._inbox.ask(self._open_up)

    def _open_up(self, now: float) -> None:
        if self._phase is Phase.RUNNING:
            self._announced = True
            self._notifier.ready(self._status.text(now))
            self._reloads.allow()

    def _look_for_the_end(self) -> None:
        """A role whose slots are all parked ends the daemon; so does a refusal of the settings at the start."""
        for role in self._roles:
            keepers = self.crew.of(role)
            parked = [keeper for keeper in keepers if keeper.state is State.PARKED]
            refused = [keeper for keeper in parked if keeper.refused_settings]
            if refused and (self._phase is Phase.STARTING or len(refused) == len(keepers)):
                self._end(
                    SettingsError.exit_code, f"{refused[0].name} refused the settings: {refused[0].last_exit}"
                )
                return
            if parked and len(parked) == len(keepers):
                self._end(
                    HeadgateError.exit_code, f"every slot of {role.name} is parked: {parked[0].last_exit}"
                )
                return

    def _end(self, exit_code: int, why: str) -> None:
        if self._phase is Phase.ENDING:
            return
        # First of all: /readyz is false from here on.
        self._phase = Phase.ENDING
        self._exit_code = exit_code
        log.log(logging.ERROR if exit_code else logging.INFO, "ending: %s", why)
        codes = {0: 0, SettingsError.exit_code: errno.EINVAL}
        self._notifier.stopping(f"ending: {why}", codes.get(exit_code, errno.EIO))
        self._reloads.end()

    def _wind_down(self, now: float) -> None:
        """End the roles one after the other, the last started first."""
        limit_s = self.crew.plan.settings.server.drain_limit_s
        for role in reversed(self._roles):
            keepers = self.crew.of(role)
            for keeper in keepers:
                if self._hurry:
                    keeper.stop(now)
                else:
                    keeper.drain(limit_s, now)
            if not all(keeper.at_rest for keeper in keepers):
                return
        self._over = True

    def _signalled(self, number: int, now: float) -> None:
        name = signal.Signals(number).name
        # The terminal's end comes as a HUP too; then nobody is left to reload for.
        if number == signal.SIGHUP and not (self._had_terminal and not _has_terminal()):
            if self._phase is Phase.ENDING:
                log.warning("SIGHUP: the daemon is ending, nothing is reloaded")
            else:
                log.info("SIGHUP: reloading")
                self._reloads.want(Request(lambda text: log.info("reload: %s", text)))
        elif self._phase is not Phase.ENDING:
            self._term_at = now
            self._end(0, name)
        elif self._term_at == -math.inf:
            # It was ending by itself; the first signal changes nothing.
            self._term_at = now
        elif now - self._term_at > SAME_SIGNAL_S and not self._hurry:
            log.warning("a second %s: stopping now", name)
            self._hurry = True

    # --- telling

    def _tell_systemd(self, now: float) -> None:
        notifier = self._notifier
        if not notifier.active:
            return
        if notifier.watchdog_s and now - self._fed_at >= notifier.watchdog_s and fresh(self.crew, now):
            self._fed_at = now
            notifier.alive()
        if self._phase is Phase.STARTING:
            notifier.status(
                f"starting: {count(self.crew, State.READY)} of {len(list(self.crew))} slots ready"
            )
        settled = self._announced and self._phase is Phase.RUNNING and not self._reloads.running
        if settled and now - self._status_at >= STATUS_S:
            self._status_at = now
            notifier.status(self._status.text(now))

    def _count(self) -> None:
        """Bring the supervisor's own metrics up to date."""
        for state in State:
            self._metrics.slots.at(state).n = count(self.crew, state)
        for role in self._roles:
            # The sums fall when a slot is given up for good; counters don't.
            restarts, aborts = self._metrics.restarts.at(role.name), self._metrics.aborts.at(role.name)
            restarts.n = max(restarts.n, sum(keeper.restarts for keeper in self.crew.of(role)))
            aborts.n = max(aborts.n, sum(keeper.aborts for keeper in self.crew.of(role)))
        self._metrics.ready.at().n = 0 if self.unready() else 1


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
