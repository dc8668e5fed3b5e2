"""`headgate profiles`: whose events they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daemon.cli.app import json_option, settings_option

if TYPE_CHECKING:
    from daemon.adapters.postgres.profiles.lookup import Profile

HELP = """
Look at the profiles that ResultFly's events make: which identifiers are one person's, and why.

\b
  headgate profiles show jane@example.com --tenant acme
"""

HELP_SHOW = """
Show a profile, named by one of its identifiers (an external id, e-mail, phone number or device key) or by its id.

E-mails and phone numbers may be written as people write them. Where a text is an identifier of several kinds, the
better kind counts: external id, e-mail, phone number, device key. The id of a profile that was merged into another
one shows that one.

\b
  headgate profiles show jane@example.com --tenant acme
  headgate profiles show "+49 30 123456" --tenant acme --json | jq -r .profile_id
"""


@click.group(help=HELP)
def command() -> None:
    """Profiles."""


@command.command(help=HELP_SHOW)
@click.argument("identifier", metavar="IDENTIFIER")
@click.option("--tenant", required=True, metavar="T", help="Whose profile.")
@settings_option
@json_option
def show(identifier: str, tenant: str, config: str | None, as_json: bool) -> None:
    """Show a profile."""
    from daemon.adapters.postgres.profiles.lookup import find_profile
    from daemon.cli.database import checked, with_database
    from daemon.cli.output import print_json
    from daemon.cli.settings import read_settings

    checked(identifier, "IDENTIFIER")
    checked(tenant, "--tenant")
    settings = read_settings(config)
    region = settings.resultfly.region(tenant)
    profile = with_database(settings, lambda pool: find_profile(pool, tenant, identifier, region))
    if as_json:
        print_json(_document(profile))
    else:
        _print(profile)


def _document(profile: Profile) -> dict[str, Any]:
    """A profile as the command line prints it."""
    return {
        "profile_id": profile.id,
        "tenant": profile.tenant,
        "identifiers": [{"type": one.type, "value": one.value} for one in profile.identifiers],
        "merges": [{"from": one.from_id, "into": one.into_id, "cause": one.cause} for one in profile.merges],
        "conflicts": [
            {"type": one.type, "value": one.value, "kept_by": one.kept_by, "events": one.events}
            for one in profile.conflicts
        ],
    }


def _print(profile: Profile) -> None:
    from daemon.cli.output import print_fields, print_table

    print_fields([("profile", profile.id), ("tenant", profile.tenant)])
    click.echo()
    print_table(("TYPE", "VALUE"), profile.identifiers, "it has no identifiers")
    if profile.merges:
        click.echo()
        print_table(
            ("MERGED", "FROM", "INTO", "CAUSE"),
            [(f"{one.at:%Y-%m-%d %H:%M}", one.from_id, one.into_id, one.cause) for one in profile.merges],
            "",
        )
    if profile.conflicts:
        click.echo()
        print_table(
            ("CONFLICT", "VALUE", "STAYS WITH", "EVENTS", "LAST"),
            [
                (one.type, one.value, one.kept_by, one.events, f"{one.at:%Y-%m-%d %H:%M}")
                for one in profile.conflicts
            ],
            "",
        )
