"""
What one frontend holds of the rate limits: the book-keeping, without I/O and without a clock.

The law that all frontends keep together is in `scripts/lease.lua`; a book must only be honest to it:
never use a token after its deadline, never one that it said it gave back, and report what it still
holds as it is at the moment of the call. docs/stores.md has the proof.

Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Protocol

from msgspec import Struct

#: Life of a lease in Redis, seconds: so long are the tokens of a crashed frontend lost.
LEASE_LIFE_S = 1.0
#: Life of a lease in the book, counted from before the call: ends first, whatever the clocks do in between.
HELD_LIFE_S = 0.75
#: Names of one call: a script blocks Redis for all, and 500 names take it about 2 ms.
ROWS_MAX = 500
#: Names remembered; beyond, the longest unused half is forgotten. About 300 bytes each.
NAMES_MAX = 200_000
#: An idle name is forgotten after one to two of these, seconds.
GENERATION_S = 10.0
#: Weight of the newest interval in the pace; slices are half as much again as the pace, so that a
#: Poisson stream at a steady rate seldom runs out between renewals.
_PACE_WEIGHT = 0.6
_SLICE_FACTOR = 1.5

#: name, rate, burst, keep, back, need, slice, owed, idle (µs): a row of lease.lua
Row = tuple[str, float, int, int, int, int, int, int, int]


class Waiter(Protocol):
    """A request that waits for an answer (a future)."""

    def done(self) -> bool:
        """Whether nobody wants the answer any more."""
        ...

    def set_result(self, result: float, /) -> None:
        """The answer: 0.0 granted, else the seconds to wait."""
        ...


class Slot(Struct, gc=False):
    """One name's limit as this frontend sees it."""

    name: str
    rate: float
    burst: int
    #: when the last token was used, and since when `used` counts
    used_at: float
    paced_at: float
    #: tokens to use without asking, until `deadline`
    held: int = 0
    deadline: float = 0.0
    #: tokens used in this interval of the pace
    used: int = 0
    #: whether the next call has a row for it; always so while `held` or `used` is not 0
    listed: bool = False
    #: nothing is to be had before this
    refused_until: float = 0.0
    #: tokens used per renewal interval, smoothed
    pace: float = 0.0
    waiting: list[Waiter] = []
    #: the local share's bucket, while Redis is away; -1 before its first use
    local_tokens: float = -1.0
    local_at: float = 0.0
    #: granted from the local share and not told to Redis yet
    owed: int = 0


