"""
`headgate run`: this process becomes the supervisor.

It stays small, so nothing is imported here that speaks to a store or paints a table; what has to be done with
the stores at the start (schema, demo source) is done by a process of its own, `workers.prepare`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from daemon.cli.app import settings_option

HELP = """
Run Headgate in the foreground until Ctrl-C or TERM, which let it finish what it accepted.

Without servers in the settings, PostgreSQL and Valkey are started in the data folder and events go to the local
log: nothing else has to be installed. When all is ready it prints where events go, the demo source, and a curl line
to try; in production mode the keys stay in <data_dir>/credentials.json.

HUP, or `headgate restart --rolling`, reads the settings again and replaces every process without losing a request.
A second Ctrl-C stops at once.

Ends with 0 after a signal, 78 for settings that can't be used, 73 when another instance has the data folder, 69
when a port is taken, 70 when a role's processes crash all the time.

\b
  headgate run --config config/dev.toml
  HEADGATE_INGEST_PORT=9000 HEADGATE_ADMIN_PORT=9001 HEADGATE_DATA_DIR=/tmp/two headgate run
  HEADGATE_KAFKA__BROKERS=127.0.0.1:9092 headgate run
"""


@click.command(help=HELP)
@settings_option
def command(config: str | None) -> int:
    """Lock the data folder and be the supervisor; gives the exit code."""
    from daemon.adapters.embedded.rundir import run_dir_for
    from daemon.adapters.embedded.session import lock_for_instance
    from daemon.cli.instance import publish_run_dir
    from daemon.cli.settings import read_settings
    from daemon.cli.start import Start
    from daemon.supervisor.main import run as supervise

    settings = read_settings(config)
    data_dir = Path(settings.data_dir)
    with lock_for_instance(data_dir, _waiting):
        run_dir = run_dir_for(data_dir)
        publish_run_dir(data_dir, run_dir)
        start = Start()
        code = supervise(
            settings,
            reload_settings=lambda: read_settings(config),
            announce=start.announce,
            prepare=start.prepare,
            missing=start.missing,
            run_dir=run_dir,
            resolve=start.resolve,
        )
        return start.exit_code or code


def _waiting(pid: int) -> None:
    sys.stderr.write(f"headgate: waiting for process {pid}, a headgate command that uses the data folder\n")
