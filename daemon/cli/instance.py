"""Speaking to the running instance of a data folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from daemon.adapters.embedded.rundir import run_dir_for
from daemon.config.schema import Settings
from daemon.errors import Unavailable
from daemon.supervisor.client import Client

#: In the data folder: where the instance's sockets are. They depend on its environment (systemd's
#: RUNTIME_DIRECTORY), which a command does not have.
RUN_DIR_FILE = "run.dir"


def publish_run_dir(data_dir: Path, run_dir: Path) -> None:
    """Say in the data folder where this instance's sockets are; to be called with the folder locked."""
    draft = data_dir / f".{RUN_DIR_FILE}.new"
    draft.write_text(f"{run_dir}\n", encoding="utf-8")
    draft.replace(data_dir / RUN_DIR_FILE)


def client_for(settings: Settings) -> Client:
    """Return a client of the supervisor that runs on the data folder. Raises Unavailable when none can."""
    data_dir = Path(settings.data_dir)
    if not data_dir.is_dir():
        raise Unavailable(
            f"there is no data folder {data_dir}: Headgate does not run there; start it with: headgate run"
        )
    with contextlib.suppress(OSError, UnicodeDecodeError):
        named = Path((data_dir / RUN_DIR_FILE).read_text(encoding="utf-8").rstrip("\n"))
        if named.is_absolute():
            return Client(named)
    return Client(run_dir_for(data_dir))
