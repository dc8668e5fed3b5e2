"""
Fires at one front: well-framed requests one after the other on kept connections, broken ones on their own.

Counts what becomes of them, and keeps what was sent where an answer was wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fuzz.http.answers import Wrong, check, owner_of
from tests.fuzz.http.forge import Forge, Shot
from tests.fuzz.http.keys import Keys
from tests.fuzz.http.mangle import SMUGGLED, Ending, Mangler
from tests.fuzz.http.mangle import Broken as Mangled
from tests.fuzz.http.wire import Broken, Connection, Cut

#: Connections at once.
WORKERS = 24
#: Most requests that are sent before the first of them is answered.
PIPELINE_MAX = 8
#: How many of a worker's turns are broken on purpose; any other turn has three requests in the mean.
BROKEN = 0.3
#: How long the first answer to what is broken may take before the caller says that nothing more will come, and how long
#: each further one, in seconds. More callers at once make up for it.
FIRST_S, NEXT_S = 0.3, 0.05
#: Connections at once that stop in the middle of a request and stay; the oldest leaves for a new one.
HELD_MAX = 40


#: The outcome of requests that came after the last one of a connection.
NOT_ANSWERED = "not answered: the connection was closed"


@dataclass
class Fault:
    """A wrong answer: the rule, what was said of it, and all that was sent on that connection."""

    rule: str
    about: str
    sent: bytes
    times: int = 1


@dataclass
class Tally:
    """What became of the requests: by endpoint and outcome."""

    inputs: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def count(self, kind: str, outcome: str) -> None:
        """One input."""
        self.inputs += 1
        self.outcomes.setdefault(kind, Counter())[outcome] += 1

    def add(self, other: Tally) -> None:
        """What was counted elsewhere."""
        self.inputs += other.inputs
        for kind, outcomes in other.outcomes.items():
            self.outcomes.setdefault(kind, Counter()).update(outcomes)
        for rule, fault in other.faults.items():
            known = self.faults.setdefault(rule, fault)
            if known is not fault:
                known.times += fault.times

    def fault(self, kind: str, error: BaseException, sent: bytes) -> None:
        """A wrong answer."""
        text = str(error) or type(error).__name__
        rule = f"{kind}: {type(error).__name__}: {text.splitlines()[0][:120]}"
        known = self.faults.setdefault(rule, Fault(rule, text[:4000], sent, 0))
        known.times += 1
        if len(sent) < len(known.sent):
            known.sent, known.about = sent, text[:4000]


async def attack(
    port: int,
    keys: Keys,
    inputs: int,
    seed: int,
    note: Callable[[int], None] = lambda done: None,
    workers: int = WORKERS,
) -> Tally:
    """So many inputs, each a request or a broken connection; `note` is told how many are done."""
    tally = Tally()
    shares = [inputs // workers + (number < inputs % workers) for number in range(workers)]
    held: deque[Connection] = deque()
    async with asyncio.TaskGroup() as group:
        for number, share in enumerate(shares):
            gunner = _Gunner(port, keys, random.Random(f"{seed}/{number}"), tally, held, note)
            group.create_task(gunner.fire(share))
    for connection in held:
        await connection.close()
    return tally


async def replay(port: int, data: bytes) -> str:
    """One input of the corpus, filled in, on a connection of its own: its outcome. Raises Wrong, Broken, TimeoutError."""
    connection = await Connection.open(port)
    try:
        await connection.send(data)
        return await _answers(connection, Mangled((data,), Ending.WAIT, smuggles=SMUGGLED in data))
    finally:
        await connection.close()


class _Gunner:
    """One worker and its connection."""

    def __init__(
        self,
        port: int,
        keys: Keys,
        rng: random.Random,
        tally: Tally,
        held: deque[Connection],
        note: Callable[[int], None],
    ) -> None:
        self._port = port
        self._rng = rng
        self._tally = tally
        self._held = held
        self._note = note
        self._forge = Forge(rng, keys)
        self._mangler = Mangler(rng, self._forge, keys)
        self._connection: Connection | None = None

    async def fire(self, inputs: int) -> None:
        """So many."""
        left = inputs
        while left:
            if self._rng.random() < BROKEN:
                await self._one_broken(self._mangler.broken())
                left -= 1
            else:
                count = min(left, self._rng.choice((1, 1, 2, 4, PIPELINE_MAX)))
                await self._in_a_row([self._forge.shot() for _ in range(count)])
                left -= count
            self._note(self._tally.inputs)
        if self._connection is not None:
            await self._connection.close()

    async def _in_a_row(self, shots: list[Shot]) -> None:
        """Well-framed requests at once; each is answered, in order, as long as the server keeps the connection."""
        open_before = self._connection is not None
        connection = self._connection or await Connection.open(self._port)
        self._connection = None
        sent = b"".join(shot.data for shot in shots)
        sending = asyncio.create_task(connection.send(sent))
        closed = False
        left = deque(shots)
        try:
            for number, shot in enumerate(shots):
                answer = None if closed else await connection.answer(shot.method)
                if answer is None:
                    # a kept connection may have been closed in the meantime; a new one never before the first answer
                    if not closed and not number and not open_before:
                        raise Wrong("closed without an answer to the first request of a new connection")
                    closed = True
                    self._tally.count(left.popleft().kind, NOT_ANSWERED)
                    continue
                outcome = check(answer, shot.owner, shot.method)
                self._tally.count(left.popleft().kind, outcome)
                closed = answer.closing
        except Cut as error:
            if len(left) == 1:
                self._wrong(left, error, sent)
            else:
                await self._asked_alone(left)
            closed = True
        except (Wrong, Broken, TimeoutError) as error:
            self._wrong(left, error, sent)
            closed = True
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        if closed:
            await connection.close()
        else:
            self._connection = connection

    def _wrong(self, left: deque[Shot], error: Exception, sent: bytes) -> None:
        """The first of `left` was answered wrongly, and those behind it are lost."""
        self._tally.fault(left[0].kind, error, sent)
        self._tally.count(left.popleft().kind, "WRONG")
        for shot in left:
            self._tally.count(shot.kind, NOT_ANSWERED)

    async def _asked_alone(self, left: deque[Shot]) -> None:
        """
        The answer to the first of `left` was cut, and others were sent behind it.

        One of those can have ended the connection with bytes that the server had not read: then the kernel resets it,
        and what of an answer is on its way is lost. Asked alone it has to come.
        """
        await self._in_a_row([left.popleft()])
        for shot in left:
            self._tally.count(shot.kind, NOT_ANSWERED)

    async def _one_broken(self, mangled: Mangled) -> None:
        connection = await Connection.open(self._port)
        for piece in mangled.pieces:
            await connection.send(piece)
            await asyncio.sleep(0)
        if mangled.ending is Ending.HOLD:
            self._tally.count("broken", "held open")
            self._held.append(connection)
            if len(self._held) > HELD_MAX:
                await self._held.popleft().close()
            return
        if mangled.ending is Ending.RESET:
            connection.reset()
            self._tally.count("broken", "reset")
            return
        try:
            self._tally.count("broken", await _answers(connection, mangled))
        except Cut:
            self._tally.count("broken", "cut")  # by a reset, see `_asked_alone`
        except (Wrong, Broken, TimeoutError) as error:
            self._tally.count("broken", "WRONG")
            self._tally.fault("broken", error, mangled.data)
        await connection.close()


async def _answers(connection: Connection, mangled: Mangled) -> str:
    """Judge all that come; the outcome is the first one's."""
    first = ""
    method, target = _request_line(mangled.data)
    waits_s = FIRST_S
    while True:
        # While the caller has not said that it is done, a server that waits for more says nothing. And one that is told
        # so too early closes without an answer (hyper takes it for a caller who is gone).
        if waits_s and not await connection.anything(waits_s):
            connection.end()
            waits_s = 0.0
        answer = await connection.answer(method)
        if answer is None:
            return first or "closed"
        # whose the second is can't be told: where the first one ends is what the server decides
        outcome = check(answer, "any" if first else owner_of(target), method)
        if mangled.smuggles and b"/smuggled" in answer.body:
            raise Wrong(f"a smuggled request was answered\n{answer}")
        first = first or outcome
        method = "POST"  # no second one is a HEAD (mangle.py)
        waits_s = waits_s and NEXT_S


def _request_line(data: bytes) -> tuple[str, str]:
    words = data.lstrip(b"\r\n").split(b"\n", 1)[0].split(b" ")
    method = words[0].decode("latin-1")
    return method, words[1].decode("latin-1") if len(words) > 1 else ""
