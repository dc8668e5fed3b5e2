"""Plays a schedule: each fault when its time has come and its area is free, in the order of the schedule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from tests.chaos.faults import Played, play
from tests.chaos.schedule import Fault
from tests.chaos.stage import Stage

#: The area of faults that nothing may overlap.
EVERYTHING = "everything"


class Director:
    """Runs in the calling thread. `tell` hears of every fault when it is over."""

    def __init__(self, stage: Stage, faults: Sequence[Fault], tell: Callable[[Played], None]) -> None:
        self._stage = stage
        self._faults = list(faults)
        self._tell = tell
        self._active: dict[Future[Played], Fault] = {}
        self._lock = threading.Lock()
        self.played: list[Played] = []

    @property
    def playing(self) -> list[Fault]:
        """What is broken now."""
        return list(self._active.values())

    def run(self, began_at: float) -> list[Played]:
        """
        Play everything; gives what came of it, by beginning. `began_at` is the run's zero, monotonic seconds.

        A fault that has to wait puts off all behind it as long: they must not come all at once.
        """
        late_s = 0.0
        for fault in self._faults:
            due_at = began_at + fault.at_s + late_s
            time.sleep(max(0.0, due_at - time.monotonic()))
            self._wait_for_room(fault)
            late_s += max(0.0, time.monotonic() - due_at)
            future = self._stage.players.submit(play, self._stage, fault)
            self._active[future] = fault
            future.add_done_callback(self._finished)
        wait(list(self._active))
        return sorted(self.played, key=lambda one: one.began_at)

    def _wait_for_room(self, fault: Fault) -> None:
        """Until nothing is on that must not be beside this one: a late recovery puts off what comes after it."""
        while blocking := [one for one, other in list(self._active.items()) if _clash(fault, other)]:
            wait(blocking)
            time.sleep(0.01)  # its callback takes it off the list

    def _finished(self, future: Future[Played]) -> None:
        with self._lock:
            self._active.pop(future, None)
            self.played.append(future.result())
        self._tell(future.result())


def _clash(one: Fault, other: Fault) -> bool:
    return (
        one.area == other.area
        or EVERYTHING in (one.area, other.area)
        or (one.area == "kafka" and one.alone)
        or (other.area == "kafka" and other.alone)
    )
