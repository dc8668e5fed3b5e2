"""
One child process as the supervisor sees it: started, heard, told, and made to end.

It is started by `exec` (never a bare fork), in a session of its own so that a terminal's Ctrl-C reaches
only the supervisor, with one end of a socketpair as its control channel. Its end is noticed by pidfd,
and only its own pid is reaped. A child is gone when its process has ended and all it said was read.

Whoever has to end climbs a ladder, one rung per deadline: Drain, Stop, ABRT (stacks to the log), KILL.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import daemon
from daemon.actors.control import CONTROL_FD, Channel, open_supervisor_end
from daemon.actors.messages import Beat, Drain, Drained, Failed, Setup, Stop, ToChild, ToSupervisor
from daemon.errors import SettingsError
from daemon.roles import Role
from daemon.supervisor.plan import Plan

log = logging.getLogger(__name__)

#: After the process ended: what it last said is in the socket already, unless somebody else holds the other end.
LAST_WORDS_S = 1.0

#: Where `daemon` and `workers` are imported from: the children use the same, whatever folder they start in.
CODE_DIR = Path(daemon.__path__[0]).parent


class Rung(IntEnum):
    """How far a child has been pressed to end."""

    NONE = 0
    DRAIN = 1
    STOP = 2
    ABORT = 3
    KILL = 4


class Child:
    """A process of a slot. `on_message` and `on_gone` are called from the event loop."""

    def __init__(
        self,
        role: Role,
        slot: int,
        plan: Plan,
        setup: Setup,
        *,
        inherit_fd: int,
        now: float,
        grace_s: float,
        on_message: Callable[[Child, ToSupervisor], None],
        on_gone: Callable[[Child], None],
    ) -> None:
        """Start it. Raises OSError when the system can't."""
        self.role = role
        self.slot = slot
        self.plan = plan
        self.started_at = now
        self.heard_at = now
        self.is_ready = False
        self.beat: Beat | None = None
        self.drained = False
        self.failed: Failed | None = None
        self.rung = Rung.NONE
        #: Monotonic seconds at which the next rung is due.
        self.due = math.inf
        #: Why it was pressed to end, if not by wish.
        self.blame = ""
        self._grace_s = grace_s
        self._on_message = on_message
        self._on_gone = on_gone
        self._exited = False
        self._closed = False
        self._gone = False
        self._channel: Channel[ToSupervisor] | None = None
        self._waiting: list[ToChild] = [setup]
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", role.module],
                pass_fds=[theirs.fileno(), *([inherit_fd] if inherit_fd >= 0 else [])],
                env=_environment(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._on_exit)
        self._opening = loop.create_task(self._open(ours))

    @property
    def name(self) -> str:
        """`role/slot`, as logs name it."""
        return f"{self.role.name}/{self.slot}"

    # --- told

    def send(self, message: ToChild) -> None:
        """Say something; it is dropped when the child is going."""
        if self._channel is not None:
            self._channel.send(message)
        elif not self._closed:
            self._waiting.append(message)

    def drain(self, limit_s: float, now: float) -> None:
        """Finish what was accepted within `limit_s`, and end."""
        if self.rung < Rung.DRAIN:
            self.rung = Rung.DRAIN
            self.due = now + limit_s
            self.send(Drain(limit_s))

    def stop(self, now: float) -> None:
        """End now."""
        if self.rung < Rung.STOP:
            self.rung = Rung.STOP
            self.due = now + self._grace_s
            self.send(Stop())

    def abort(self, blame: str, now: float) -> None:
        """It hangs, or never came up: write its stacks and end it."""
        if self.rung < Rung.ABORT:
            log.error(
                "%s (pid %d) %s: ABRT",
                self.name,
                self.pid,
                blame,
                extra={"role": self.role.name, "slot": self.slot},
            )
            self.rung = Rung.ABORT
            self.blame = blame
            self.due = now + self._grace_s
            self._signal(signal.SIGABRT)

    def escalate(self, now: float) -> None:
        """Take the next rung if it is due."""
        if now < self.due:
            return
        match self.rung:
            case Rung.DRAIN:
                log.warning("%s (pid %d) has not drained in time: stopping it", self.name, self.pid)
                self.stop(now)
            case Rung.STOP:
                self.abort(self.blame or "does not stop", now)
            case Rung.ABORT:
                log.error("%s (pid %d) is still there: KILL", self.name, self.pid)
                self.rung = Rung.KILL
                self.due = math.inf
                self._signal(signal.SIGKILL)
            case _:
                self.due = math.inf

    # --- heard

    def ending(self) -> str:
        """How it ended, in words: the exit code or signal, with the reason where one is known."""
        code = self._process.returncode
        if code is None:
            return "still running"
        if code < 0:
            try:
                text = f"signal {signal.Signals(-code).name}"
            except ValueError:
                text = f"signal {-code}"
        else:
            text = f"exit code {code}"
        reason = self.blame or (self.failed.reason if self.failed is not None else "")
        return f"{text}: {reason}" if reason else text

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; negative: a signal; None: it runs."""
        code: int | None = self._process.returncode
        return code

    @property
    def refused_settings(self) -> bool:
        """Whether it ended because of bad settings, so that another try would end the same way."""
        return self.exit_code == SettingsError.exit_code

    async def _open(self, sock: socket.socket) -> None:
        channel = await open_supervisor_end(sock, self._heard, self._on_closed)
        for message in self._waiting:
            channel.send(message)
        self._waiting.clear()
        self._channel = channel

    def _heard(self, message: ToSupervisor) -> None:
        match message:
            case Beat():
                self.beat = message
                self.heard_at = asyncio.get_running_loop().time()
            case Failed():
                self.failed = message
            case Drained():
                self.drained = True
        self._on_message(self, message)

    def _on_closed(self) -> None:
        self._closed = True
        self._finish()

    def _on_exit(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        self._exited = True
        loop.call_later(LAST_WORDS_S, self._give_up_listening)
        self._finish()

    def _give_up_listening(self) -> None:
        if not self._closed:
            self._closed = True
            if self._channel is not None:
                self._channel.close()
            self._finish()

    def _finish(self) -> None:
        if self._exited and self._closed and not self._gone:
            self._gone = True
            self._on_gone(self)

    def _signal(self, number: signal.Signals) -> None:
        # Popen sends nothing once the process was reaped, so no stranger with the same pid is hit.
        self._process.send_signal(number)


def _environment(control_fd: int) -> dict[str, str]:
    """
    The child's environment.

    Settings come by Setup: variables that override them would only show secrets in one more place, and
    systemd's are the supervisor's alone.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADGATE_", "LISTEN_"))
        and name not in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"}
    }
    kept[CONTROL_FD] = str(control_fd)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CODE_DIR), os.environ.get("PYTHONPATH", "")]))
    kept["PYTHONSAFEPATH"] = "1"
    return kept
