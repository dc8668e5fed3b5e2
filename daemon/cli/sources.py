"""`headgate sources`: where events come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.catalog import SourceInfo

HELP = """
Create, list and change sources.

A source is a site, an app or a server that sends events. It belongs to a tenant, and has a pipeline key (dk_…, for
Authorization: Bearer) and a secret key (sk_…, for signed requests). Changes are in force within a second.

\b
  headgate sources create --tenant acme --name shop --origin https://www.acme.com
  headgate sources list
  headgate sources disable src_4k2GVYkO3pBn1yQd
"""

HELP_CREATE = """
Create a source and print it with its two keys. They are shown this once: only their hashes are kept.

Pages may send events only from the origins listed (a page's scheme, host and port; *.example.com for any name below).
Servers and apps send no Origin and need none. In development mode pages on localhost may always send.

\b
  headgate sources create --tenant acme --name shop --origin https://www.acme.com --origin 'https://*.acme.com'
  headgate sources create --tenant acme --name backend --rate 5000 --burst 10000
  headgate sources create --tenant acme --name shop --json | jq -r .pipeline_key
"""

HELP_LIST = """
List all sources with their limits and origins. A dash means the settings' default.

\b
  headgate sources list
  headgate sources list --json | jq -r '.[] | select(.tenant == "acme").id'
"""

HELP_UPDATE = """
Change a source. What is not named stays; origins are replaced as a whole.

\b
  headgate sources update src_4k2GVYkO3pBn1yQd --rate 2000 --burst 4000
  headgate sources update src_4k2GVYkO3pBn1yQd --origin https://www.acme.com --origin https://shop.acme.com
  headgate sources update src_4k2GVYkO3pBn1yQd --default-limits --host-only-cookies
"""

HELP_DISABLE = """
Disable a source: its keys are answered as unknown ones (401), within a second. Nothing is deleted.

\b
  headgate sources disable src_4k2GVYkO3pBn1yQd
"""

HELP_ENABLE = """
Enable a disabled source again; its keys are the ones it had.

\b
  headgate sources enable src_4k2GVYkO3pBn1yQd
"""


@click.group(help=HELP)
def command() -> None:
    """Sources."""


@command.command(help=HELP_CREATE)
@click.option("--tenant", required=True, metavar="T", help="Whose it is; made if it is new.")
@click.option("--name", required=True, metavar="N", help="What people call it.")
@click.option(
    "--origin", "origins", multiple=True, metavar="O", help="Origin of pages that may send; repeatable."
)
@click.option("--rate", type=float, metavar="R", help="Requests per second; else limits.rate_per_s.")
@click.option("--burst", type=int, metavar="B", help="Requests at once; else limits.burst.")
@click.option("--cookie-domain", metavar="D", help="Domain of visitors' cookies; else the ingest host alone.")
@settings_option
@json_option
def create(
    tenant: str,
    name: str,
    origins: tuple[str, ...],
    rate: float | None,
    burst: int | None,
    cookie_domain: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Create a source and print its keys."""
    from daemon.cli.output import paint, print_fields, print_json

    created = with_catalog(
        config, lambda catalog: catalog.create_source(tenant, name, origins, rate, burst, cookie_domain)
    )
    keys = {"pipeline_key": created.pipeline_key, "secret_key": created.secret_key}
    if as_json:
        print_json(msgspec.to_builtins(created.source) | keys)
        return
    print_fields([*_fields(created.source), *keys.items()])
    click.echo(paint("The keys are shown this once; keep them.", "2"), err=True)


@command.command("list", help=HELP_LIST)
@settings_option
@json_option
def list_(config: str | None, as_json: bool) -> None:
    """Print all sources."""
    from daemon.cli.output import print_json, print_table

    sources = with_catalog(config, lambda catalog: catalog.list_sources())
    if as_json:
        print_json(sources)
        return
    print_table(
        ("ID", "TENANT", "NAME", "STATE", "RATE/S", "BURST", "COOKIE DOMAIN", "ORIGINS"),
        [
            (
                source.id,
                source.tenant,
                source.name,
                "enabled" if source.enabled else "disabled",
                source.rate_per_s,
                source.burst,
                source.cookie_domain,
                source.origins,
            )
            for source in sources
        ],
        "there are no sources; make one: headgate sources create --tenant T --name N",
    )


@command.command(help=HELP_UPDATE)
@click.argument("source_id", metavar="ID")
@click.option("--name", metavar="N", help="A new name.")
@click.option(
    "--origin", "origins", multiple=True, metavar="O", help="The new origins, all of them; repeatable."
)
@click.option("--no-origins", is_flag=True, help="No page may send.")
@click.option("--rate", type=float, metavar="R", help="Requests per second.")
@click.option("--burst", type=int, metavar="B", help="Requests at once.")
@click.option("--default-limits", is_flag=True, help="Rate and burst as in the settings.")
@click.option("--cookie-domain", metavar="D", help="Domain of visitors' cookies.")
@click.option("--host-only-cookies", is_flag=True, help="Cookies for the ingest host alone.")
@click.option("--enable", is_flag=True, help="Enable it, if it is disabled.")
@settings_option
@json_option
def update(
    source_id: str,
    origins: tuple[str, ...],
    no_origins: bool,
    default_limits: bool,
    host_only_cookies: bool,
    enable: bool,
    config: str | None,
    as_json: bool,
    **plain: Any,
) -> None:
    """Change what is named."""
    from daemon.errors import UsageError

    changes = {field: value for field, value in plain.items() if value is not None}
    for flag, fields, given in (
        (no_origins, ("origins",), bool(origins)),
        (default_limits, ("rate", "burst"), "rate" in changes or "burst" in changes),
        (host_only_cookies, ("cookie_domain",), "cookie_domain" in changes),
    ):
        if flag and given:
            raise UsageError(f"a new value for {' and '.join(fields)}, or the default: not both")
        if flag:
            changes |= dict.fromkeys(fields)
    if origins:
        changes["origins"] = origins
    if enable:
        changes["enabled"] = True
    if not changes:
        raise UsageError("nothing to change; `headgate sources update --help` shows what can be")
    _print(with_catalog(config, lambda catalog: catalog.update_source(source_id, **changes)), as_json=as_json)


@command.command(help=HELP_DISABLE)
@click.argument("source_id", metavar="ID")
@settings_option
@json_option
def disable(source_id: str, config: str | None, as_json: bool) -> None:
    """Disable a source."""
    _print(with_catalog(config, lambda catalog: catalog.disable_source(source_id)), as_json=as_json)


@command.command(help=HELP_ENABLE)
@click.argument("source_id", metavar="ID")
@settings_option
@json_option
def enable(source_id: str, config: str | None, as_json: bool) -> None:
    """Enable a source."""
    _print(with_catalog(config, lambda catalog: catalog.enable_source(source_id)), as_json=as_json)


def _print(source: SourceInfo, *, as_json: bool) -> None:
    from daemon.cli.output import print_fields, print_json

    if as_json:
        print_json(source)
    else:
        print_fields(_fields(source))


def _fields(source: SourceInfo) -> list[tuple[str, Any]]:
    return [
        ("id", source.id),
        ("tenant", source.tenant),
        ("name", source.name),
        ("enabled", source.enabled),
        ("origins", source.origins),
        ("rate_per_s", source.rate_per_s if source.rate_per_s is not None else "as in the settings"),
        ("burst", source.burst if source.burst is not None else "as in the settings"),
        ("cookie_domain", source.cookie_domain or "the ingest host alone"),
    ]
