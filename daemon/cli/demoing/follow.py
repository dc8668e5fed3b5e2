"""The log as a page's event stream: one follower for all readers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress

import msgspec

from daemon.cli.tailing.follow import reader_for
from daemon.cli.tailing.selection import head_of
from daemon.config.schema import Settings
from daemon.errors import HeadgateError
from daemon.ports import StoredRecord

#: Messages that a new reader of the stream is given.
BACKLOG = 100
#: Messages that wait for a reader that does not keep up; then it is cut off, and comes again by itself.
WAITING_MAX = 1_000
AGAIN_S = 2.0


class Follower:
    """Follows the log for a few sources from its start on."""

    def __init__(self, settings: Settings, sources: frozenset[str]) -> None:
        """`sources` are the ids of those whose events are shown: sources, merchants."""
        self._settings = settings
        self._sources = sources
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG)
        self._readers: set[asyncio.Queue[bytes | None]] = set()

    def subscribe(self) -> asyncio.Queue[bytes | None]:
        """Messages of the stream, the last ones first; None: cut off."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_MAX + 1)
        for message in self._backlog:
            queue.put_nowait(message)
        self._readers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[bytes | None]) -> None:
        """The reader is gone."""
        self._readers.discard(queue)

    async def run(self) -> None:
        """Follow until cancelled; a log that can't be read is said in the stream and tried again."""
        since_ms = int(time.time() * 1000)
        while True:
            reader = reader_for(self._settings)
            try:
                async for stored in reader.read(self._settings.kafka.topic_raw, since_ms, follow=True):
                    since_ms = stored.record.timestamp_ms
                    head = head_of(stored.record.value)
                    if head is not None and head.source in self._sources:
                        self._tell(stored)
            except HeadgateError as error:
                self._send(_message("trouble", msgspec.json.encode({"message": str(error)})))
            finally:
                with suppress(Exception):
                    await reader.stop()
            await asyncio.sleep(AGAIN_S)

    def _tell(self, stored: StoredRecord) -> None:
        place = f"{stored.log}/{stored.partition}@{stored.offset}"
        # The callers' own JSON stands in there as it came: line ends would end the message.
        envelope = msgspec.Raw(msgspec.json.format(stored.record.value, indent=-1))
        message = _message("envelope", msgspec.json.encode({"place": place, "envelope": envelope}))
        self._backlog.append(message)
        self._send(message)

    def _send(self, message: bytes) -> None:
        for queue in list(self._readers):
            if queue.qsize() >= WAITING_MAX:
                self.unsubscribe(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)


def _message(kind: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
