"""`headgate check`: is all well with these settings on this machine?"""

from __future__ import annotations

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Validate the settings, try everything they name, and print what they come to.

Looks at the settings file, the data folder and its disk, the ports, PostgreSQL, Redis and Kafka (brokers, login,
topics, replicas), or at the embedded servers where none are named. Changes nothing. Secrets are never printed.

Ends with 78 for settings that can't be used, with 69 when something that was tried fails, else with 0: warnings
alone are no failure.

\b
  headgate check --config config/headgate.toml   before a start
  headgate check                                 beside a running instance
  headgate check --json | jq '.checks[] | select(.state != "ok")'
"""


@click.command(help=HELP)
@settings_option
@json_option
def command(config: str | None, as_json: bool) -> int:
    """Look at everything, print it, and give the exit code."""
    from daemon.cli.background import run_async
    from daemon.cli.checking.digest import differences
    from daemon.cli.checking.look import look
    from daemon.cli.checking.report import print_report
    from daemon.cli.output import print_json
    from daemon.cli.settings import read_settings
    from daemon.errors import Unavailable

    settings = read_settings(config)
    findings = run_async(lambda: look(settings, config))
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "checks": findings, "settings": differences(settings)})
    else:
        print_report(findings, differences(settings))
    return Unavailable.exit_code if failed else 0
