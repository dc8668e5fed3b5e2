"""
A process to be killed: appends to the event log for ever and prints each id once it is durable.

    python -m tests.support.log_writer kafka|local <settings as JSON> <topic>
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import msgspec

from daemon.adapters.kafka import KafkaLog
from daemon.adapters.local import LocalLog
from daemon.config.schema import Settings
from daemon.ports import EventLog
from tests.support.logs import batch


async def main(kind: str, text: str, topic: str) -> None:
    """Write until killed."""
    settings = msgspec.json.decode(text, type=Settings)
    log: EventLog = (
        KafkaLog(settings.kafka, [topic]) if kind == "kafka" else LocalLog(settings, 0, spool=False)
    )
    await log.start()

    async def write(writer: int) -> None:
        for number in itertools.count():
            name = f"{writer}-{number}"
            await log.append(topic, [batch(writer, name)])
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()

    await asyncio.gather(*(write(writer) for writer in range(4)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
