from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.supervisor.backoff import Backoff
from daemon.supervisor.slot import TABLE, Event, State, TransitionError, after


def test_every_state_can_be_reached_and_left() -> None:
    reached, waiting = set(), [State.EMPTY]
    while waiting:
        state = waiting.pop()
        reached.add(state)
        waiting += [following for following in TABLE[state].values() if following not in reached]
    assert reached == set(State)
    assert all(TABLE[state] for state in State)


@pytest.mark.parametrize("state", [state for state in State if state is not State.EMPTY])
def test_every_state_ends_empty_when_the_daemon_ends(state: State) -> None:
    """Stop, then the exit of a process if there is one: what winding down relies on."""
    if Event.STOP in TABLE[state]:
        state = after(state, Event.STOP)
    if state is not State.EMPTY:
        state = after(state, Event.EXITED)
    assert state is State.EMPTY


def test_what_the_table_lacks_is_an_error_that_names_both() -> None:
    with pytest.raises(TransitionError, match="PARKED can't ready"):
        after(State.PARKED, Event.READY)


@given(st.lists(st.sampled_from(Event), max_size=50))
def test_a_wrong_event_changes_nothing(events: list[Event]) -> None:
    state = State.EMPTY
    for event in events:
        try:
            state = after(state, event)
        except TransitionError:
            assert event not in TABLE[state]


# --- backoff


def test_first_restart_at_once_then_doubling_then_parked_at_the_sixth_within_a_minute() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    assert [backoff.crashed(now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert backoff.crashed(5.0) is None


def test_a_crash_after_the_window_begins_a_new_row() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    for now in (0.0, 1.0, 2.0):
        backoff.crashed(now)
    assert backoff.crashed(62.1) == 0.0


def test_slow_crashes_are_never_parked_but_wait_up_to_the_longest() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    waits = [backoff.crashed(13.0 * number) for number in range(20)]
    assert waits[-1] == 30.0
    assert None not in waits


def test_unparked_begins_with_a_clean_slate() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    for number in range(6):
        backoff.crashed(float(number))
    backoff.forget()
    assert backoff.crashed(6.0) == 0.0


@given(
    gaps=st.lists(st.floats(0, 100), min_size=1, max_size=100),
    chance=st.floats(0, 1, exclude_max=True),
    crashes_max=st.integers(1, 8),
)
def test_backoff_holds_its_promises(gaps: list[float], chance: float, crashes_max: int) -> None:
    """Parks exactly when more than `crashes_max` crashes are within the window; waits stay in their bounds."""
    backoff = Backoff(crashes_max=crashes_max, chance=lambda: chance)
    now, crashes = 0.0, []
    for gap in gaps:
        now += gap
        crashes.append(now)
        wait_s = backoff.crashed(now)
        within = sum(1 for crash in crashes if now - crash <= 60.0)
        assert (wait_s is None) == (within > crashes_max)
        assert wait_s is None or 0.0 <= wait_s <= 30.0
        if len(crashes) > 1 and gap > 60.0 and wait_s is not None:
            assert wait_s == 0.0
