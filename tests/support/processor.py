"""The processor as a process, with the test in the supervisor's place."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

import msgspec

from daemon.actors.control import CONTROL_FD, Channel, open_supervisor_end
from daemon.actors.messages import Beat, Drain, Drained, Failed, Metrics, Ready, Setup, ToSupervisor
from daemon.config.schema import Settings
from tests.servers.tools import ROOT
from tests.support.logs import PATIENCE_S, until


class ProcessorProcess:
    """One process; what it said is kept."""

    def __init__(self, settings: Settings, queue_paths: Sequence[str], slot: int = 0) -> None:
        self._settings = settings
        self._queue_paths = list(queue_paths)
        self._slot = slot
        self.said: list[ToSupervisor] = []
        self.process: asyncio.subprocess.Process | None = None
        self._channel: Channel[ToSupervisor] | None = None

    async def start(self) -> ProcessorProcess:
        ours, theirs = socket.socketpair()
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.processor"),
            pass_fds=[theirs.fileno()],
            env={**os.environ, CONTROL_FD: str(theirs.fileno()), "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        self._channel = await open_supervisor_end(ours, self.said.append, lambda: None)
        self._channel.send(
            Setup(
                "processor",
                self._slot,
                msgspec.json.encode(self._settings),
                -1,
                self._queue_paths,
                {"publisher": len(self._queue_paths), "processor": self._settings.processor.count},
            )
        )
        await until(lambda: self.has(Ready) or self.has(Failed), "the processor to be ready")
        assert self.has(Ready), self.said
        return self

    def has(self, kind: type[object]) -> bool:
        """Whether it said a message of this kind."""
        return any(isinstance(message, kind) for message in self.said)

    async def drain(self, limit_s: float = 10.0) -> int:
        """Let it drain; give its exit code."""
        assert self._channel is not None
        assert self.process is not None
        self._channel.send(Drain(limit_s))
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        assert self.has(Drained)
        return code

    async def kill(self) -> None:
        """End it as a crash does; fine when it has ended."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if self._channel is not None:
            self._channel.close()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.returncode is None

    @property
    def beats(self) -> list[Beat]:
        """All beats."""
        return [message for message in self.said if isinstance(message, Beat)]

    def sample(self, name: str, **labels: str) -> float:
        """A sample of the latest metrics; 0 before there are any."""
        for message in reversed(self.said):
            if isinstance(message, Metrics):
                return next(
                    s.value
                    for family in message.families
                    for s in family.samples
                    if s.name == name and s.labels == labels
                )
        return 0.0