class LeaseBook:
    """All limits of one frontend. `frontends` is how many share them; `renew_s` the time between calls."""

    def __init__(self, frontends: int, renew_s: float, now: float) -> None:
        self.frontends = max(1, frontends)
        self.renew_s = renew_s
        self.young: dict[str, Slot] = {}
        self._old: dict[str, Slot] = {}
        self._turned_at = now
        #: slots that have something to tell or to ask
        self._listed: list[Slot] = []
        self._calling: Sequence[Slot] = ()
        self._owing: list[Slot] = []
        #: whether somebody waits for a call that is not on its way
        self._asked = False
        self.returning = False

    # --- taking -------------------------------------------------------------------------------------

    def take(self, name: str, rate: float, burst: int, now: float) -> float | None:
        """0.0: taken; > 0: refused for so long; None: to be asked for."""
        slot = self.slot(name, rate, burst, now)
        if slot.held:
            if now < slot.deadline:
                slot.held -= 1
                slot.used += 1
                slot.used_at = now
                return 0.0
            slot.held = 0
        if now < slot.refused_until:
            return slot.refused_until - now
        return None

    def slot(self, name: str, rate: float, burst: int, now: float) -> Slot:
        """The slot of a name, made if need be, with the limit that holds now."""
        slot = self.young.get(name)
        if slot is None:
            slot = self._old.pop(name, None)
            if slot is None:
                if len(self.young) >= NAMES_MAX // 2:
                    self.turn(now)
                slot = Slot(name, rate, burst, now, now)
            self.young[name] = slot
        if slot.rate != rate or slot.burst != burst:
            slot.rate, slot.burst = rate, burst
            slot.refused_until = 0.0
        return slot

    def wait(self, slot: Slot, waiter: Waiter) -> None:
        """Ask for one token with the next call, on behalf of `waiter`."""
        slot.waiting.append(waiter)
        self._asked = True
        if not slot.listed:
            slot.listed = True
            self._listed.append(slot)

    def take_local(self, name: str, rate: float, burst: int, now: float) -> float:
        """Take from this frontend's own share of the limit: rate and burst divided by the frontends."""
        slot = self.slot(name, rate, burst, now)
        share, room = rate / self.frontends, max(1.0, burst / self.frontends)
        if slot.local_tokens < 0:
            slot.local_tokens = room
        else:
            slot.local_tokens = min(room, slot.local_tokens + (now - slot.local_at) * share)
        slot.local_at = now
        if slot.local_tokens < 1:
            return (1 - slot.local_tokens) / share
        slot.local_tokens -= 1
        if slot.owed == 0 and len(self._owing) < NAMES_MAX:
            self._owing.append(slot)
        slot.owed += 1
        return 0.0

    # --- calling ------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is anything to tell or to ask."""
        return bool(self._listed)

    @property
    def hurry(self) -> bool:
        """Whether somebody waits, or a full call's worth is listed: then the next call goes soon."""
        return self._asked or len(self._listed) > ROWS_MAX

    @property
    def held(self) -> int:
        """Tokens held, over all names."""
        return sum(slot.held for slot in chain(self._listed, self._calling))

    def rows(self, now: float) -> list[Row]:
        """The next call, at most ROWS_MAX names; its reply goes to `granted`, else call `forfeit`."""
        assert not self._calling, "one call at a time"
        if now - self._turned_at >= GENERATION_S:
            self.turn(now)
        self._asked = False
        if len(self._listed) > ROWS_MAX:
            # Who waits goes first.
            self._listed.sort(key=lambda slot: not slot.waiting)
            slots, self._listed = self._listed[:ROWS_MAX], self._listed[ROWS_MAX:]
            self._asked = bool(self._listed[0].waiting)
        else:
            slots, self._listed = self._listed, []
        self._calling = slots
        rows: list[Row] = []
        half_s, returning = self.renew_s * 0.5, self.returning
        for slot in slots:
            slot.listed = False
            held = slot.held
            if held and now >= slot.deadline:
                held = slot.held = 0
            if now - slot.paced_at >= half_s:
                # Calls in between (somebody had to ask) don't count as an interval.
                self._pace(slot, now)
            keep = target = 0
            if slot.pace >= 1 and not returning:
                # Slow names hold nothing in stock, so that a small bucket is exact over all frontends.
                target = min(int(slot.pace * _SLICE_FACTOR) + 1, slot.burst // (2 * self.frontends))
                keep = slot.held = min(held, target)
            elif held:
                slot.held = 0
            owed, slot.owed = slot.owed, 0
            idle_us = int((now - slot.used_at) * 1e6)  # rounded down: rather too little refill than too much
            rows.append(
                (slot.name, slot.rate, slot.burst, keep, held - keep, len(slot.waiting), target - keep, owed, idle_us)
            )  # fmt: skip
        return rows

    def _pace(self, slot: Slot, now: float) -> None:
        """Take the interval that ends now into the pace."""
        elapsed = now - slot.paced_at
        latest = slot.used * self.renew_s / elapsed
        slot.pace += (latest - slot.pace) * (_PACE_WEIGHT if elapsed < 4 * self.renew_s else 1.0)
        slot.paced_at, slot.used = now, 0

    def granted(self, rows: Sequence[Row], reply: Sequence[int], asked_at: float, now: float) -> None:
        """The reply to `rows`, which were made at `asked_at`."""
        slots, self._calling = self._calling, ()
        deadline = asked_at + HELD_LIFE_S
        answers = iter(reply)
        for slot, row in zip(slots, rows, strict=True):
            count, wait_us = next(answers), next(answers)
            slot.held += count
            slot.deadline = deadline
            if count < row[5] + row[6]:
                # Dry. Asking for each token as it drips in would be a call per request; the bucket keeps
                # what drips in meanwhile, as long as it is not full (hence half its filling time).
                pause = min(self.renew_s, slot.burst / slot.rate / 2)
                slot.refused_until = now + max(wait_us / 1e6, pause)
            else:
                slot.refused_until = 0.0
            if slot.waiting:
                self._settle(slot, row[5], now)
            elif now >= deadline:
                slot.held = 0
            if (row[3] + count or slot.waiting) and not slot.listed:
                # Redis takes these for held until it hears otherwise.
                slot.listed = True
                self._listed.append(slot)
            if slot.waiting:
                self._asked = True

    def _settle(self, slot: Slot, asked: int, now: float) -> None:
        """Answer the `asked` first of those who wait, and who came since then as far as that is known."""
        late = now >= slot.deadline
        if late:
            # This process was stopped, or starved, since it asked. Nobody was refused: they ask again.
            slot.held = 0
        waiting, slot.waiting = slot.waiting, []
        if len(waiting) <= slot.held:
            # As nearly always: there is one for each.
            for waiter in waiting:
                if not waiter.done():
                    slot.held -= 1
                    slot.used += 1
                    waiter.set_result(0.0)
            slot.used_at = now
            return
        dry = now < slot.refused_until
        for index, waiter in enumerate(waiting):
            if waiter.done():
                continue
            if slot.held:
                slot.held -= 1
                slot.used += 1
                slot.used_at = now
                waiter.set_result(0.0)
            elif dry or (index < asked and not late):
                waiter.set_result(max(slot.refused_until - now, 1e-6))
            else:
                slot.waiting.append(waiter)

    def forfeit(self, answer: Callable[[Slot], float]) -> None:
        """
        Give up everything held: a call failed, so that nobody knows what Redis has made of it.

        Redis counts it as used when the lease expires. Those who wait get `answer`. The next call must
        go under another frontend's name: the failed one may still be carried out, after it.
        """
        slots = [*self._calling, *self._listed]
        self._calling, self._listed = (), []
        for slot in slots:
            slot.held = slot.used = 0
            slot.listed = False
            waiting, slot.waiting = slot.waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(answer(slot))

    def return_all(self) -> None:
        """Nothing will be used any more: the next calls give everything back."""
        self.returning = True

    def back_again(self) -> None:
        """Redis is back: what the local shares granted is to be told."""
        owing, self._owing = self._owing, []
        for slot in owing:
            slot.local_tokens = -1.0
            # Forgotten meanwhile (too many names): another slot may report under its name by now.
            if self.young.get(slot.name) is slot or self._old.get(slot.name) is slot:
                self._list(slot)

    def _list(self, slot: Slot) -> None:
        if not slot.listed:
            slot.listed = True
            self._listed.append(slot)

    # --- forgetting ---------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """
        Begin a new generation: what was not used since the last one is forgotten.

        Two generations, so that forgetting costs no more than going over the names in work.
        """
        self._turned_at = now
        self._old, self.young = self.young, {}
        for slot in chain(self._listed, self._calling):
            # These have more to report; a second slot of the same name would contradict them.
            self._old.pop(slot.name, None)
            self.young[slot.name] = slot
