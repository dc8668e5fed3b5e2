"""The publisher as a process, with the test in the supervisor's place."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from daemon.actors.control import CONTROL_FD, Channel, open_supervisor_end
from daemon.actors.messages import Beat, Drain, Drained, Failed, Metrics, Ready, Setup, ToSupervisor
from daemon.config.schema import Settings
from tests.servers.tools import ROOT
from tests.support.logs import PATIENCE_S, until


class PublisherSlot:
    """A publisher's slot: its socket, which outlives each process, and the processes one after the other."""

    def __init__(self, settings: Settings, folder: Path, slot: int = 0, publishers: int = 1) -> None:
        self.settings = settings
        self.slot = slot
        self.publishers = publishers
        self.path = str(folder / f"publisher-{slot}.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        self.processes: list[PublisherProcess] = []

    async def start(self) -> PublisherProcess:
        """Start a process, beside one that may still be there, and give it its Setup."""
        process = PublisherProcess(self)
        self.processes.append(process)
        await process.start()
        return process

    async def close(self) -> None:
        """Kill what is left."""
        for process in self.processes:
            await process.kill()
        self.listener.close()


class PublisherProcess:
    """One process; what it said is kept."""

    def __init__(self, slot: PublisherSlot) -> None:
        self._slot = slot
        self.said: list[ToSupervisor] = []
        self.process: asyncio.subprocess.Process | None = None
        self._channel: Channel[ToSupervisor] | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        listen_fd = self._slot.listener.fileno()
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.publisher"),
            pass_fds=[theirs.fileno(), listen_fd],
            env={**os.environ, CONTROL_FD: str(theirs.fileno()), "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        self._channel = await open_supervisor_end(ours, self.said.append, lambda: None)
        self._channel.send(
            Setup(
                "publisher",
                self._slot.slot,
                msgspec.json.encode(self._slot.settings),
                listen_fd,
                [self._slot.path],
                {"publisher": self._slot.publishers, "frontend": 1},
            )
        )

    def has(self, kind: type[object]) -> bool:
        """Whether it said a message of this kind."""
        return any(isinstance(message, kind) for message in self.said)

    async def ready(self) -> str:
        """Wait for Ready; give its note."""
        await until(lambda: self.has(Ready) or self.has(Failed), "the publisher to be ready")
        (note,) = [m.note for m in self.said if isinstance(m, Ready)] or [str(self.said)]
        return note

    async def drain(self, limit_s: float = 10.0) -> int:
        """Let it drain; give its exit code."""
        assert self._channel is not None
        self._channel.send(Drain(limit_s))
        code = await self.ended()
        assert self.has(Drained)
        return code

    async def ended(self) -> int:
        """Wait for its end; give its exit code."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it as a crash does; fine when it has ended."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if self._channel is not None:
            self._channel.close()

    @property
    def beat(self) -> Beat | None:
        """The latest beat."""
        return next((m for m in reversed(self.said) if isinstance(m, Beat)), None)

    def sample(self, name: str, **labels: str) -> float:
        """A sample of the latest metrics."""
        latest = next(m for m in reversed(self.said) if isinstance(m, Metrics))
        return next(
            s.value
            for family in latest.families
            for s in family.samples
            if s.name == name and s.labels == labels
        )
