"""
The crew: all slots with their keepers, the sockets they inherit, and the counts they report.

It carries out what the supervisor decides and passes on what children say; it decides nothing itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from daemon.actors.messages import Metrics, Ready, SetLog, ToSupervisor
from daemon.errors import NotFound
from daemon.roles import FRONTEND, PROCESSOR, PUBLISHER, Role
from daemon.supervisor.child import Child
from daemon.supervisor.keeper import Keeper
from daemon.supervisor.plan import Plan
from daemon.supervisor.scrape import Ledger
from daemon.supervisor.slot import State
from daemon.supervisor.sockets import Listeners, Queues

log = logging.getLogger(__name__)

#: After its window a draining frontend accepts no more; this much later its listener is closed, so that
#: connections are refused at once and don't wait for nobody. Covers the frontend's own delay.
RETIRE_MARGIN_S = 0.5


class Crew:
    """Keepers by role, in start order. All times are monotonic seconds."""

    def __init__(
        self,
        roles: Sequence[Role],
        plan: Plan,
        run_dir: Path,
        *,
        on_message: Callable[[Child, ToSupervisor], None],
        on_gone: Callable[[Child], None],
    ) -> None:
        """`on_message` and `on_gone` are called from the event loop; they should only enqueue."""
        server = plan.settings.server
        self.roles = tuple(roles)
        self.plan = plan
        self.ledger = Ledger()
        self.listeners = Listeners(server.host, server.ingest_port, server.backlog)
        self.queues = Queues(run_dir)
        self.keepers: dict[str, list[Keeper]] = {role.name: [] for role in roles}
        #: Set while somebody wants another level than the settings'.
        self.log_level: str | None = None
        self._on_message = on_message
        self._on_gone = on_gone
        self._serving: set[int] = set()

    def open(self) -> None:
        """Make all slots and their sockets. Raises SettingsError or Unavailable when a socket can't be had."""
        for role in self.roles:
            for _ in range(self.plan.counts[role.name]):
                self.add(role, self.plan)

    def close(self) -> None:
        """Close all sockets."""
        self.listeners.close()
        self.queues.close()

    # --- slots

    def __iter__(self) -> Iterator[Keeper]:
        for role in self.roles:
            yield from self.keepers[role.name]

    def of(self, role: Role) -> list[Keeper]:
        """The keepers of a role, by slot."""
        return self.keepers.get(role.name, [])

    def find(self, role: str, slot: int) -> Keeper:
        """The keeper of a slot. Raises NotFound."""
        keepers = self.keepers.get(role)
        if keepers is None:
            raise NotFound(f"there is no role {role!r}; there are {', '.join(self.keepers)}")
        if not 0 <= slot < len(keepers):
            raise NotFound(f"{role} has no slot {slot}; it has {len(keepers)}, counted from 0")
        return keepers[slot]

    def children(self) -> Iterator[Child]:
        """All processes."""
        for keeper in self:
            yield from keeper.children()

    def add(self, role: Role, plan: Plan) -> Keeper:
        """One more slot, empty, with its socket."""
        keepers = self.keepers[role.name]
        slot = len(keepers)
        if role.name == FRONTEND.name:
            self.listeners.open(slot)
        elif role.name == PUBLISHER.name:
            self.queues.open(slot)
        keeper = Keeper(role, slot, plan, self._spawn)
        keepers.append(keeper)
        return keeper

    def remove(self, keeper: Keeper) -> None:
        """The last slot of a role, at rest, is no more."""
        keepers = self.keepers[keeper.role.name]
        assert keepers[-1] is keeper
        assert keeper.at_rest
        keepers.pop()
        if keeper.role.name == FRONTEND.name:
            self.listeners.close(keeper.slot)
        elif keeper.role.name == PUBLISHER.name:
            self.queues.close(keeper.slot)

    # --- what happens

    def heard(self, child: Child, message: ToSupervisor, now: float) -> None:
        """A child said something."""
        match message:
            case Ready():
                keeper = self._keeper(child)
                keeper.on_ready(child, message, now)
                self._note(keeper)
            case Metrics(_, families):
                self.ledger.report(child.role.name, child.slot, id(child), families)

    def gone(self, child: Child, now: float) -> None:
        """A child has ended."""
        self.ledger.gone(child.role.name, child.slot, id(child))
        keeper = self._keeper(child)
        keeper.on_gone(child, now)
        self._note(keeper)

    def check(self, now: float) -> None:
        """Do what is due."""
        for keeper in self:
            keeper.check(now)
            self._note(keeper, retire=False)
            window_s = keeper.settings.server.drain_window_s + RETIRE_MARGIN_S
            if keeper.state is State.DRAINING and now >= keeper.draining_since + window_s:
                keeper.draining_since = math.inf
                if keeper.role.name == FRONTEND.name:
                    self.listeners.retire(keeper.slot)

    def due(self) -> float:
        """When `check` has something to do."""
        return min((keeper.due() for keeper in self), default=math.inf)

    def pardon(self, now: float, away_s: float) -> None:
        """The supervisor itself was away (stopped, or starved): nobody's silence counts."""
        for child in self.children():
            child.heard_at = now
            child.started_at += away_s

    def set_log(self, level: str | None) -> None:
        """Let every process, now and later, log from `level` on; None: as the settings say."""
        self.log_level = level
        for child in self.children():
            child.send(SetLog(level or child.plan.settings.observe.log_level))

    # --- inside

    def _keeper(self, child: Child) -> Keeper:
        return self.keepers[child.role.name][child.slot]

    def _spawn(self, keeper: Keeper, plan: Plan, now: float) -> Child:
        role, slot = keeper.role, keeper.slot
        fd, paths = -1, []
        if role.name == FRONTEND.name:
            fd = self.listeners.fd(slot)
        elif role.name == PUBLISHER.name:
            fd = self.queues.fd(slot)
        if role.name in {FRONTEND.name, PROCESSOR.name}:
            paths = self.queues.paths(plan.counts.get(PUBLISHER.name, 0))
        child = Child(
            role,
            slot,
            plan,
            plan.setup(role, slot, fd, paths),
            inherit_fd=fd,
            now=now,
            grace_s=plan.settings.supervisor.abort_grace_s,
            on_message=self._on_message,
            on_gone=self._on_gone,
        )
        # From its first moment it counts as one of the slot's processes, younger than those before it.
        self.ledger.report(role.name, slot, id(child), ())
        if self.log_level is not None:
            child.send(SetLog(self.log_level))
        log.debug("%s started (pid %d)", keeper.name, child.pid)
        return child

    def _note(self, keeper: Keeper, *, retire: bool = True) -> None:
        """Bring the slot's listener in line with its state. May be called any number of times."""
        if keeper.role.name != FRONTEND.name:
            return
        slot = keeper.slot
        if keeper.state is State.READY:
            if slot not in self._serving:
                self._serving.add(slot)
                starting = {one.slot for one in self.of(keeper.role) if one.state is State.STARTING}
                self.listeners.serves(slot, starting)
        elif keeper.state in {State.BACKOFF, State.PARKED}:
            self._serving.discard(slot)
            self.listeners.died(slot, others_serve=bool(self._serving))
        elif keeper.state is State.EMPTY and retire:
            self._serving.discard(slot)
            self.listeners.retire(slot)
