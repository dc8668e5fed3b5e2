"""A dummy publisher or embedded server: ready, then drained."""

from __future__ import annotations

from daemon.actors.process import ChildContext, run_child
from tests.support.crew.behaviour import Behaviour


async def work(ctx: ChildContext) -> None:
    behaviour = Behaviour(ctx)
    await behaviour.begin()
    await behaviour.until_drain()


if __name__ == "__main__":
    run_child(work)
