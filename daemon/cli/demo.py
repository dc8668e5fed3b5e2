"""`headgate demo`: pages that send events with the browser SDKs, and show what came of them."""

from __future__ import annotations

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Serve a page on this machine that loads the browser SDK from the running instance, with the demo source's key.

It has a small shop and a button for each method. On its left it shows the events that it sends and how they were
answered, on its right what the log received. The page is on another origin than the gateway, as a site's pages are.
A second page does the same with TrackLayer's pixel and the demo merchant.

Follows the log like `headgate tail`. Ends with Ctrl-C.

\b
  headgate demo
  headgate demo --port 8090
"""


@click.command(help=HELP)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port on 127.0.0.1; without it a free one.",
)
@settings_option
@json_option
def command(port: int, config: str | None, as_json: bool) -> None:
    """Find the instance, and serve until Ctrl-C."""
    from daemon.cli.background import run_async
    from daemon.cli.demoing.serve import serve
    from daemon.cli.settings import read_settings

    settings = read_settings(config)
    run_async(lambda: serve(settings, port, as_json=as_json))
