"""The other end of the control socket: what the command line says to a running supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from daemon.errors import HeadgateError, NotFound, SettingsError, Unavailable, UsageError
from daemon.supervisor.commands import SOCKET_NAME, Answer, Command, Roll, SetLevel, Slots, Unpark

#: A command that is answered at once; also the longest silence between two lines of progress (a slot
#: gets its start time and its drain time, each a minute or so at most by default).
ANSWER_TIMEOUT_S = 10.0
ROLL_SILENCE_S = 1200.0

_ERRORS: dict[int, type[HeadgateError]] = {
    UsageError.exit_code: UsageError,
    NotFound.exit_code: NotFound,
    Unavailable.exit_code: Unavailable,
}


class Client:
    """Commands to the supervisor that runs on `run_dir`. Blocking; each raises Unavailable when none runs."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / SOCKET_NAME

    def roll(self, progress: Callable[[str], None] = lambda _: None) -> str:
        """
        Read the settings anew and replace every publisher, processor and frontend; returns when that is done.

        Raises SettingsError (nothing changed) or HeadgateError (a new process failed, its old one stays).
        """
        return str(self._ask(Roll(), ROLL_SILENCE_S, progress))

    def unpark(self, role: str, slot: int) -> str:
        """Bring a parked slot back. Raises NotFound, and UsageError when it is not parked."""
        return str(self._ask(Unpark(role, slot)))

    def slots(self) -> dict[str, Any]:
        """The document of /slots."""
        found = self._ask(Slots())
        assert isinstance(found, dict)
        return found

    def set_log(self, level: str) -> str:
        """Log from `level` (debug, info, warning, error) on, in every process. Raises UsageError."""
        return str(self._ask(SetLevel(level)))

    def _ask(
        self,
        command: Command,
        timeout_s: float = ANSWER_TIMEOUT_S,
        progress: Callable[[str], None] = lambda _: None,
    ) -> object:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(timeout_s)
                sock.connect(str(self._path))
                sock.sendall(msgspec.json.encode(command) + b"\n")
                with sock.makefile("rb") as lines:
                    for line in lines:
                        answer = msgspec.json.decode(line, type=Answer)
                        if answer.ok:
                            return answer.result
                        if answer.ok is False:
                            raise _error(answer)
                        progress(answer.progress)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Unavailable(
                "Headgate does not run on this data folder; start it with: headgate run"
            ) from error
        except TimeoutError as error:
            raise Unavailable(f"the supervisor has not answered for {timeout_s:g} s") from error
        except PermissionError as error:
            raise Unavailable(
                f"{self._path} belongs to another user; run this as the user that runs Headgate"
            ) from error
        except (OSError, msgspec.DecodeError) as error:
            raise Unavailable(f"the supervisor could not be asked: {error}") from error
        raise Unavailable("the supervisor ended before it answered")


def _error(answer: Answer) -> HeadgateError:
    if answer.exit_code == SettingsError.exit_code:
        return SettingsError(answer.error, answer.key)
    return _ERRORS.get(answer.exit_code, HeadgateError)(answer.error)
