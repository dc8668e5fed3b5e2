"""`headgate contracts`: what events of each type carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.catalog import SourceCatalog
    from daemon.adapters.postgres.contracts import Applied
    from daemon.events.contract.definition import StoredContract
    from daemon.events.contract.difference import Change

HELP = """
Say what ResultFly's events carry: which event types a tenant has, and what properties each of them.

Contracts stand in a file, JSON or TOML by its name: event type → contract. Event types that are not in it stay as they
are. Changes are in force within a second, and older versions are kept. docs/cdp.md says more.

\b
  headgate contracts diff contracts.toml --tenant acme
  headgate contracts apply contracts.toml --tenant acme
"""

HELP_APPLY = """
Put all contracts of a file into force, or none; an unknown tenant is made.

\b
  {"purchase_completed": {
     "properties": {"order_id": {"type": "string", "required": true}, "amount": {"type": "number"}},
     "additionalProperties": "reject"}}

\b
  headgate contracts apply contracts.json --tenant acme
  headgate contracts apply contracts.toml --tenant acme --json | jq -r '.contracts[] | select(.state != "unchanged")'
"""

HELP_DIFF = """
Show what `apply` would change, and which changes break senders: events that are good now and would be refused.

Ends with 0 whether there are differences or not; with --exit-code it ends with 1 where there are some.

\b
  headgate contracts diff contracts.toml --tenant acme
  headgate contracts diff contracts.toml --tenant acme --json | jq -e '.breaking | not'
"""

HELP_LIST = """
List the contracts of a tenant that are in force.

\b
  headgate contracts list --tenant acme
  headgate contracts list --tenant acme --json | jq -r '.[].eventType'
"""

#: What `diff --exit-code` ends with where there are differences.
DIFFERENT = 1

_MARKS = {"added": "+", "removed": "-", "changed": "~"}


def _named(_context: click.Context, _parameter: click.Parameter, tenant: str) -> str:
    """A tenant's name that can be one."""
    from daemon.adapters.postgres import checks

    return checks.name(tenant, "tenant")


_tenant_option = click.option(
    "--tenant", required=True, metavar="T", callback=_named, help="Whose contracts."
)


@click.group(help=HELP)
def command() -> None:
    """Contracts."""


@command.command(help=HELP_APPLY)
@click.argument("file", metavar="FILE")
@_tenant_option
@settings_option
@json_option
def apply(file: str, tenant: str, config: str | None, as_json: bool) -> None:
    """Put a file's contracts into force."""
    from daemon.cli.contracting.given import contracts_from
    from daemon.cli.output import paint, print_json, print_table

    wanted = contracts_from(file)
    applied = with_catalog(config, lambda catalog: catalog.contracts.apply(tenant, wanted))
    changes = {one.now.eventType: _changes(one) for one in applied}
    if as_json:
        contracts = [
            {
                "eventType": one.now.eventType,
                "state": one.state,
                "version": one.now.version,
                "changes": changes[one.now.eventType],
            }
            for one in applied
        ]
        print_json({"tenant": tenant, "contracts": contracts})
        return
    print_table(
        ("EVENT TYPE", "STATE", "VERSION", "CHANGES"),
        [
            (
                one.now.eventType,
                one.state,
                one.now.version,
                "; ".join(_words(change) for change in changes[one.now.eventType]),
            )
            for one in applied
        ],
        "the file holds no contracts",
    )
    breaking = sorted(name for name, found in changes.items() if any(change.breaking for change in found))
    if breaking:
        text = f"events that were good may be refused now: {', '.join(breaking)}"
        click.echo(paint(text, "2"), err=True)


@command.command(help=HELP_DIFF)
@click.argument("file", metavar="FILE")
@_tenant_option
@click.option("--exit-code", is_flag=True, help=f"End with {DIFFERENT} where there are differences.")
@settings_option
@json_option
def diff(file: str, tenant: str, exit_code: bool, config: str | None, as_json: bool) -> int:
    """Show what a file would change."""
    from daemon.cli.contracting.given import contracts_from
    from daemon.cli.output import print_json
    from daemon.events.contract.difference import differences

    wanted = contracts_from(file)
    stored = with_catalog(config, lambda catalog: catalog.contracts.in_force(tenant))
    known = {one.eventType: one for one in stored}
    found = []
    for event_type, contract in wanted.items():
        before = known.get(event_type)
        changes = differences(None if before is None else before.contract, contract)
        if changes:
            found.append((event_type, None if before is None else before.version, changes))
    if as_json:
        print_json(
            {
                "tenant": tenant,
                "breaking": any(change.breaking for _, _, changes in found for change in changes),
                "differences": [
                    {"eventType": event_type, "version": version, "changes": changes}
                    for event_type, version, changes in found
                ],
                "untouched": [name for name in known if name not in wanted],
            }
        )
    else:
        _print_differences(found)
    return DIFFERENT if found and exit_code else 0


@command.command("list", help=HELP_LIST)
@_tenant_option
@settings_option
@json_option
def list_(tenant: str, config: str | None, as_json: bool) -> None:
    """Print the contracts in force."""
    from daemon.cli.output import print_json, print_table
    from daemon.errors import NotFound

    async def look(catalog: SourceCatalog) -> list[StoredContract]:
        found = await catalog.contracts.in_force(tenant)
        if not found and not await catalog.contracts.has_tenant(tenant):
            raise NotFound(f"there is no tenant {tenant!r}; `headgate contracts apply` makes one")
        return found

    found = with_catalog(config, look)
    if as_json:
        print_json(found)
        return
    print_table(
        ("EVENT TYPE", "VERSION", "SINCE", "OTHERS", "PROPERTIES"),
        [
            (
                one.eventType,
                one.version,
                one.createdAt.strftime("%Y-%m-%d %H:%M:%SZ"),
                one.additionalProperties,
                " ".join(
                    f"{name}:{prop.type}{'' if prop.required else '?'}"
                    for name, prop in one.properties.items()
                ),
            )
            for one in found
        ],
        f"there are no contracts; make some: headgate contracts apply FILE --tenant {tenant}",
    )


def _changes(applied: Applied) -> list[Change]:
    from daemon.events.contract.difference import differences

    before = None if applied.before is None else applied.before.contract
    return differences(before, applied.now.contract)


def _words(change: Change) -> str:
    mark = _MARKS[change.kind]
    return f"{mark} {change.text}{' (breaking)' if change.breaking else ''}"


def _print_differences(found: Sequence[tuple[str, int | None, Sequence[Any]]]) -> None:
    from daemon.cli.output import cell_text, on_terminal, paint

    if not found and on_terminal():
        click.echo("no differences")
    for event_type, version, changes in found:
        click.echo(cell_text(event_type) + ("" if version is None else f" (version {version})"))
        for change in changes:
            click.echo(f"  {paint(cell_text(_words(change)), '31' if change.breaking else '32')}")
