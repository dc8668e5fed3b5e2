"""The loop of `headgate tail`: read, select, print."""

from __future__ import annotations

import asyncio
import heapq
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import cast

from daemon.cli.tailing.events import Printer
from daemon.cli.tailing.selection import Head, Wanted, head_of, matches, started_ms
from daemon.config.schema import Settings
from daemon.errors import NotFound
from daemon.ports import LogReader, StoredRecord

Selected = AsyncGenerator[tuple[StoredRecord, Head], None]

#: How far back one looks for the newest N before everything is read, seconds.
WINDOWS_S = (60.0, 3600.0, 86400.0)

#: Following begins this much before this process did: an event stands on the log a little after it was received.
OVERLAP_MS = 2_000

_STDOUT = 1


async def show(settings: Settings, wanted: Wanted, printer: Printer) -> None:
    """
    Print the events of the log that `settings` name.

    Raises BrokenPipeError when whoever reads the output has ended, NotFound for an unknown source or topic,
    LogUnavailable when the log can't be read.
    """
    sources = await source_ids(settings, wanted.source) if wanted.source else None
    reader = reader_for(settings)
    watch = _OutputWatch()
    try:
        await tail(reader, settings.kafka.topic_raw, wanted, sources, printer)
    except asyncio.CancelledError:
        if watch.gone:
            raise BrokenPipeError from None
        raise
    finally:
        watch.stop()
        with suppress(Exception):
            await reader.stop()


def reader_for(settings: Settings) -> LogReader:
    """Make the reader of the log that the settings name: Kafka, else the local one."""
    if settings.kafka.brokers:
        from daemon.adapters.kafka.reader import KafkaReader

        return KafkaReader(settings.kafka)
    from daemon.adapters.local import LocalReader

    return LocalReader(settings)


async def source_ids(settings: Settings, named: str) -> frozenset[str]:
    """
    Return the ids of the sources that `named`, an id or a name, stands for.

    An id is taken as it is: its events may be on the log though the source is known elsewhere. A name may
    stand for sources of several tenants. Raises NotFound for a name that no source has.
    """
    if named.startswith("src_"):
        return frozenset((named,))
    from daemon.cli.catalog import open_catalog

    async with open_catalog(settings) as catalog:
        found = frozenset(source.id for source in await catalog.list_sources() if source.name == named)
    if not found:
        raise NotFound(f"there is no source with the name {named!r}; `headgate sources list` shows them")
    return found


async def tail(
    reader: LogReader, topic: str, wanted: Wanted, sources: frozenset[str] | None, printer: Printer
) -> None:
    """Print what is wanted of `topic`; with `follow` and without `limit`, never ends."""

    def selected(since_ms: int | None, *, follow: bool = False) -> Selected:
        return _select(reader, topic, since_ms, wanted.type, sources, follow=follow)

    if not wanted.follow:
        if wanted.limit is not None:
            for stored, head in await _newest(selected, wanted.limit, wanted.since_ms):
                printer(stored, head)
            return
        async with aclosing(selected(wanted.since_ms)) as events:
            async for stored, head in events:
                printer(stored, head)
        return

    since_ms, shown = wanted.since_ms, set()
    if wanted.backlog:
        since_ms = started_ms() - OVERLAP_MS
        for stored, head in await _newest(selected, wanted.backlog, None):
            printer(stored, head)
            shown.add(_place(stored))
    left = wanted.limit
    async with aclosing(selected(since_ms, follow=True)) as events:
        async for stored, head in events:
            if shown and _place(stored) in shown:
                continue
            printer(stored, head)
            if left is not None:
                left -= 1
                if left == 0:
                    return


async def _select(
    reader: LogReader,
    topic: str,
    since_ms: int | None,
    kind: str,
    sources: frozenset[str] | None,
    *,
    follow: bool,
) -> Selected:
    records = cast("AsyncGenerator[StoredRecord, None]", reader.read(topic, since_ms, follow))
    async with aclosing(records):
        async for stored in records:
            head = head_of(stored.record.value)
            if head is not None and matches(head, kind, sources):
                yield stored, head


async def _newest(
    selected: Callable[[int | None], Selected], count: int, since_ms: int | None
) -> list[tuple[StoredRecord, Head]]:
    """
    Return the newest `count` events, oldest first.

    Looks back in growing steps, because a log may be long and what is wanted stands at its end.
    """
    now_ms = int(time.time() * 1000)
    windows = [now_ms - int(window_s * 1000) for window_s in WINDOWS_S]
    best: list[tuple[int, int, StoredRecord, Head]] = []
    for start_ms in [start for start in windows if since_ms is None or start > since_ms] + [since_ms]:
        best = []
        number = 0
        async with aclosing(selected(start_ms)) as events:
            async for stored, head in events:
                # Of the same millisecond, what the log gives later counts as younger. The number also makes the
                # order total, so that records themselves are never compared.
                number += 1
                entry = (stored.record.timestamp_ms, number, stored, head)
                if len(best) < count:
                    heapq.heappush(best, entry)
                elif entry > best[0]:
                    heapq.heapreplace(best, entry)
        if len(best) >= count:
            break
    return [(stored, head) for _, _, stored, head in sorted(best)]


def _place(stored: StoredRecord) -> tuple[str, int, int]:
    return stored.log, stored.partition, stored.offset


class _OutputWatch:
    """
    Cancels the current task when whoever reads our output has ended.

    Without it, `tail --follow | head -1` would hang until the event after the one that head printed.
    """

    def __init__(self) -> None:
        self.gone = False
        self._task = asyncio.current_task()
        self._watching = False
        if stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
            # The writing end of a pipe becomes readable with an error, and only when its reader is gone.
            asyncio.get_running_loop().add_reader(_STDOUT, self._on_gone)
            self._watching = True

    def stop(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(_STDOUT)

    def _on_gone(self) -> None:
        self.stop()
        self.gone = True
        if self._task is not None:
            self._task.cancel()
