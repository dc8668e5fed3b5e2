"""
Callers as they are in the world: they send at their own pace whatever the gateway does, keep connections and open new
ones, and send again with the same id what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import uvloop

from tests.chaos.connection import Connection, NoAnswer
from tests.chaos.inputs import Answer, Input
from tests.chaos.ledger import Attempt, Ledger

#: Tries for an id, with pauses between them; as the SDKs do, but more patient.
TRIES = 30
PAUSE_S = (0.2, 1.0)
#: A caller waits no longer for an answer. The gateway's own limit is 4 s.
ANSWER_S = 12.0
#: One request in so many has a connection of its own.
FRESH_EVERY = 8
#: Connections that are kept; requests on their way at once.
KEPT_MAX = 400
WORK_MAX = 4000


class Callers:
    """
    `per_s` requests per second over `inputs`, by their weights, from a thread of its own. Use it in a `with`.

    `prefix` begins every id; the rest is a number.
    """

    def __init__(
        self, port: int, inputs: Sequence[Input], ledger: Ledger, *, per_s: float, seed: int, prefix: str
    ) -> None:
        self._port = port
        self._inputs = list(inputs)
        self._weights = [one.weight for one in inputs]
        self._ledger = ledger
        self._per_s = per_s
        self._rng = random.Random(seed)
        self._prefix = prefix
        self._numbers = itertools.count()
        self._kept: list[Connection] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="callers", daemon=True)
        self._error: BaseException | None = None
        #: requests on their way now, retries that wait included
        self.open = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing new; returns when every id was acknowledged or given up."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._send_all())
        except BaseException as error:  # noqa: BLE001  raised again by stop()
            self._error = error

    async def _send_all(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await asyncio.sleep(began + number / self._per_s - time.monotonic())
                if self._stop.is_set():
                    break
                if self.open < WORK_MAX:
                    [one] = self._rng.choices(self._inputs, self._weights)
                    ids = [f"{self._prefix}{next(self._numbers):08d}" for _ in range(one.ids)]
                    group.create_task(self._deliver(one, ids))
        for connection in self._kept:
            connection.close()

    async def _deliver(self, one: Input, ids: list[str]) -> None:
        self.open += 1
        self._ledger.sends(ids, one.name)
        try:
            for tries in range(TRIES):
                done = await self._attempt(one, ids, first=tries == 0)
                ids = [left for left in ids if left not in done]
                if not ids:
                    return
                await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            self._ledger.given_up.update(ids)
        finally:
            self.open -= 1

    async def _attempt(self, one: Input, ids: list[str], *, first: bool) -> list[str]:
        """One request; gives the ids that its answer acknowledges."""
        fresh = self._rng.randrange(FRESH_EVERY) == 0
        sent_at = time.monotonic()
        status, why, durability = 0, "", "known"
        done: list[str] = []
        connection: Connection | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connection(fresh=fresh)
                sent_at = time.monotonic()
                answer = await connection.ask(one.build(ids))
            status = answer.status
            done = one.durable(ids, answer)
            durability = answer.headers.get("x-headgate-durability", durability)
            why = "" if done else _said(answer)
        except (NoAnswer, OSError) as error:
            why = str(error) or type(error).__name__
        except TimeoutError:
            why = f"no answer within {ANSWER_S:g} s"
        came_at = time.monotonic()
        self._ledger.attempts.append(
            Attempt(one.name, sent_at, came_at, status, bool(done), first, len(ids), why)
        )
        if done:
            self._ledger.acks(done, one.name, came_at, durability)
        self._give_back(connection, keep=not fresh and status != 0)
        return done

    async def _connection(self, *, fresh: bool) -> Connection:
        while self._kept and not fresh:
            connection = self._kept.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", self._port))[1]

    def _give_back(self, connection: Connection | None, *, keep: bool) -> None:
        if connection is None:
            return
        if keep and connection.usable and len(self._kept) < KEPT_MAX:
            self._kept.append(connection)
        else:
            connection.close()


def _said(answer: Answer) -> str:
    """The message of an error, in whichever product's shape."""
    try:
        said = json.loads(answer.body)
        error = said.get("error")
        return str(error["message"] if isinstance(error, dict) else said.get("message", said))
    except (ValueError, AttributeError):
        return answer.headers.get("x-headgate-error", answer.body[:100].decode("utf-8", "replace"))
