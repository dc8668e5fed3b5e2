"""`headgate restart --rolling`: new processes and new settings, without losing a request."""

from __future__ import annotations

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Replace every publisher, processor and frontend of the running instance, one after the other, and read the settings again.

Each slot's new process takes over before the old one finishes, so no request is lost. Bad settings change nothing;
when a new process does not get ready, its old one stays and the rest is left as it is: then the exit code is not 0.
The embedded servers, the data folder and the ports change with a real restart only.

\b
  headgate restart --rolling      after editing the settings file, or an upgrade
"""


@click.command(help=HELP)
@click.option("--rolling", is_flag=True, help="Required: says that slots are replaced one by one.")
@settings_option
@json_option
def command(rolling: bool, config: str | None, as_json: bool) -> None:
    """Ask the supervisor to roll and show how it goes."""
    from daemon.cli.instance import client_for
    from daemon.cli.output import paint, print_json
    from daemon.cli.settings import read_settings
    from daemon.errors import UsageError

    if not rolling:
        raise UsageError(
            "say --rolling; to stop and start everything, stop `headgate run` (or systemctl restart headgate)"
        )
    client = client_for(read_settings(config))
    steps: list[str] = []

    def progress(text: str) -> None:
        steps.append(text)
        if not as_json:
            click.echo(f"{paint('·', '2')} {text}")

    result = client.roll(progress)
    if as_json:
        print_json({"result": result, "steps": steps})
    else:
        click.echo(paint(result, "32"))
