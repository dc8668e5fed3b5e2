"""`headgate keys`: what callers authenticate with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.catalog import KeyInfo, SourceCatalog

HELP = """
List and revoke keys.

Keys are made with their source (headgate sources create). Only a hash of each is kept, and its first characters, so
that people can tell one from another.

\b
  headgate keys list
  headgate keys revoke key_9aJ2mR81nQxZ0pTf
"""

HELP_LIST = """
List all keys, revoked ones too: id, first characters, kind (pipeline, secret) and source.

\b
  headgate keys list
  headgate keys list --source src_4k2GVYkO3pBn1yQd --json | jq -r '.[] | select(.revoked_at == null).id'
"""

HELP_REVOKE = """
Revoke a key for good, named by its id, by its first characters as `keys list` shows them, or by the whole key.

Requests with it are answered 401 within a second. The source and its other keys stay as they are. Revoking a key
that is revoked already changes nothing.

\b
  headgate keys revoke key_9aJ2mR81nQxZ0pTf
  headgate keys revoke dk_live_Ab3x
"""


@click.group(help=HELP)
def command() -> None:
    """Keys."""


@command.command("list", help=HELP_LIST)
@click.option("--source", metavar="ID", help="Only those of this source.")
@settings_option
@json_option
def list_(source: str | None, config: str | None, as_json: bool) -> None:
    """Print all keys."""
    from daemon.cli.output import print_json, print_table

    async def find(catalog: SourceCatalog) -> list[KeyInfo]:
        if source is not None:
            await catalog.get_source(source)
        return [key for key in await catalog.list_keys() if source in {None, key.source_id}]

    keys: list[KeyInfo] = with_catalog(config, find)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    print_table(
        ("ID", "PREFIX", "KIND", "STATE", "TENANT", "SOURCE", "CREATED"),
        [
            (
                key.id,
                f"{key.prefix}…",
                key.kind,
                "revoked" if key.revoked_at else "active",
                key.tenant,
                key.source_id,
                key.created_at.strftime("%Y-%m-%d %H:%M"),
            )
            for key in keys
        ],
        "there are no keys; they come with a source: headgate sources create --tenant T --name N",
    )


@command.command(help=HELP_REVOKE)
@click.argument("id_or_prefix", metavar="ID_OR_PREFIX")
@settings_option
@json_option
def revoke(id_or_prefix: str, config: str | None, as_json: bool) -> None:
    """Revoke a key."""
    from daemon.cli.output import print_json

    key: KeyInfo = with_catalog(config, lambda catalog: catalog.revoke_key(id_or_prefix.removesuffix("…")))
    if as_json:
        print_json(_document(key))
    else:
        click.echo(f"{key.id} ({key.prefix}…, {key.kind}, {key.source_id or key.tenant}) is revoked")


def _document(key: KeyInfo) -> dict[str, Any]:
    """A key as the command line prints it: `source` is the id of its source, or null."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "kind": key.kind,
        "tenant": key.tenant,
        "source": key.source_id,
        "merchant_id": key.merchant_id,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
