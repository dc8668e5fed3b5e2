"""`headgate merchants`: whose conversion events TrackLayer takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.apikeys import CreatedKey
    from daemon.adapters.postgres.catalog import SourceCatalog
    from daemon.adapters.postgres.merchants import MerchantInfo

HELP = """
Create, list, disable and enable merchants.

A merchant is a shop whose conversion events TrackLayer takes: its pages name it (data-merchant of /v1/pixel.js), its
servers send with its API key (tl_…). Changes are in force within a second.

\b
  headgate merchants create --name 'Acme Shop'
  headgate merchants list
  headgate keys create --kind merchant --merchant-id 3f2504e0-4f89-41d3-9a0c-0305e82c3301
"""

HELP_CREATE = """
Create a merchant and print it with an API key for its servers. The key is shown this once: only its hash is kept.

Without --tenant it gets a tenant of its own, called like it. A shop that comes from elsewhere keeps the id that its
pages have (--merchant-id).

\b
  headgate merchants create --name 'Acme Shop'
  headgate merchants create --name 'Acme Shop' --tenant acme --json | jq -r .api_key
"""

HELP_LIST = """
List all merchants.

\b
  headgate merchants list
  headgate merchants list --json | jq -r '.[] | select(.tenant == "acme").merchant_id'
"""

HELP_DISABLE = """
Disable a merchant: its pages are answered 404 and its keys 401, within a second. Nothing is deleted.

\b
  headgate merchants disable 3f2504e0-4f89-41d3-9a0c-0305e82c3301
"""

HELP_ENABLE = """
Enable a disabled merchant again; its keys are the ones it had.

\b
  headgate merchants enable 3f2504e0-4f89-41d3-9a0c-0305e82c3301
"""


@click.group(help=HELP)
def command() -> None:
    """Merchants."""


@command.command(help=HELP_CREATE)
@click.option("--name", required=True, metavar="N", help="What people call it.")
@click.option("--tenant", metavar="T", help="Whose it is; made if it is new. Else a tenant of its own.")
@click.option("--merchant-id", metavar="ID", help="A UUID that its pages have already; else a new one.")
@settings_option
@json_option
def create(name: str, tenant: str | None, merchant_id: str | None, config: str | None, as_json: bool) -> None:
    """Create a merchant and print its key."""
    from daemon.cli.output import paint, print_fields, print_json

    async def make(catalog: SourceCatalog) -> tuple[MerchantInfo, CreatedKey]:
        merchant = await catalog.merchants.create(name, tenant, merchant_id)
        return merchant, await catalog.api_keys.create_for_merchant(merchant.merchant_id)

    merchant, created = with_catalog(config, make)
    if as_json:
        print_json(msgspec.to_builtins(merchant) | {"api_key": created.api_key, "key_id": created.key.id})
        return
    print_fields([*_fields(merchant), ("api_key", created.api_key)])
    click.echo(paint("The key is shown this once; keep it.", "2"), err=True)


@command.command("list", help=HELP_LIST)
@settings_option
@json_option
def list_(config: str | None, as_json: bool) -> None:
    """Print all merchants."""
    from daemon.cli.output import print_json, print_table

    merchants = with_catalog(config, lambda catalog: catalog.merchants.list())
    if as_json:
        print_json(merchants)
        return
    print_table(
        ("MERCHANT", "TENANT", "NAME", "STATE", "CREATED"),
        [
            (
                merchant.merchant_id,
                merchant.tenant,
                merchant.name,
                "enabled" if merchant.enabled else "disabled",
                merchant.created_at.strftime("%Y-%m-%d %H:%M"),
            )
            for merchant in merchants
        ],
        "there are no merchants; make one: headgate merchants create --name N",
    )


@command.command(help=HELP_DISABLE)
@click.argument("merchant_id", metavar="ID")
@settings_option
@json_option
def disable(merchant_id: str, config: str | None, as_json: bool) -> None:
    """Disable a merchant."""
    _print(
        with_catalog(config, lambda catalog: catalog.merchants.enable(merchant_id, enabled=False)),
        as_json=as_json,
    )


@command.command(help=HELP_ENABLE)
@click.argument("merchant_id", metavar="ID")
@settings_option
@json_option
def enable(merchant_id: str, config: str | None, as_json: bool) -> None:
    """Enable a merchant."""
    _print(
        with_catalog(config, lambda catalog: catalog.merchants.enable(merchant_id, enabled=True)),
        as_json=as_json,
    )


def _print(merchant: MerchantInfo, *, as_json: bool) -> None:
    from daemon.cli.output import print_fields, print_json

    if as_json:
        print_json(merchant)
    else:
        print_fields(_fields(merchant))


def _fields(merchant: MerchantInfo) -> list[tuple[str, Any]]:
    return [
        ("merchant_id", merchant.merchant_id),
        ("tenant", merchant.tenant),
        ("name", merchant.name),
        ("enabled", merchant.enabled),
    ]
