"""
The control channel: one socketpair between the supervisor and each child, the same code at both ends.

    supervisor  ── Setup Drain Stop Scrape SetLog ──▶  child
    supervisor  ◀── Ready Beat Drained Metrics Failed ──  child

Frames as everywhere between our processes (frames.py). A channel never blocks: what the peer does not
read is held back up to a bound, beyond which messages that may be lost (beats, metrics) are dropped
and the others close the channel. The end of the stream tells the child that its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from daemon.actors.frames import FrameError, FrameReader, pack
from daemon.actors.messages import ToChild, ToSupervisor

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Names the inherited file descriptor to the child; a number, no secret.
CONTROL_FD = "HEADGATE_CONTROL_FD"

#: What the kernel and `ps` call a child begins with this: `hg:frontend/0`.
CHILD_NAME = "hg:"

#: One message: Setup holds the settings, Metrics a few thousand samples; both stay far below.
FRAME_BYTES_MAX = 8 * 1024 * 1024

#: Bytes that the peer has not read after which beats and metrics are dropped (it is stopped or hung).
HELD_BYTES_SOFT = 256 * 1024
#: The same for all messages: beyond it the channel is closed.
HELD_BYTES_HARD = 16 * 1024 * 1024


class Channel(asyncio.Protocol, Generic[T]):
    """
    One end. `on_message` gets each message in order; `on_closed` comes once, with no more after it.

    Both are called from the event loop and must not block.
    """

    def __init__(self, kind: Any, on_message: Callable[[T], None], on_closed: Callable[[], None]) -> None:
        self._reader: FrameReader[T] = FrameReader(kind, FRAME_BYTES_MAX)
        self._on_message = on_message
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._resumed: asyncio.Event = asyncio.Event()
        self.closed = False

    # --- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is up."""
        # uvloop's transports are like asyncio's but no subclass of them.
        self._transport = cast("asyncio.Transport", transport)
        # With 0 the transport says `resume_writing` just when all is out: that is what `flush` waits for.
        self._transport.set_write_buffer_limits(high=0)
        self._resumed.set()

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        try:
            messages = self._reader.feed(data)
        except FrameError as error:
            log.error("the control channel is closed: %s", error)  # noqa: TRY400  the text says it all
            self.close()
            return
        for message in messages:
            self._on_message(message)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._resumed.clear()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the end is the same for any cause
        """The stream has ended."""
        self.closed = True
        self._resumed.set()
        self._on_closed()

    # --- we call these

    def send(self, message: Any, *, may_drop: bool = False) -> bool:
        """Send `message`, unless the channel is closed or (with `may_drop`) the peer is far behind: then False."""
        transport = self._transport
        if transport is None or self.closed or transport.is_closing():
            return False
        held = transport.get_write_buffer_size()
        if held > HELD_BYTES_HARD:
            log.error("the control channel is closed: %d bytes were not read", held)
            transport.abort()
            return False
        if may_drop and held > HELD_BYTES_SOFT:
            return False
        transport.write(pack(message))
        return True

    async def flush(self, limit_s: float) -> None:
        """Wait until all that was sent is out, `limit_s` seconds at most."""
        try:
            async with asyncio.timeout(limit_s):
                await self._resumed.wait()
        except TimeoutError:
            return

    def close(self) -> None:
        """End the stream; `on_closed` follows."""
        if self._transport is not None:
            self._transport.close()


async def _open(sock: socket.socket, channel: Channel[T]) -> Channel[T]:
    sock.setblocking(False)  # noqa: FBT003  positional only
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
    return channel


async def open_supervisor_end(
    sock: socket.socket, on_message: Callable[[ToSupervisor], None], on_closed: Callable[[], None]
) -> Channel[ToSupervisor]:
    """The supervisor's end over `sock`, which the channel then owns."""
    return await _open(sock, Channel[ToSupervisor](ToSupervisor, on_message, on_closed))


async def open_child_end(
    sock: socket.socket, on_message: Callable[[ToChild], None], on_closed: Callable[[], None]
) -> Channel[ToChild]:
    """The child's end over `sock`, which the channel then owns."""
    return await _open(sock, Channel[ToChild](ToChild, on_message, on_closed))
