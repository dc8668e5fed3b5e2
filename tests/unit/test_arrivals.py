"""Calls from other threads into the frontend's loop: all, in order, with few wakes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

import pytest

from daemon.frontend.arrivals import ArrivalLoop, Arrivals, arrivals_of

THREADS, CALLS = 8, 3000


class Waker:
    """Keeps what the loop was asked for."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self.asked.append(call)


def test_one_wake_for_many() -> None:
    wake = Waker()
    done: list[int] = []
    arrivals = Arrivals(wake)
    for number in range(5):
        arrivals.add(done.append, number)
    assert len(wake.asked) == 1
    assert done == []
    wake.asked.pop()()
    assert done == [0, 1, 2, 3, 4]
    arrivals.add(done.append, 5)
    assert len(wake.asked) == 1


def test_none_while_somebody_is_going_to_look() -> None:
    wake = Waker()
    done: list[int] = []
    arrivals = Arrivals(wake)
    arrivals.expect()
    arrivals.add(done.append, 1)
    assert wake.asked == []
    arrivals.take()
    assert done == [1]
    arrivals.add(done.append, 2)
    assert len(wake.asked) == 1


def test_what_comes_during_a_call_is_done_too() -> None:
    done: list[int] = []
    arrivals = Arrivals(Waker())

    def more(number: int) -> None:
        done.append(number)
        if number < 3:
            arrivals.add(more, number + 1)

    arrivals.add(more, 0)
    arrivals.take()
    assert done == [0, 1, 2, 3]


def test_a_failure_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    arrivals = Arrivals(Waker())
    arrivals.add(lambda _: 1 // 0, None)
    arrivals.add(done.append, 1)
    arrivals.take()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


def on_arrival_loop(work: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=ArrivalLoop) as runner:
        runner.run(work())  # type: ignore[arg-type]


def test_none_is_lost_between_threads() -> None:
    """Each thread's calls in its order, whatever the loop does meanwhile; also when it expects them now and then."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        arrivals = arrivals_of(loop)
        came: list[tuple[int, int]] = []

        def tell(thread: int) -> None:
            for number in range(CALLS):
                loop.call_soon_threadsafe(came.append, (thread, number))

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(60):
            while len(came) < THREADS * CALLS:
                arrivals.expect()
                loop.call_later(0.001, arrivals.take)
                await asyncio.sleep(0.002)
        for thread in threads:
            thread.join()
        for number in range(THREADS):
            assert [call for thread, call in came if thread == number] == list(range(CALLS))

    on_arrival_loop(work)


def test_the_loop_is_asyncios_else() -> None:
    """A call with a context, or with other than one argument, has its handle; executors and pipes work."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ArrivalLoop)
        told: list[object] = []
        name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
        context = contextvars.copy_context()
        context.run(name.set, "ours")
        loop.call_soon_threadsafe(lambda text: told.append((text, name.get())), "a", context=context)
        loop.call_soon_threadsafe(told.append, "never", context=context).cancel()
        loop.call_soon_threadsafe(lambda: told.append("none"))
        assert await asyncio.to_thread(lambda: 42) == 42
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop)
        assert await asyncio.wrap_future(future) == "slept"
        assert told == [("a", "ours"), "none"]

    on_arrival_loop(work)


async def test_another_kind_of_loop_is_woken_each_time() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()
    threading.Thread(target=arrivals_of(loop).add, args=(told.set_result, 7)).start()
    assert await asyncio.wait_for(told, 10) == 7
