"""`headgate events`: what is stored."""

from __future__ import annotations

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Look at the events that the processor has stored in PostgreSQL.

What is on the log, stored or not, is shown by `headgate tail`.

\b
  headgate events count
"""

HELP_COUNT = """
Count the stored events, of all contracts: rows, so each event once.

\b
  headgate events count
  headgate events count --tenant acme --json
"""


@click.group(help=HELP)
def command() -> None:
    """Stored events."""


@command.command(help=HELP_COUNT)
@click.option("--tenant", metavar="T", help="Only those of this tenant.")
@settings_option
@json_option
def count(tenant: str | None, config: str | None, as_json: bool) -> None:
    """Count the stored events."""
    from daemon.adapters.postgres.events.reading import count_events
    from daemon.cli.database import checked, with_database
    from daemon.cli.output import on_terminal, print_json
    from daemon.cli.settings import read_settings

    if tenant is not None:
        checked(tenant, "--tenant")
    found = with_database(read_settings(config), lambda pool: count_events(pool, tenant))
    if as_json:
        print_json({"count": found})
    elif on_terminal():
        click.echo(f"{found:,} events{f' of {tenant}' if tenant else ''} are stored")
    else:
        click.echo(found)
