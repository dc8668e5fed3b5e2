"""What the supervisor says of itself: ready or not and why, the table of slots, one line for systemd."""

from __future__ import annotations

import os
from collections.abc import Iterable

from daemon.roles import FRONTEND, PUBLISHER
from daemon.supervisor.child import Rung
from daemon.supervisor.crew import Crew
from daemon.supervisor.keeper import Keeper
from daemon.supervisor.scrape import RECEIVED
from daemon.supervisor.slot import State

#: A process that has said nothing for so long is not counted on, though it gets longer until it is aborted.
FRESH_S = 5.0


def unready(crew: Crew, now: float) -> list[str]:
    """Why a well-formed event can't get a 2xx now; empty when it can."""
    if not list(crew.of(FRONTEND)):
        return ["there is no frontend"]
    if not list(crew.of(PUBLISHER)):
        return ["there is no publisher"]
    return _unready(crew.of(FRONTEND), now) + _unready(crew.of(PUBLISHER), now)


def _unready(keepers: Iterable[Keeper], now: float) -> list[str]:
    """Why none of these processes serves; empty when one does."""
    reasons: list[str] = []
    for keeper in keepers:
        child = keeper.child
        if keeper.state is not State.READY or child is None:
            reasons.append(f"{keeper.name} is {keeper.state}")
        elif now - child.heard_at > FRESH_S:
            reasons.append(f"{keeper.name} is silent")
        # Until its first beat, moments later, it is taken at its word: it said Ready, and so did we to systemd.
        elif child.beat is not None and not child.beat.serving:
            reasons += [f"{keeper.name}: {reason}" for reason in child.beat.reasons or ["not serving"]]
        else:
            return []
    return reasons


def slots(crew: Crew, now: float) -> dict[str, object]:
    """The document of /slots. `last_exit` says how the slot's last crashed process ended (null: none did)."""
    return {"supervisor": os.getpid(), "slots": [_slot(keeper, now) for keeper in crew]}


def _slot(keeper: Keeper, now: float) -> dict[str, object]:
    child = keeper.child
    beat = child.beat if child is not None else None
    return {
        "role": keeper.role.name,
        "slot": keeper.slot,
        "pid": child.pid if child is not None else None,
        "state": str(keeper.state),
        "restarts": keeper.restarts,
        "queue": beat.queue if beat is not None else None,
        "beat_age_s": round(now - child.heard_at, 3) if child is not None and beat is not None else None,
        "last_exit": keeper.last_exit or None,
    }


def fresh(crew: Crew, now: float) -> bool:
    """Whether every process that should beat does, with the time that an abort takes on top."""
    return all(
        now - child.heard_at <= watch.beat_timeout_s + 2 * watch.abort_grace_s
        for child in crew.children()
        for watch in (child.plan.settings.supervisor,)
        if child.is_ready and child.rung is Rung.NONE
    )


def count(keepers: Iterable[Keeper], state: State) -> int:
    """How many slots are in `state`."""
    return sum(1 for keeper in keepers if keeper.state is state)


class StatusLine:
    """One line for `systemctl status`: `3 of 3 slots ready; 1,234 events/s; log kafka`."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._at = 0.0
        self._received = 0.0

    def text(self, now: float) -> str:
        """The line; the rate is that since the call before."""
        crew = self._crew
        keepers = list(crew)
        parts = [f"{count(keepers, State.READY)} of {len(keepers)} slots ready"]
        parked = count(keepers, State.PARKED)
        if parked:
            parts.append(f"{parked} parked")
        received = crew.ledger.total(RECEIVED)
        if self._at and now > self._at:
            parts.append(f"{(received - self._received) / (now - self._at):,.0f} events/s")
        self._at, self._received = now, received
        parts.append(f"log {self._log()}")
        return "; ".join(parts)

    def _log(self) -> str:
        if not self._crew.plan.settings.kafka.brokers:
            return "local"
        away = any(self._crew.ledger.last(PUBLISHER.name, "headgate_log_breaker_open"))
        return "local (kafka is away)" if away else "kafka"
