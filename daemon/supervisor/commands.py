"""
The control socket: `<run>/control.sock`, where this user's commands change something.

One command per connection, in JSON lines:

    → {"command":"roll"}
    ← {"progress":"publisher/0: pid 311 → 402, ready after 0.31 s"}
    ← {"ok":true,"result":"5 slots rolled"}     or  {"ok":false,"error":"…","exit_code":78,"key":"kafka.brokers"}

The socket's mode is 0600 in a folder of mode 0700: whoever can open it may stop us anyway.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Protocol

import msgspec
from msgspec import Struct

from daemon.errors import HeadgateError, UsageError
from daemon.supervisor.roll import Progress

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
LINE_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 16
ASK_TIMEOUT_S = 5.0


class Roll(Struct, frozen=True, tag_field="command", tag="roll"):
    """Read the settings anew and replace every publisher, processor and frontend."""


class Unpark(Struct, frozen=True, tag_field="command", tag="unpark"):
    """Bring a parked slot back."""

    role: str
    slot: int


class Slots(Struct, frozen=True, tag_field="command", tag="slots"):
    """What /slots says."""


class SetLevel(Struct, frozen=True, tag_field="command", tag="set_log"):
    """Log from this level on."""

    level: str


Command = Roll | Unpark | Slots | SetLevel


class Answer(Struct, frozen=True, omit_defaults=True):
    """One line from the supervisor: progress, or (with `ok`) the end."""

    ok: bool | None = None
    result: object = None
    progress: str = ""
    error: str = ""
    exit_code: int = 0
    key: str = ""


class Commanded(Protocol):
    """Who carries the commands out. The methods raise HeadgateErrors."""

    async def reload(self, progress: Progress) -> str:
        """Read the settings anew and roll."""
        ...

    async def unpark(self, role: str, slot: int) -> str:
        """Bring a parked slot back."""
        ...

    async def set_log(self, level: str) -> str:
        """Log from `level` on."""
        ...

    def slots(self) -> dict[str, object]:
        """The document of /slots."""
        ...


class Commands:
    """The server of the control socket."""

    def __init__(self, commanded: Commanded) -> None:
        self._commanded = commanded
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._decoder = msgspec.json.Decoder(Command)

    async def start(self, sock: socket.socket) -> None:
        """Serve on `sock`, a listening Unix socket."""
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=LINE_BYTES_MAX)

    async def stop(self) -> None:
        """Let those that are answered finish, close the rest."""
        if self._server is not None:
            self._server.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=1.0)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(answer: Answer) -> None:
            # Whoever asked may be gone; what was asked for goes on.
            if not writer.is_closing():
                writer.write(msgspec.json.encode(answer) + b"\n")

        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                line = await reader.readline()
            result = await self._carry_out(line, lambda text: say(Answer(progress=text)))
            say(Answer(ok=True, result=result))
            await writer.drain()
        except HeadgateError as error:
            say(Answer(ok=False, error=str(error), exit_code=error.exit_code, key=getattr(error, "key", "")))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            log.debug("control socket: %s", error)
        finally:
            writer.close()

    async def _carry_out(self, line: bytes, progress: Progress) -> object:
        try:
            command = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"that is no command: {error}") from error
        match command:
            case Roll():
                return await self._commanded.reload(progress)
            case Unpark(role, slot):
                return await self._commanded.unpark(role, slot)
            case SetLevel(level):
                return await self._commanded.set_log(level)
            case _:
                return self._commanded.slots()
