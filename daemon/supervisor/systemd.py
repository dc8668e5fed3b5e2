"""
What systemd hears of us: the sd_notify protocol, which is one datagram of lines per message.

READY, RELOADING, STOPPING, STATUS, ERRNO and WATCHDOG. Without systemd nothing is sent, and nothing
here fails. The variables are taken out of the environment, so that no child can speak in our name.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

#: A status line longer than this is no help in `systemctl status`.
STATUS_CHARS_MAX = 200

#: Messages that wait for room in the manager's queue.
_OWED_MAX = 16


class Notifier:
    """
    Speaks to the service manager, if there is one.

    Its queue is short (net.unix.max_dgram_qlen, often 10). What it waits for (READY, RELOADING, STOPPING) is
    sent again with the next word when the queue was full; signs of life and status lines are not.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None, pid: int | None = None) -> None:
        """Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ` (default: the process's own)."""
        variables = os.environ if environ is None else environ
        address = variables.pop("NOTIFY_SOCKET", "")
        period_us = variables.pop("WATCHDOG_USEC", "")
        watched = variables.pop("WATCHDOG_PID", "")
        self._address: str | None = None
        self._socket: socket.socket | None = None
        if address[:1] in {"/", "@"}:
            # An abstract socket is written with @ and begins with a zero byte.
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # noqa: FBT003  positional only
        ours = not watched or watched == str(os.getpid() if pid is None else pid)
        #: Seconds between two signs of life (half of what systemd allows); 0: no watchdog.
        self.watchdog_s = int(period_us) / 2e6 if period_us.isdigit() and ours and self._socket else 0.0
        self._status = ""
        #: what the manager has to hear and has not, in order
        self._owed: deque[bytes] = deque(maxlen=_OWED_MAX)

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    def ready(self, status: str, error: int = 0) -> None:
        """Started, or a reload is over; `error` is an errno when it changed nothing."""
        self._status = _line(status)
        # Without READY systemd would wait for the end of the reload, also of one that was refused.
        self._send("READY=1", f"STATUS={self._status}", f"ERRNO={error}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        # systemd compares this moment with its own clock to tell our answer from an older one.
        self._send(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
            "STATUS=reloading",
        )
        self._status = ""

    def stopping(self, status: str, error: int = 0) -> None:
        """The end has begun; `error` is an errno when it is a failure."""
        self._status = _line(status)
        self._send("STOPPING=1", f"STATUS={self._status}", *([f"ERRNO={error}"] if error else []))

    def status(self, status: str) -> None:
        """One line for `systemctl status`; sent when it differs from the last one."""
        status = _line(status)
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}", owed=False)
        else:
            self._settle()

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1", owed=False)

    def close(self) -> None:
        """Say what is owed, and nothing more."""
        self._settle()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str, owed: bool = True) -> None:
        message = "\n".join(lines).encode("utf-8", "replace")
        if self._settle() and self._said(message):
            return
        if owed:
            self._owed.append(message)

    def _settle(self) -> bool:
        """Say what is owed; whether nothing is left of it."""
        while self._owed and self._said(self._owed[0]):
            self._owed.popleft()
        return not self._owed

    def _said(self, message: bytes) -> bool:
        """Whether the message is out, or can never be."""
        if self._socket is None or self._address is None:
            return True
        try:
            self._socket.sendto(message, self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            log.debug("systemd can't be told %s: %s", message.partition(b"\n")[0].decode(), error)
        return True


def _line(text: str) -> str:
    """One line without the characters that would begin another field."""
    return " ".join(text.split())[:STATUS_CHARS_MAX]
