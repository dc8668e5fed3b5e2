"""
Files of slots in which no publisher lives: removed ones (`publisher.count` was lowered), parked and crashed ones.

A publisher holds the drain lock of its own file as long as it lives, so a lock that is to be had belongs to nobody.
Whoever takes it drains that file until it is empty, and lets go: the slot's publisher may be back.
"""

from __future__ import annotations

import asyncio
import logging

from daemon.adapters.local.log import LocalLog
from daemon.adapters.local.places import DrainLock, file_of, folder_of, slots_on_disk
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable
from daemon.observe.catalog import LocalLogMetrics

log = logging.getLogger(__name__)


class Adoption:
    """The files that the publisher in `slot` drains beside its own. One call at a time."""

    def __init__(self, settings: Settings, slot: int, metrics: LocalLogMetrics | None) -> None:
        self._settings = settings
        self._slot = slot
        self._metrics = metrics
        self._adopted: dict[int, LocalLog] = {}

    @property
    def logs(self) -> list[LocalLog]:
        """The files in hand, by slot."""
        return [self._adopted[slot] for slot in sorted(self._adopted)]

    async def look(self) -> None:
        """Take what nobody drains, count it, give back what is empty. Never raises for a file that can't be used."""
        for slot in await asyncio.to_thread(slots_on_disk, folder_of(self._settings)):
            if slot == self._slot:
                continue
            if slot not in self._adopted and _free(self._settings, slot):
                self._adopted[slot] = LocalLog(
                    self._settings, slot, spool=True, guest=True, metrics=self._metrics
                )
            if slot in self._adopted:
                await self._look_at(slot, self._adopted[slot])

    async def stop(self) -> None:
        """Give everything back."""
        for slot in list(self._adopted):
            await self._give_back(slot)

    async def _look_at(self, slot: int, adopted: LocalLog) -> None:
        try:
            fresh = not adopted.holds_drain
            if not adopted.lock_drain():
                await self._give_back(slot)
                return
            if fresh:
                await adopted.start()
            # A little at a time: the drain waits meanwhile.
            await adopted.tidy(steps_max=1)
        except LogUnavailable as error:
            log.warning(
                "the local log of publisher %d, which is not there, can't be drained now: %s", slot, error
            )
            await self._give_back(slot)
            return
        if not adopted.spooled_records and not adopted.salvaging:
            await self._give_back(slot)
        elif fresh:
            log.warning(
                "publisher %d is not there, and %d records wait in its local log: they are drained from here",
                slot,
                adopted.spooled_records,
            )

    async def _give_back(self, slot: int) -> None:
        await self._adopted.pop(slot).stop()


def _free(settings: Settings, slot: int) -> bool:
    """Whether nobody has the right to drain the file, and there may be something in it."""
    path = file_of(settings, slot)
    lock = DrainLock(path)
    try:
        return lock.take()
    finally:
        lock.let_go()
