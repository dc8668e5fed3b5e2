"""`headgate keys`: what callers authenticate with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.apikeys import CreatedKey
    from daemon.adapters.postgres.catalog import SourceCatalog
    from daemon.adapters.postgres.keyinfo import KeyInfo

HELP = """
Create, list and revoke keys.

Keys of Datafly (dk_…, sk_…) are made with their source (headgate sources create), those of servers of ResultFly
(cdp_…) and TrackLayer (tl_…) here. Only a hash of each is kept, and its first characters, so that people can tell one
from another.

\b
  headgate keys create --kind cdp --tenant acme
  headgate keys list
  headgate keys revoke key_9aJ2mR81nQxZ0pTf
"""

HELP_CREATE = """
Create an API key for a server and print it. It is shown this once: only its hash is kept.

\b
  --kind cdp       ResultFly: of a tenant, which is made if it is new. Scopes: cdp:events:write (the one it has when none
                   is named), cdp:contracts:write, cdp:contracts:read.
  --kind merchant  TrackLayer: of a merchant (headgate merchants list). Scopes: events:write (the one it has when none is
                   named), events:read, platforms:read, admin (all of them).

To change a key, create the new one, put it in use, and revoke the old one.

\b
  headgate keys create --kind cdp --tenant acme --scope cdp:events:write --scope cdp:contracts:write
  headgate keys create --kind merchant --merchant-id 3f2504e0-4f89-41d3-9a0c-0305e82c3301 --rate 200 --burst 400
  headgate keys create --kind cdp --tenant acme --json | jq -r .api_key
"""

HELP_LIST = """
List all keys, revoked ones too: id, first characters, kind (pipeline, secret, cdp, merchant), whose they are, and what
they may do.

\b
  headgate keys list
  headgate keys list --source src_4k2GVYkO3pBn1yQd --json | jq -r '.[] | select(.revoked_at == null).id'
  headgate keys list --merchant-id 3f2504e0-4f89-41d3-9a0c-0305e82c3301
"""

HELP_REVOKE = """
Revoke a key for good, named by its id, by its first characters as `keys list` shows them, or by the whole key.

Requests with it are answered 401 within a second. Its source or merchant, and their other keys, stay as they are.
Revoking a key that is revoked already changes nothing.

\b
  headgate keys revoke key_9aJ2mR81nQxZ0pTf
  headgate keys revoke dk_live_Ab3x
"""


@click.group(help=HELP)
def command() -> None:
    """Keys."""


@command.command(help=HELP_CREATE)
@click.option(
    "--kind", required=True, type=click.Choice(["cdp", "merchant"]), help="ResultFly's or TrackLayer's."
)
@click.option("--tenant", metavar="T", help="With cdp: whose it is; made if it is new.")
@click.option("--merchant-id", metavar="ID", help="With merchant: whose it is.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="S", help="What it may do; repeatable. Default: send events."
)
@click.option("--rate", type=float, metavar="R", help="Requests per second; else limits.rate_per_s.")
@click.option("--burst", type=int, metavar="B", help="Requests at once; else limits.burst.")
@settings_option
@json_option
def create(
    kind: str,
    tenant: str | None,
    merchant_id: str | None,
    scopes: tuple[str, ...],
    rate: float | None,
    burst: int | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Create an API key and print it."""
    from daemon.cli.output import paint, print_fields, print_json
    from daemon.errors import UsageError

    if (tenant if kind == "cdp" else merchant_id) is None:
        needed = "--tenant T" if kind == "cdp" else "--merchant-id ID; `headgate merchants list` shows all"
        raise UsageError(f"a key of kind {kind} needs {needed}")
    if (merchant_id if kind == "cdp" else tenant) is not None:
        other = "--merchant-id" if kind == "cdp" else "--tenant (it is its merchant's)"
        raise UsageError(f"a key of kind {kind} takes no {other}")

    async def make(catalog: SourceCatalog) -> CreatedKey:
        if tenant is not None:
            return await catalog.api_keys.create_for_tenant(tenant, scopes, rate, burst)
        return await catalog.api_keys.create_for_merchant(merchant_id or "", scopes, rate, burst)

    created: CreatedKey = with_catalog(config, make)
    key = created.key
    if as_json:
        print_json(_document(key) | {"api_key": created.api_key})
        return
    print_fields(
        [
            ("id", key.id),
            ("kind", key.kind),
            ("prefix", f"{key.prefix}…"),
            ("tenant", key.tenant),
            *([("merchant_id", key.merchant_id)] if key.merchant_id else []),
            ("scopes", key.scopes),
            ("rate_per_s", key.rate_per_s if key.rate_per_s is not None else "as in the settings"),
            ("burst", key.burst if key.burst is not None else "as in the settings"),
            ("api_key", created.api_key),
        ]
    )
    click.echo(paint("The key is shown this once; keep it.", "2"), err=True)


@command.command("list", help=HELP_LIST)
@click.option("--source", metavar="ID", help="Only those of this source.")
@click.option("--merchant-id", metavar="ID", help="Only those of this merchant.")
@settings_option
@json_option
def list_(source: str | None, merchant_id: str | None, config: str | None, as_json: bool) -> None:
    """Print all keys."""
    from daemon.cli.output import print_json, print_table

    async def find(catalog: SourceCatalog) -> list[KeyInfo]:
        merchant = None
        if source is not None:
            await catalog.get_source(source)
        if merchant_id is not None:
            merchant = (await catalog.merchants.get(merchant_id)).merchant_id
        return [
            key
            for key in await catalog.list_keys()
            if source in {None, key.source_id} and merchant in {None, key.merchant_id}
        ]

    keys: list[KeyInfo] = with_catalog(config, find)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    print_table(
        ("ID", "PREFIX", "KIND", "STATE", "TENANT", "SOURCE, MERCHANT", "SCOPES", "CREATED"),
        [
            (
                key.id,
                f"{key.prefix}…",
                key.kind,
                "revoked" if key.revoked_at else "active",
                key.tenant,
                key.source_id or key.merchant_id,
                key.scopes,
                key.created_at.strftime("%Y-%m-%d %H:%M"),
            )
            for key in keys
        ],
        "there are no keys; they come with a source (headgate sources create), or by headgate keys create",
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
        click.echo(
            f"{key.id} ({key.prefix}…, {key.kind}, {key.source_id or key.merchant_id or key.tenant}) is revoked"
        )


def _document(key: KeyInfo) -> dict[str, Any]:
    """A key as the command line prints it: `source` and `merchant_id` are null where it belongs to none."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "kind": key.kind,
        "tenant": key.tenant,
        "source": key.source_id,
        "merchant_id": key.merchant_id,
        "scopes": key.scopes,
        "rate_per_s": key.rate_per_s,
        "burst": key.burst,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
