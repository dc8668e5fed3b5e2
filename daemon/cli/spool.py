"""`headgate spool`: what waits on this machine for Kafka."""

from __future__ import annotations

import click

from daemon.cli.app import json_option, settings_option

HELP = """
Look after the spool: the events that were acknowledged while Kafka was away and lie on this machine's disk.

A running instance drains it by itself; these commands are for looking, and for when there is no running instance.
They work beside one too. docs/durability.md says what is promised.

\b
  headgate spool status
  headgate spool drain
"""

HELP_STATUS = """
Show what each publisher's file holds: records that wait for Kafka, their bytes, the age of the oldest, and rows that
were put aside because Kafka refuses them or because they are damaged.

\b
  headgate spool status
  headgate spool status --json | jq .records
"""

HELP_DRAIN = """
Send what waits to Kafka, oldest first, and show how it goes.

Files that a living publisher has in hand are left to it, and watched; all others, also those of slots that are no
more, are drained from here. Ends with 0 when nothing waits any more.

--refused tries again what Kafka has refused as too large, once its max.message.bytes was raised.

\b
  headgate spool drain
  headgate spool drain --slot 3 --rate 20000
  headgate spool drain --refused
"""

HELP_VERIFY = """
Check every file as a whole (SQLite's own check) and every row in it (its checksum, what it holds), and name what is
bad. Changes nothing; what is bad is put aside by the publisher when it meets it.

Ends with 69 when anything is bad.

\b
  headgate spool verify
  headgate spool verify --json | jq '.slots[].bad[]'
"""

HELP_EXPORT = """
Write the records as JSON lines, oldest first, with all that Kafka would have got: topic, partition, key, headers,
timestamp and value. Takes nothing away.

Without options the records that wait for Kafka; --refused, --damaged and --kept (without Kafka the local log is the
whole log) choose others instead. Of damaged rows what can still be decoded is written, marked with "fault".

\b
  headgate spool export --output events.jsonl
  headgate spool export --refused | jq -r .id
  headgate spool export | jq -c .value
"""

_slots = click.option(
    "--slot", "slots", type=click.IntRange(min=0), multiple=True, metavar="N",
    help="Only the file of this publisher slot; may be repeated.",
)  # fmt: skip


@click.group(help=HELP)
def command() -> None:
    """The commands below it do the work."""


@command.command(help=HELP_STATUS)
@_slots
@settings_option
@json_option
def status(slots: tuple[int, ...], config: str | None, as_json: bool) -> None:
    """Print what lies there."""
    from daemon.cli.settings import read_settings
    from daemon.cli.spooling.status import show_status

    show_status(read_settings(config), slots, as_json=as_json)


@command.command(help=HELP_DRAIN)
@_slots
@click.option(
    "--rate", type=click.IntRange(min=1), metavar="N",
    help="Records per second; else publisher.drain_records_per_s.",
)  # fmt: skip
@click.option("--refused", is_flag=True, help="Try what Kafka has refused once more.")
@settings_option
@json_option
def drain(slots: tuple[int, ...], rate: int | None, refused: bool, config: str | None, as_json: bool) -> int:
    """Send it to Kafka."""
    from daemon.cli.background import run_async
    from daemon.cli.settings import read_settings
    from daemon.cli.spooling.drain import drain_all

    settings = read_settings(config)
    return run_async(lambda: drain_all(settings, slots, rate=rate, refused=refused, as_json=as_json))


@command.command(help=HELP_VERIFY)
@_slots
@settings_option
@json_option
def verify(slots: tuple[int, ...], config: str | None, as_json: bool) -> int:
    """Check everything."""
    from daemon.cli.settings import read_settings
    from daemon.cli.spooling.verify import verify_all

    return verify_all(read_settings(config), slots, as_json=as_json)


@command.command(help=HELP_EXPORT)
@click.option(
    "-o", "--output", metavar="FILE", help="Write to this new file (mode 0600) instead of standard output."
)
@click.option("--refused", is_flag=True, help="The records of rows that Kafka has refused.")
@click.option("--damaged", is_flag=True, help="What can be decoded of damaged rows.")
@click.option("--kept", is_flag=True, help="The records that the local log keeps because there is no Kafka.")
@_slots
@settings_option
@json_option
def export(
    output: str | None,
    refused: bool,
    damaged: bool,
    kept: bool,
    slots: tuple[int, ...],
    config: str | None,
    as_json: bool,
) -> None:
    """Write the records."""
    from daemon.cli.settings import read_settings
    from daemon.cli.spooling.export import export_all

    wanted = [
        name for name, is_wanted in (("refused", refused), ("damaged", damaged), ("kept", kept)) if is_wanted
    ]
    export_all(read_settings(config), slots, wanted or ["waiting"], output, as_json=as_json)
