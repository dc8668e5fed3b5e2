"""
Bringing the good rows of files that were moved aside into the file in use, beside the appends.

The scan runs in a thread of its own and in chunks; each chunk is one commit in the file's thread, together with how
far the scan came, so that a crash in the middle neither leaves rows out nor brings them twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from daemon.adapters.local import aside
from daemon.adapters.local.file import LogFile
from daemon.adapters.local.layout import DAMAGED, KEPT, REFUSED, SPOOLED
from daemon.adapters.local.salvage import Chunk, Image, chunks
from daemon.observe.catalog import LocalLogMetrics

log = logging.getLogger(__name__)

#: Bytes of rows and pages of one chunk: how long appends may wait behind it, how much room it needs at once, and how
#: soon a stop is heard.
CHUNK_BYTES = 256 * 1024
CHUNK_PAGES = 8192

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Rescue:
    """Salvages for one file; `in_thread` runs work in its thread and raises LogUnavailable."""

    def __init__(self, file: LogFile, state: int, in_thread: InThread, metrics: LocalLogMetrics) -> None:
        """`state` is what a row gets whose own can't be right."""
        self._file = file
        self._state = state
        self._in_thread = in_thread
        self._metrics = metrics

    @property
    def due(self) -> bool:
        """Whether there is something to salvage."""
        return bool(aside.to_salvage(self._file.path))

    async def run(self) -> None:
        """
        Salvage all there is. Raises LogUnavailable when the file in use takes no more now; call again later.

        What another process is at is left to it.
        """
        for path in await asyncio.to_thread(aside.to_salvage, self._file.path):
            held = aside.claim(path)
            if held is None:
                continue
            try:
                await self._one(path)
            finally:
                os.close(held)

    async def _one(self, path: Path) -> None:
        tally = _Tally()
        first_page = 1 + await self._in_thread(partial(self._file.salvaged_up_to, path.name))
        with await asyncio.to_thread(Image, path) as image:
            # Forward only from where a crash left off; its counts are for what is still to be done.
            found = chunks(image, first_page, CHUNK_BYTES, CHUNK_PAGES)
            while (chunk := await asyncio.to_thread(_next, found)) is not None:
                rows = [
                    (one.state if one.state in (KEPT, SPOOLED, REFUSED, DAMAGED) else self._state, one.row)
                    for one in chunk.found
                ]
                await self._in_thread(partial(self._file.restore, rows, path.name, chunk.page))
                tally.count(chunk)
        final = await asyncio.to_thread(aside.finish, path)
        self._metrics.salvaged.at().n += tally.records
        self._metrics.lost_rows.at().n += tally.lost_rows
        log.warning(
            "%d records in %d rows of the corrupt file were saved into %s; %s; it is kept as %s",
            tally.records,
            tally.rows,
            self._file.path.name,
            f"{tally.lost_rows} rows could not be read"
            if tally.lost_rows
            else "no row is known to be missing",
            final,
        )


class _Tally:
    """What came of a scan. Rows are numbered without gaps and go oldest first, so a gap is a row that was lost."""

    def __init__(self) -> None:
        self.rows = 0
        self.records = 0
        self._damaged = 0
        self._seen: dict[int, tuple[int, int, int]] = {}

    def count(self, chunk: Chunk) -> None:
        """Take a chunk into account."""
        self._damaged += len(chunk.damaged)
        for one in chunk.found:
            self.rows += 1
            self.records += one.row.records
            low, high, rows = self._seen.get(one.state, (one.number, one.number, 0))
            self._seen[one.state] = (min(low, one.number), max(high, one.number), rows + 1)

    @property
    def lost_rows(self) -> int:
        """As far as the numbers and the damaged rows tell."""
        gaps = sum(
            high - low + 1 - rows
            for state, (low, high, rows) in self._seen.items()
            if state in (KEPT, SPOOLED)
        )
        return max(gaps, self._damaged)


def _next(found: Iterator[Chunk]) -> Chunk | None:
    return next(found, None)
