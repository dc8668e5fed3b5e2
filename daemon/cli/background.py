"""Running a command's coroutine so that Ctrl-C and TERM end it cleanly: `finally` blocks run, servers are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.cli.app import Terminated

if TYPE_CHECKING:
    from daemon.adapters.postgres.catalog import SourceCatalog

T = TypeVar("T")


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """
    Run `work()` to its end in an event loop of its own and give its result.

    Raises KeyboardInterrupt after INT and Terminated after TERM, each once the work has cleaned up.
    """
    terminated = False

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None

        def on_term() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_term)
        return await work()

    try:
        with asyncio.Runner() as runner:
            return runner.run(guarded())
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def with_catalog(config: str | None, work: Callable[[SourceCatalog], Awaitable[T]]) -> T:
    """Read the settings, open the catalog, and give the result of `work` on it."""
    from daemon.cli.catalog import open_catalog
    from daemon.cli.settings import read_settings

    settings = read_settings(config)

    async def go() -> T:
        async with open_catalog(settings) as catalog:
            return await work(catalog)

    return run_async(go)
