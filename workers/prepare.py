"""
Prepare the stores for an instance: `python -m workers.prepare`, with the Settings as JSON on standard input.

Short-lived: `headgate run` starts it when the stores should be up, and again until it ends with 0. It brings the
schema up to date and sees to the demo source and `<data_dir>/credentials.json`. To standard error goes the reason of a
failure, one line, or what else should be known, a line each; the exit code is that of the error (69: try again, 78:
these settings never will do).
"""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from daemon.adapters.postgres.demo import ensure_demo
from daemon.cli.catalog import catalog_on
from daemon.cli.notes import Notes
from daemon.config.schema import Settings
from daemon.errors import HeadgateError
from daemon.observe.logs import masked


async def prepare(settings: Settings) -> None:
    """Schema, demo source, credentials.json. Raises StoreUnavailable, SettingsError."""
    async with catalog_on(settings) as catalog:
        await ensure_demo(catalog, settings.data_dir, settings.mode)


def main() -> int:
    """Read the settings and prepare; gives the exit code."""
    notes = Notes()
    logging.getLogger().addHandler(notes)
    try:
        asyncio.run(prepare(msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)))
    except HeadgateError as error:
        return _failed(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  the parent logs what is said here, in one line
        return _failed(f"{type(error).__name__}: {error}", HeadgateError.exit_code)
    notes.tell()
    return 0


def _failed(reason: str, code: int) -> int:
    sys.stderr.write(masked(reason) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
