"""
A slot lives through anything: crashes, rolls, drains and stops in any order, at any time.

The keeper is driven with processes that end when the test says so; the rules below are what it must
never break, whatever the order.
"""

from __future__ import annotations

import math
from typing import Any, cast

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.actors.messages import Ready
from daemon.config.schema import Settings
from daemon.roles import FRONTEND
from daemon.supervisor.child import Child, Rung
from daemon.supervisor.keeper import Keeper
from daemon.supervisor.plan import Plan
from daemon.supervisor.slot import RUNNING, State


class Process:
    """What a keeper sees of a child, without a process behind it."""

    def __init__(self, plan: Plan, now: float, pid: int) -> None:
        self.plan, self.started_at, self.heard_at, self.pid = plan, now, now, pid
        self.role, self.slot = FRONTEND, 0
        self.is_ready = False
        self.rung = Rung.NONE
        self.due = math.inf
        self.exit_code: int | None = None
        self.refused_settings = False

    def drain(self, limit_s: float, now: float) -> None:
        if self.rung < Rung.DRAIN:
            self.rung, self.due = Rung.DRAIN, now + limit_s

    def stop(self, now: float) -> None:
        if self.rung < Rung.STOP:
            self.rung, self.due = Rung.STOP, now + 2.0

    def abort(self, blame: str, now: float) -> None:
        if self.rung < Rung.ABORT:
            self.rung, self.due = Rung.ABORT, now + 2.0

    def escalate(self, now: float) -> None:
        if now >= self.due:
            self.rung = Rung(min(self.rung + 1, Rung.KILL))
            self.due = math.inf if self.rung is Rung.KILL else now + 2.0

    def ending(self) -> str:
        return f"exit code {self.exit_code}"


class SlotLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.pids = 0
        self.alive: list[Process] = []
        self.may_start = True
        self.plan = Plan(Settings(), [FRONTEND], lambda one: one)
        self.keeper = Keeper(FRONTEND, 0, self.plan, self.spawn)
        self.wanted = True

    def spawn(self, keeper: Keeper, plan: Plan, now: float) -> Child:
        if not self.may_start:
            raise OSError("no more processes")
        self.pids += 1
        process = Process(plan, now, self.pids)
        self.alive.append(process)
        return cast("Child", process)

    def end(self, process: Process, code: int, *, refused: bool = False) -> None:
        process.exit_code, process.refused_settings = code, refused
        self.alive.remove(process)
        self.keeper.on_gone(cast("Child", process), self.now)

    @precondition(lambda self: self.keeper.state is State.EMPTY and not self.alive)
    @rule()
    def start(self) -> None:
        self.wanted = True
        self.keeper.start(self.now)

    @precondition(lambda self: any(not one.is_ready for one in self.alive))
    @rule()
    def one_gets_ready(self) -> None:
        process = next(one for one in self.alive if not one.is_ready)
        self.keeper.on_ready(cast("Child", process), Ready(), self.now)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), code=st.sampled_from([0, 1, 70, 78, -9]))
    def one_ends(self, data: Any, code: int) -> None:
        self.end(data.draw(st.sampled_from(self.alive)), code, refused=code == 78)

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, 11.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for process in self.alive:
            process.heard_at = self.now
        self.keeper.check(self.now)

    @precondition(lambda self: self.alive)
    @rule(seconds=st.sampled_from([11.0, 70.0]))
    def all_are_silent(self, seconds: float) -> None:
        self.now += seconds
        self.keeper.check(self.now)
        assert all(
            one.rung >= Rung.STOP for one in self.alive if one.heard_at + 10.0 <= self.now and one.is_ready
        )

    @rule(possible=st.booleans())
    def the_system_has_room(self, possible: bool) -> None:
        self.may_start = possible

    @precondition(
        lambda self: (
            self.wanted
            and self.keeper.next is None
            and self.keeper.state in {State.READY, State.BACKOFF, State.PARKED}
        )
    )
    @rule()
    def roll(self) -> None:
        self.plan = Plan(Settings(), [FRONTEND], lambda one: one)
        self.keeper.replace(self.plan, self.now)

    @precondition(lambda self: self.keeper.state is State.PARKED)
    @rule()
    def unpark(self) -> None:
        self.keeper.unpark()

    @rule()
    def drain(self) -> None:
        self.wanted = False
        self.keeper.drain(10.0, self.now)

    @rule()
    def stop(self) -> None:
        self.wanted = False
        self.keeper.stop(self.now)

    @invariant()
    def no_process_is_forgotten(self) -> None:
        assert {id(child) for child in self.keeper.children()} == {id(one) for one in self.alive}

    @invariant()
    def a_state_with_a_process_has_one(self) -> None:
        assert (self.keeper.child is not None) == (self.keeper.state in RUNNING)

    @invariant()
    def a_ready_slot_has_a_ready_process(self) -> None:
        if self.keeper.state is State.READY:
            assert self.keeper.child is not None
            assert self.keeper.child.is_ready

    @invariant()
    def whoever_waits_has_a_time_to_act(self) -> None:
        if self.keeper.state is State.BACKOFF:
            assert self.keeper.due() < math.inf

    def teardown(self) -> None:
        """From anywhere, a drain that is not obeyed comes to an end through the ladder."""
        self.keeper.drain(10.0, self.now)
        for _ in range(10):
            self.now += 11.0
            self.keeper.check(self.now)
            for process in [one for one in self.alive if one.rung is Rung.KILL]:
                self.end(process, -9)
        assert self.keeper.at_rest


TestSlotLife = SlotLife.TestCase
TestSlotLife.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
