"""
Every error Headgate raises on purpose, in one tree.

    HeadgateError                exit 70  a fault of ours
    ├── SettingsError            exit 78  bad settings; never retried (EX_CONFIG)
    ├── UsageError               exit 64  a command was used wrongly (EX_USAGE)
    ├── NotFound                 exit 66  the thing that was named does not exist (EX_NOINPUT)
    ├── AlreadyRunning           exit 73  another instance holds the data folder (EX_CANTCREAT)
    └── Unavailable              exit 69  a server we need can't be reached now (EX_UNAVAILABLE)
        ├── StoreUnavailable              Redis or PostgreSQL
        └── LogUnavailable                neither Kafka nor the local log takes events now

Exit codes are those of sysexits.h, so that a unit file or a script can tell them apart.
"""

from __future__ import annotations


class HeadgateError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what a command ends with."""

    exit_code = 70


class SettingsError(HeadgateError):
    """
    Settings that can't be used. `key` names the first offender as `section.key` (or is empty).

    A process that ends with 78 is not restarted: the same settings would fail again.
    """

    exit_code = 78

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class UsageError(HeadgateError):
    """A command was called with arguments that don't fit."""

    exit_code = 64


class NotFound(HeadgateError):
    """The source, key or file that was named does not exist."""

    exit_code = 66


class AlreadyRunning(HeadgateError):
    """Another instance holds the data folder."""

    exit_code = 73


class Unavailable(HeadgateError):
    """Something we depend on can't be reached now; `retry_after_s` says when to try again."""

    exit_code = 69

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(Unavailable):
    """Redis or PostgreSQL can't be reached, or did not answer in time."""


class LogUnavailable(Unavailable):
    """Neither Kafka nor the local log can take events now."""
