"""`headgate slots`: the processes of the running instance."""

from __future__ import annotations

from typing import Any

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Show the processes of the running instance: one line per slot with its state, restarts and queue.

A slot is a place for one process. READY works; STARTING, DRAINING and STOPPING are on their way; BACKOFF waits for
a restart after a crash; PARKED has crashed too often and waits for `headgate slots unpark`.

\b
  headgate slots
  headgate slots --json | jq '.slots[] | select(.state != "READY")'
  headgate slots unpark frontend 2
"""

HELP_UNPARK = """
Start a parked slot again, once the cause of its crashes is mended.

\b
  headgate slots unpark publisher 0
  headgate slots unpark --all
"""


@click.group(help=HELP, invoke_without_command=True)
@settings_option
@json_option
@click.pass_context
def command(context: click.Context, config: str | None, as_json: bool) -> None:
    """Print the table, unless a sub-command follows."""
    if context.invoked_subcommand is not None:
        return
    from daemon.cli.output import print_json, print_table

    document = _client(config).slots()
    if as_json:
        print_json(document)
        return
    slots: list[dict[str, Any]] = document["slots"]
    print_table(
        ("SLOT", "STATE", "PID", "RESTARTS", "QUEUE", "LAST BEAT", "LAST CRASH"),
        [
            (
                f"{slot['role']}/{slot['slot']}",
                slot["state"],
                slot["pid"],
                slot["restarts"],
                slot["queue"],
                f"{slot['beat_age_s']:.1f} s ago" if slot["beat_age_s"] is not None else None,
                (slot.get("last_exit") or "").splitlines()[0] if slot.get("last_exit") else None,
            )
            for slot in slots
        ],
        "there are no slots",
    )


@command.command(help=HELP_UNPARK)
@click.argument("role", required=False)
@click.argument("slot", type=click.IntRange(min=0), required=False)
@click.option("--all", "everything", is_flag=True, help="Every slot that is parked.")
@settings_option
@json_option
def unpark(
    role: str | None,
    slot: int | None,
    everything: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Bring back one slot, or all that are parked."""
    from daemon.cli.output import print_json
    from daemon.errors import UsageError

    if everything == (role is not None) or (role is None) != (slot is None):
        raise UsageError("name a role and a slot (frontend 2), or --all")
    client = _client(config)
    wanted = (
        [(one["role"], one["slot"]) for one in client.slots()["slots"] if one["state"] == "PARKED"]
        if role is None or slot is None
        else [(role, slot)]
    )
    for name, number in wanted:
        text = client.unpark(name, number)
        if not as_json:
            click.echo(text)
    if as_json:
        print_json({"unparked": [{"role": name, "slot": number} for name, number in wanted]})
    elif not wanted:
        click.echo("no slot is parked")


def _client(config: str | None) -> Any:
    from daemon.cli.instance import client_for
    from daemon.cli.settings import read_settings

    return client_for(read_settings(config))
