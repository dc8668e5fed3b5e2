"""How far each partition was read, stored and committed, for one member of a group in one generation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

log = logging.getLogger(__name__)

#: A commit gets so long, seconds.
COMMIT_S = 5.0

#: Partition → the offset of the next record.
Places = dict[TopicPartition, int]


class Offsets:
    """The offsets of the partitions that are ours; `forget` when they go."""

    def __init__(self, commit: Callable[[Places], Awaitable[None]]) -> None:
        """`commit` sends those of its offsets whose partitions are still ours."""
        self.read: Places = {}
        self.stored: Places = {}
        self.ends: Places = {}
        self._commit = commit
        self._waiting: Places = {}
        self._committer: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """The partitions are somebody else's, or will be assigned anew."""
        for places in (self.read, self.stored, self.ends, self._waiting):
            places.clear()

    @property
    def lag(self) -> int:
        """Records between what is stored and the ends, as far as both are known."""
        return sum(
            max(0, end - self.stored[partition])
            for partition, end in self.ends.items()
            if partition in self.stored
        )

    def done(self, offsets: Places) -> None:
        """Everything before these is stored: commit them, without waiting for it."""
        self.stored.update(offsets)
        self._waiting.update(offsets)
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_while_needed())

    async def committed(self) -> None:
        """Wait until everything is committed that is to be, or can't be now."""
        if self._committer is not None:
            await self._committer
        await self._commit_while_needed()

    async def _commit_while_needed(self) -> None:
        while self._waiting:
            offsets, self._waiting = self._waiting, {}
            try:
                async with asyncio.timeout(COMMIT_S):
                    await self._commit(offsets)
            except (KafkaError, IllegalStateError, OSError, TimeoutError) as error:
                # The next commit covers this one; until then a restart would bring copies, which are dropped.
                log.info("offsets could not be committed: %s", str(error) or type(error).__name__)
                return
