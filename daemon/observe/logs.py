"""
Logs of every process: JSON lines for machines, one coloured line for a terminal.

All processes write to the standard error they inherited, one `write` per line, so lines of several
processes never mix. A line has `time level logger role slot pid message`, and `extra` where the call
gave some:

    log.info("published", extra={"request_id": request_id, "records": 12})

What looks like a secret (passwords in addresses, our own keys) is masked on the way out. That is the
second line of defence: callers never log keys, bodies or settings' secrets in the first place.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

Format = Literal["auto", "json", "console"]

#: A longer text is cut: a log line must not become a way to fill the disk.
TEXT_CHARS_MAX = 8192

#: Loggers of libraries that repeat themselves as long as a server is away (aiokafka: ten times a second).
NOISY = ("aiokafka", "granian", "_granian", "asyncio", "py.warnings")
NOISY_LINES_MAX = 5
NOISY_WINDOW_S = 10.0

#: The words of settings and commands.
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

#: systemd's priorities (sd-daemon(3)), which are syslog's.
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}

#: What every LogRecord has by itself; all else came in by `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_SECRET = re.compile(r"(://[^\s:/@]*:)[^\s@]+(@)|\b((?:dk|sk|tl|cdp(?:_live|_test)?)_)[A-Za-z0-9_-]{6,}")


def masked(text: str) -> str:
    """`text` with passwords of addresses and Headgate's own keys replaced by a mark."""
    if "://" not in text and "_" not in text:
        return text
    return _SECRET.sub(lambda hit: f"{hit[1] or hit[3]}•••{hit[2] or ''}", text)


def setup(*, level: str, style: Format, role: str, slot: int | None = None) -> None:
    """
    Send all logging of this process to standard error.

    `level` is debug, info, warning or error; the style `auto` means console on a terminal, else JSON. May be
    called again: the last call holds.
    """
    terminal = os.isatty(2)
    console = style == "console" or (style == "auto" and terminal)
    formatter: logging.Formatter
    if console:
        formatter = ConsoleFormatter(role, slot, colour=terminal and not os.environ.get("NO_COLOR"))
    else:
        formatter = JsonFormatter(role, slot)
    handler = LineHandler(2, journal=_stderr_is_the_journal())
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(capture=True)
    handler.addFilter(Damper(NOISY, NOISY_LINES_MAX, NOISY_WINDOW_S))


def set_level(level: str) -> None:
    """Log from `level` (debug, info, warning, error) on. Raises KeyError for another word."""
    logging.getLogger().setLevel(LEVELS[level])


class LineHandler(logging.Handler):
    """Writes each record with one system call; with `journal`, each line under systemd's priority prefix."""

    def __init__(self, fd: int, *, journal: bool = False) -> None:
        super().__init__()
        self._fd = fd
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`. Nobody can be told when that fails (a closed terminal, a full disk), so nobody is."""
        try:
            text = self.format(record)
            if self._journal:
                prefix = f"<{_PRIORITIES.get(record.levelname, 6)}>"
                text = "\n".join(prefix + line for line in text.split("\n"))
            os.write(self._fd, text.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            return
        except Exception:  # noqa: BLE001  a bad format string must not end the process that logs it
            self.handleError(record)


class Damper(logging.Filter):
    """
    Lets only `lines_max` lines per `window_s` seconds pass of each message of noisy libraries.

    A message is told by its logger and its format string. The first line after a pause says how many
    were left out. Errors with a traceback always pass.
    """

    def __init__(
        self,
        noisy: tuple[str, ...],
        lines_max: int,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._noisy = noisy
        self._lines_max = lines_max
        self._window_s = window_s
        self._clock = clock
        self._seen: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is written."""
        if record.exc_info or not record.name.startswith(self._noisy):
            return True
        now = self._clock()
        # An f-string of a library makes a new "format" each time: the start of it has to do.
        key = (record.name, str(record.msg)[:40])
        began, count = self._seen.get(key, (now, 0.0))
        if now - began >= self._window_s:
            if count > self._lines_max:
                record.left_out = int(count) - self._lines_max
            began, count = now, 0.0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = [began, count + 1]
        return count < self._lines_max


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, role: str, slot: int | None) -> None:
        super().__init__()
        self._role = role
        self._slot = slot
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def format(self, record: logging.LogRecord) -> str:
        """`record` as JSON."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": self._role,
            "slot": self._slot,
            "pid": record.process,
            "message": _text(record.getMessage()),
        }
        extra = _extra(record)
        if extra:
            line["extra"] = extra
        trace = _trace(record)
        if trace:
            line["exception"] = trace
        try:
            return self._encoder.encode(line).decode()
        except (UnicodeEncodeError, ValueError, TypeError):
            # Lone surrogates, or keys that JSON has no form for: say it plainly rather than not at all.
            return msgspec.json.encode(
                {**line, "message": ascii(line["message"]), "extra": ascii(extra)}
            ).decode()


class ConsoleFormatter(logging.Formatter):
    """One line to be read by a person: time, level, who, message, extras."""

    def __init__(self, role: str, slot: int | None, *, colour: bool) -> None:
        super().__init__()
        self._who = role if slot is None else f"{role}/{slot}"
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """`record` as a line, with the traceback, if any, below it."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        level = self._paint(f"{record.levelname:<8}", _COLOURS.get(record.levelname, "0"))
        head = f"{self._paint(moment, '2')} {level} {self._who:<12} {_text(record.getMessage())}"
        extras = "".join(
            f" {self._paint(name + '=', '2')}{_text(str(value))}" for name, value in _extra(record).items()
        )
        trace = _trace(record)
        return head + extras + (f"\n{trace}" if trace else "")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _text(text: str) -> str:
    text = masked(text)
    return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _safe(value) for name, value in vars(record).items() if name not in _OWN}


def _safe(value: Any, depth: int = 0) -> Any:
    """`value` with every text in it masked and cut."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping) and depth < 4:
        return {str(key): _safe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 4:
        return [_safe(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(str(value))


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return _text("".join(traceback.format_exception(*record.exc_info)).rstrip())


def _time(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03d}Z"


def _stderr_is_the_journal() -> bool:
    """systemd names the journal's socket as device:inode (systemd.exec(5), $JOURNAL_STREAM)."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"
