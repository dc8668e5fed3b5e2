"""Our own warnings, kept until the work has succeeded: what went well, but not as it should."""

from __future__ import annotations

import logging
import sys

LINES_MAX = 20


class Notes(logging.Handler):
    """
    Keeps what Headgate's own loggers warn of. With an error it would only say the same twice.

    For the root logger; whoever sets up a log of its own takes this away with all other handlers.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of ours."""
        if record.name.startswith("daemon.") and len(self._lines) < LINES_MAX:
            self._lines.append(record.getMessage())

    def tell(self, prefix: str = "") -> None:
        """Write what was kept to standard error, a line each."""
        for line in self._lines:
            sys.stderr.write(f"{prefix}{line}\n")
