"""
What is done once: the schema and the demo source before anybody uses the stores, and some words when all is ready.

The stores are spoken to by a short-lived process, `python -m workers.prepare`, because the supervisor has no client
for them and must not wait. PostgreSQL may be away: then it is tried again in the background until it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from daemon.adapters.embedded.session import with_embedded_addresses
from daemon.cli.welcome import welcome
from daemon.config.schema import Settings
from daemon.errors import HeadgateError, SettingsError, StoreUnavailable

log = logging.getLogger(__name__)

PREPARE_MODULE = "workers.prepare"

#: A migration may have to wait for another instance's; beyond this something hangs.
PREPARE_TIMEOUT_S = 150.0
#: How long the processes that use the stores wait for a first try; then they start all the same.
FIRST_TRY_S = 20.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 15.0
REASON_CHARS_MAX = 2000


class Start:
    """The start of one instance; its methods are handed to the supervisor."""

    def __init__(self) -> None:
        #: What the daemon is to end with although its supervisor ended well; 0: nothing.
        self.exit_code = 0
        self._retrying: asyncio.Task[None] | None = None
        self._reason = "it was not tried yet"

    def missing(self) -> list[str]:
        """Why no event can be taken although all processes run: without its tables no key is known."""
        return [f"the database is not prepared: {self._reason}"] if self._reason else []

    def resolve(self, settings: Settings) -> Settings:
        """Fill in the addresses of the embedded servers where the settings name none."""
        return with_embedded_addresses(settings)

    async def prepare(self, settings: Settings) -> None:
        """
        Prepare the database; one that is away is tried again in the background.

        Raises SettingsError for a database that never can be used.
        """
        try:
            async with asyncio.timeout(FIRST_TRY_S):
                await prepare(self.resolve(settings))
        except TimeoutError:
            self._reason = f"no end after {FIRST_TRY_S:g} s"
            log.warning("the database is not prepared after %g s; trying again", FIRST_TRY_S)
        except SettingsError:
            raise
        except HeadgateError as error:
            self._reason = str(error)
            log.warning("the database is not prepared yet, trying again: %s", error)
        else:
            self._reason = ""
            return
        self._retrying = asyncio.get_running_loop().create_task(self._retry(settings))

    async def announce(self, settings: Settings) -> None:
        """Print where everything is: now, or when the database is prepared at last."""
        if self._retrying is None or self._retrying.done():
            tell(settings)
        else:
            self._retrying.add_done_callback(
                lambda task: None if task.cancelled() else self._told_late(settings)
            )

    def _told_late(self, settings: Settings) -> None:
        if not self.exit_code:
            tell(settings)

    async def _retry(self, settings: Settings) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)
            try:
                await prepare(self.resolve(settings))
            except SettingsError as error:
                log.error("the database can't be used: %s", error)  # noqa: TRY400  the error says it all
                # The same settings would fail for ever: the daemon ends as on TERM, with this exit code.
                self.exit_code = error.exit_code
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except HeadgateError as error:
                self._reason = str(error)
                log.info("the database is not prepared yet: %s", error)
            else:
                self._reason = ""
                log.info("the database is prepared")
                return


async def prepare(settings: Settings) -> None:
    """
    Bring the schema up to date and see to the demo source and credentials.json, in a process of its own.

    Raises StoreUnavailable when that should be tried again, SettingsError when it never will work.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        PREPARE_MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    try:
        # By standard input: an environment or an argument could be read by others.
        async with asyncio.timeout(PREPARE_TIMEOUT_S):
            _, said = await process.communicate(msgspec.json.encode(settings))
    except TimeoutError:
        raise StoreUnavailable(f"preparing the database took longer than {PREPARE_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode == 0:
        return
    reason = (
        said.decode("utf-8", "replace").strip()[-REASON_CHARS_MAX:] or f"it ended with {process.returncode}"
    )
    if process.returncode == SettingsError.exit_code:
        raise SettingsError(reason)
    raise StoreUnavailable(reason)


def tell(settings: Settings) -> None:
    """Print the welcome. A reader that is gone is no reason to end."""
    terminal = sys.stdout.isatty()
    text = welcome(settings, _command(), colour=terminal and not os.environ.get("NO_COLOR"))
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()


def _command() -> str:
    """How this program was called, for lines that are to be pasted."""
    # An installation's command is a script in front of this program, which says so.
    name = os.environ.get("HEADGATE_COMMAND") or (sys.argv[0] if sys.argv else "")
    return name if Path(name).name == "headgate" else "headgate"


def _environment() -> dict[str, str]:
    """The helper's environment: this code can be found, and nothing of the service manager's or the settings'."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADGATE_", "LISTEN_"))
        and name not in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"}
    }
    code_dir = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [code_dir, os.environ.get("PYTHONPATH", "")]))
    kept["PYTHONSAFEPATH"] = "1"
    return kept
