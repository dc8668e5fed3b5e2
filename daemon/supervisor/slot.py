"""
The states of a slot, as a table that is checked.

A slot is a place for one process of a role: frontend 0, frontend 1, publisher 0. Processes come and
go, the slot stays, and with it its listening socket, its counters and its history.

                      start             ready
            EMPTY ─────────▶ STARTING ─────────▶ READY ◀─┐ replaced (a roll)
              ▲                │  ▲ │              │ │ └──┘
              │          crash │  │ │ drain  crash │ │ drain
              │                ▼  │ └──────┐       │ ▼
              │ unpark      BACKOFF ◀──────┼───────┘ DRAINING ── stop ──▶ STOPPING
            PARKED ◀── park ──┘            └────────▶   │                    │
              (from STARTING and READY too)             └──── exited ────────┴──▶ EMPTY

Pure: no clock, no processes. What is not in the table can't happen, and raises.
"""

from __future__ import annotations

from enum import StrEnum

from daemon.errors import HeadgateError


class State(StrEnum):
    """Where a slot stands; shown in `/slots` as it is written here."""

    #: no process, none wanted
    EMPTY = "EMPTY"
    #: a process runs that has not said Ready
    STARTING = "STARTING"
    #: the process does its work
    READY = "READY"
    #: the process finishes what it accepted
    DRAINING = "DRAINING"
    #: the process was told to end now
    STOPPING = "STOPPING"
    #: the process crashed; the next one starts after a wait
    BACKOFF = "BACKOFF"
    #: too many crashes, or bad settings: nothing starts until somebody unparks it
    PARKED = "PARKED"


class Event(StrEnum):
    """What can happen to a slot."""

    START = "start"
    READY = "ready"
    REPLACED = "replaced"
    CRASH = "crash"
    PARK = "park"
    DRAIN = "drain"
    STOP = "stop"
    EXITED = "exited"
    UNPARK = "unpark"


class TransitionError(HeadgateError):
    """An event that the state does not know: a fault in the supervisor."""


TABLE: dict[State, dict[Event, State]] = {
    State.EMPTY: {Event.START: State.STARTING},
    State.STARTING: {
        Event.READY: State.READY,
        Event.CRASH: State.BACKOFF,
        Event.PARK: State.PARKED,
        Event.DRAIN: State.DRAINING,
        Event.STOP: State.STOPPING,
    },
    State.READY: {
        Event.REPLACED: State.READY,
        Event.CRASH: State.BACKOFF,
        Event.PARK: State.PARKED,
        Event.DRAIN: State.DRAINING,
        Event.STOP: State.STOPPING,
    },
    State.DRAINING: {Event.EXITED: State.EMPTY, Event.STOP: State.STOPPING},
    State.STOPPING: {Event.EXITED: State.EMPTY},
    # Without a process there is nothing to drain: the slot is empty at once.
    State.BACKOFF: {Event.START: State.STARTING, Event.DRAIN: State.EMPTY, Event.STOP: State.EMPTY},
    State.PARKED: {Event.UNPARK: State.EMPTY, Event.DRAIN: State.EMPTY, Event.STOP: State.EMPTY},
}

#: States in which the slot has a process.
RUNNING = frozenset({State.STARTING, State.READY, State.DRAINING, State.STOPPING})


def after(state: State, event: Event) -> State:
    """The state that follows. Raises TransitionError when the table has none."""
    following = TABLE[state].get(event)
    if following is None:
        raise TransitionError(f"a slot that is {state} can't {event}")
    return following
