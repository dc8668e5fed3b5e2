"""`headgate spool drain`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import click

from daemon.adapters.failover.spool import drain_step
from daemon.adapters.kafka.log import KafkaLog
from daemon.adapters.local.inspect import SlotState, states
from daemon.adapters.local.log import LocalLog
from daemon.cli.output import print_json
from daemon.cli.spooling.common import chosen
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable, SettingsError, Unavailable

#: Bytes of one step: how much is sent again if this command is killed in the middle.
STEP_BYTES = 512 * 1024
#: Between looks at the files that a publisher has in hand, seconds.
LOOK_S = 0.5
#: A publisher that has not brought its number down for so long has no Kafka either, seconds.
STALLED_S = 30.0
#: Between lines of progress where no terminal shows it in place, seconds.
LINE_S = 5.0


async def drain_all(
    settings: Settings, slots: Sequence[int], *, rate: int | None, refused: bool, as_json: bool
) -> int:
    """
    Drain the files of `slots` (none: all); gives the exit code.

    Raises NotFound, SettingsError without brokers, LogUnavailable when Kafka can't be reached.
    """
    if not settings.kafka.brokers:
        raise SettingsError(
            "kafka.brokers is empty, so there is no Kafka to drain to: without one the local log is the log",
            "kafka.brokers",
        )
    picked = chosen(settings, slots)
    began = time.monotonic()
    progress = _Progress(settings, picked, quiet=as_json)
    drained = 0
    if picked:
        kafka = KafkaLog(settings.kafka, (settings.kafka.topic_raw, settings.kafka.topic_dlq))
        await kafka.start()
        try:
            for slot in picked:
                pace = rate or settings.publisher.drain_records_per_s
                drained += await _drain_one(settings, slot, kafka, pace, progress, refused=refused)
        finally:
            await kafka.discard()
        await _watch(progress)
    left = progress.look()
    progress.end()
    waiting = sum(one.waiting_records for one in left)
    aside = sum(one.refused_rows for one in left)
    if as_json:
        print_json(
            {
                "drained": drained,
                "left": waiting,
                "refused_rows": aside,
                "seconds": round(time.monotonic() - began, 3),
            }
        )
    else:
        click.echo(f"{drained} records are on Kafka, {waiting} wait")
        if aside:
            click.echo(
                f"{aside} rows are refused by Kafka: raise its max.message.bytes, then drain with --refused"
            )
    return Unavailable.exit_code if waiting else 0


async def _drain_one(
    settings: Settings, slot: int, kafka: KafkaLog, pace: int, progress: _Progress, *, refused: bool
) -> int:
    """Drain one file if nobody else does; gives the number of records that Kafka took."""
    local = LocalLog(settings, slot, spool=True, guest=True)
    drained = 0
    try:
        mine = local.lock_drain()
        await local.start()
        if refused:
            await local.retry_refused()
        if not mine:
            return 0
        while local.spooled_records or local.salvaging:
            began = time.monotonic()
            sent = await drain_step(local, kafka, STEP_BYTES, settings.publisher.ack_deadline_s)
            drained += sent.drained
            progress.tell(drained)
            if not sent.records and not local.salvaging:
                break
            pause_s = began + sent.records / pace - time.monotonic()
            await asyncio.sleep(max(0.0, pause_s) if sent.records else LOOK_S)
    finally:
        await local.stop()
    return drained


async def _watch(progress: _Progress) -> None:
    """Wait for the files that publishers have in hand, as long as they get emptier."""
    last, changed = -1, time.monotonic()
    while True:
        waiting = sum(one.waiting_records for one in progress.look() if one.in_hand)
        if not waiting:
            return
        if last < 0 or waiting < last:
            last, changed = waiting, time.monotonic()
        elif time.monotonic() - changed > STALLED_S:
            raise LogUnavailable(
                f"{waiting} records are in the hands of a running publisher, which has not sent any for "
                f"{STALLED_S:g} s: `headgate slots` and its log say why"
            )
        progress.tell(None)
        await asyncio.sleep(LOOK_S)


class _Progress:
    """What the person at the terminal sees meanwhile: one line, in place."""

    def __init__(self, settings: Settings, slots: Sequence[int], *, quiet: bool) -> None:
        self._settings = settings
        self._slots = slots
        self._in_place = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._told_at = 0.0
        self._drained = 0

    def look(self) -> list[SlotState]:
        return states(self._settings, self._slots) if self._slots else []

    def tell(self, drained: int | None) -> None:
        """Say how many records are drained from here (None: as before), at most as often as one can read it."""
        self._drained = drained if drained is not None else self._drained
        now = time.monotonic()
        if self._quiet or now - self._told_at < (0.2 if self._in_place else LINE_S):
            return
        self._told_at = now
        waiting = sum(one.waiting_records for one in self.look())
        line = f"{self._drained} drained, {waiting} wait"
        sys.stderr.write(f"\r\x1b[K{line}" if self._in_place else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._in_place:
            sys.stderr.write("\r\x1b[K")
