"""`headgate tail`: show and follow the events on the log."""

from __future__ import annotations

import sys

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Show the events on the log, oldest first, and follow it.

Reads Kafka when kafka.brokers is set, else the local log in the data folder; events that wait in the local
spool while Kafka is away are not shown before they are on Kafka. Reading takes nothing away and joins no
consumer group.

In a pipe (or with --json) each event is one line, the envelope as it stands on the log. On a terminal it is a
block in colours, under a line that says when and where from.

Without --since and --limit: in a pipe all that is there, on a terminal the newest 20. With --follow: the
newest 10, then what comes in until Ctrl-C.

\b
  headgate tail                               the newest events
  headgate tail --follow --source shop        what one source sends, as it comes
  headgate tail --since 5m --type track       the last five minutes' tracks
  headgate tail --since 2026-01-31T09:00Z --json | jq -r .tenant | sort | uniq -c
  headgate tail --follow --limit 1            wait for the next event, then end
"""


@click.command(help=HELP)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option(
    "--since",
    metavar="WHEN",
    help="Events received since then: 30s, 5m, 2h, 1d, or an ISO 8601 time (without zone: local time).",
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="The newest N events; with --follow: the next N, then end.",
)
@click.option("--source", metavar="ID|NAME", help="Only of this source (src_… or its name).")
@click.option("--type", "kind", metavar="TYPE", help="Only of this type: page, track, identify, group, …")
@settings_option
@json_option
def command(
    follow: bool,
    since: str | None,
    limit: int | None,
    source: str | None,
    kind: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Read the options, make the reader and the printer, and let them run."""
    from daemon.cli.background import run_async
    from daemon.cli.settings import read_settings
    from daemon.cli.tailing.events import line_printer, pretty_printer
    from daemon.cli.tailing.follow import show
    from daemon.cli.tailing.selection import Wanted, since_ms, started_ms

    settings = read_settings(config)
    pretty = sys.stdout.isatty() and not as_json
    if limit is None and since is None:
        limit, backlog = (None, 10) if follow else (20 if pretty else None, 0)
    else:
        backlog = 0
    start_ms = since_ms(since) if since else None
    if follow and start_ms is None and not backlog:
        # From this process's start on: what is sent after it was called is not missed.
        start_ms = started_ms()
    wanted = Wanted(
        since_ms=start_ms, follow=follow, limit=limit, backlog=backlog, type=kind or "", source=source or ""
    )
    run_async(lambda: show(settings, wanted, pretty_printer() if pretty else line_printer()))
