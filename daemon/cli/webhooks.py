"""`headgate webhooks`: where other services send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from daemon.cli.app import json_option, settings_option
from daemon.cli.background import with_catalog

if TYPE_CHECKING:
    from daemon.adapters.postgres.webhooks import WebhookInfo
    from daemon.cli.webhooking.trial import Trial

HELP = """
Take events from other services: Stripe, Shopify, HubSpot, GitHub, Standard Webhooks, or any that posts JSON.

A webhook belongs to a source. Its kind says how the sender signs, and its mapping what becomes of the payload. Changes
are in force within a second. docs/webhooks.md has a page's worth on each kind.

\b
  headgate webhooks create --source src_4k2GVYkO3pBn1yQd --kind stripe --secret whsec_…
  headgate webhooks test wh_9aJ2mR81nQxZ0pTf
  headgate webhooks rotate wh_9aJ2mR81nQxZ0pTf --overlap 24h
"""

HELP_CREATE = """
Create a webhook; print its id, its secret (made when none is given) and the address to configure at the sender.

Stripe, Shopify and HubSpot make their secrets themselves: take the one that they show (HubSpot: the app's client
secret). --mapping names a JSON file; without it the kind's preset is used, which `headgate webhooks show` prints.

\b
  {"source_type": "stripe", "event_type_path": "$.type",
   "mappings": {"userId": "$.data.object.customer", "properties.amount": "$.data.object.amount"},
   "event_names": {"payment_intent.succeeded": "Order Completed"}}

A custom sender is described by --header and the options after it: an HMAC of the body (the default), with --scheme
shared-secret the secret itself, with --scheme none nothing.

\b
  headgate webhooks create --source src_4k2GVYkO3pBn1yQd --kind github
  headgate webhooks create --source src_4k2GVYkO3pBn1yQd --kind custom --header X-Signature \\
      --algorithm sha512 --encoding base64
  headgate webhooks create --source src_4k2GVYkO3pBn1yQd --kind custom --scheme shared-secret \\
      --header Authorization --prefix 'Bearer ' --mapping crm.json
"""

HELP_LIST = """
List all webhooks with their sources. Secrets are not shown.

\b
  headgate webhooks list
  headgate webhooks list --json | jq -r '.[] | select(.kind == "stripe").id'
"""

HELP_SHOW = """
Show a webhook and the mapping in force, the kind's preset included: a mapping file to begin with.

\b
  headgate webhooks show wh_9aJ2mR81nQxZ0pTf
  headgate webhooks show wh_9aJ2mR81nQxZ0pTf --json | jq .config > mapping.json
"""

HELP_TEST = """
Send a request to the running instance, signed as the webhook's sender would, and print the answer and the event.

Without --event a sample of the kind is sent. It is a real event: it goes to the log like any other. Ends with 69 when
it is not accepted.

\b
  headgate webhooks test wh_9aJ2mR81nQxZ0pTf
  headgate webhooks test wh_9aJ2mR81nQxZ0pTf --event order.json --topic orders/create
"""

HELP_ROTATE = """
Give a webhook a new secret and print it. Both are accepted until the overlap is over: configure the new one meanwhile.

\b
  headgate webhooks rotate wh_9aJ2mR81nQxZ0pTf
  headgate webhooks rotate wh_9aJ2mR81nQxZ0pTf --secret whsec_… --overlap 72h
"""

HELP_DISABLE = """
Disable a webhook: its requests are answered 404. Nothing is forgotten.

\b
  headgate webhooks disable wh_9aJ2mR81nQxZ0pTf
"""

HELP_ENABLE = """
Enable a disabled webhook again.

\b
  headgate webhooks enable wh_9aJ2mR81nQxZ0pTf
"""

HELP_DELETE = """
Delete a webhook with its mapping and its secrets, for good. Events that came through it stay.

\b
  headgate webhooks delete wh_9aJ2mR81nQxZ0pTf
"""


@click.group(help=HELP)
def command() -> None:
    """Webhooks."""


@command.command(help=HELP_CREATE)
@click.option("--source", required=True, metavar="ID", help="Whose events these are (src_…).")
@click.option(
    "--kind",
    metavar="K",
    help="stripe, shopify, hubspot, github, standard-webhooks or custom; else the mapping's source_type.",
)
@click.option("--secret", metavar="S", help="The sender's secret; made when left out.")
@click.option("--mapping", metavar="FILE", help="JSON with what to make of the payload.")
@click.option("--name", metavar="N", help="What people call it; else its kind.")
@click.option("--header", metavar="H", help="custom: the header with the signature or the secret.")
@click.option("--scheme", metavar="W", help="custom: hmac (the default), shared-secret or none.")
@click.option("--algorithm", metavar="A", help="custom: sha1, sha256 (the default) or sha512.")
@click.option("--encoding", metavar="E", help="custom: hex (the default) or base64.")
@click.option("--prefix", metavar="P", help="custom: what stands before the signature, such as sha256=.")
@settings_option
@json_option
def create(
    source: str,
    kind: str | None,
    secret: str | None,
    mapping: str | None,
    name: str | None,
    config: str | None,
    as_json: bool,
    **signing: str | None,
) -> None:
    """Create a webhook and print its secret."""
    from daemon.cli.output import paint, print_fields, print_json
    from daemon.cli.settings import read_settings
    from daemon.cli.webhooking.given import config_from
    from daemon.cli.webhooking.trial import webhook_path, webhook_url

    wanted = config_from(kind, mapping, signing)
    info, made = with_catalog(config, lambda catalog: catalog.webhooks.create(source, wanted, secret, name))
    more = {"secret": made, "url": webhook_url(read_settings(config), info.id), "path": webhook_path(info.id)}
    if as_json:
        print_json(_document(info) | more)
        return
    print_fields([*_fields(info), *more.items()])
    advice = "Configure the path on the host under which the sender reaches this instance, with https."
    if secret is None and info.kind in _OWN_SECRETS:
        advice = f"{_OWN_SECRETS[info.kind]}: headgate webhooks rotate {info.id} --overlap 0 --secret …"
    click.echo(paint(advice, "2"), err=True)


#: Kinds whose senders make the secret themselves, so that one made here is good for tests alone.
_OWN_SECRETS = {
    "stripe": "Stripe makes its signing secrets (whsec_…) itself; give this webhook the one that it shows",
    "shopify": "Shopify signs with the shop's or the app's own secret; give it to this webhook",
    "hubspot": "HubSpot signs with the app's client secret; give it to this webhook",
}


@command.command("list", help=HELP_LIST)
@click.option("--source", metavar="ID", help="Only those of this source.")
@settings_option
@json_option
def list_(source: str | None, config: str | None, as_json: bool) -> None:
    """Print all webhooks."""
    from daemon.cli.output import print_json, print_table

    found = with_catalog(config, lambda catalog: catalog.webhooks.list())
    webhooks = [webhook for webhook in found if source in {None, webhook.source}]
    if as_json:
        print_json([_document(webhook) for webhook in webhooks])
        return
    print_table(
        ("ID", "KIND", "NAME", "STATE", "TENANT", "SOURCE", "OLD SECRET UNTIL"),
        [
            (
                webhook.id,
                webhook.kind,
                webhook.name,
                "enabled" if webhook.enabled else "disabled",
                webhook.tenant,
                webhook.source,
                _until(webhook),
            )
            for webhook in webhooks
        ],
        "there are no webhooks; make one: headgate webhooks create --source src_… --kind K",
    )


@command.command(help=HELP_SHOW)
@click.argument("webhook_id", metavar="ID")
@settings_option
@json_option
def show(webhook_id: str, config: str | None, as_json: bool) -> None:
    """Print a webhook with its mapping."""
    from daemon.cli.output import print_fields, print_json
    from daemon.events.webhooks import effective

    info = with_catalog(config, lambda catalog: catalog.webhooks.get(webhook_id))
    document = msgspec.to_builtins(effective(info.config))
    if as_json:
        print_json(_document(info) | {"config": document})
        return
    print_fields(_fields(info))
    click.echo("")
    print_json(document)


@command.command(help=HELP_TEST)
@click.argument("webhook_id", metavar="ID")
@click.option("--event", metavar="FILE", help="The body to send, instead of a sample.")
@click.option("--topic", metavar="T", help="The event's name, where the sender says it in a header.")
@settings_option
@json_option
def test(webhook_id: str, event: str | None, topic: str | None, config: str | None, as_json: bool) -> int:
    """Send a signed request."""
    from daemon.cli.output import print_json
    from daemon.cli.settings import read_settings
    from daemon.cli.webhooking.given import read_file
    from daemon.cli.webhooking.trial import attempt
    from daemon.errors import Unavailable

    body = None if event is None else read_file(event, "the event")

    async def look(catalog: Any) -> tuple[WebhookInfo, str | None]:
        return await catalog.webhooks.get(webhook_id), await catalog.webhooks.secret_of(webhook_id)

    info, secret = with_catalog(config, look)
    trial = attempt(read_settings(config), info, secret, body, topic)
    if as_json:
        print_json(trial)
    else:
        _print_trial(trial)
    return 0 if trial.status < 300 else Unavailable.exit_code


@command.command(help=HELP_ROTATE)
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--overlap", default="24h", show_default=True, metavar="D", help="How long the old one stays good."
)
@click.option("--secret", metavar="S", help="The sender's new secret; made when left out.")
@settings_option
@json_option
def rotate(webhook_id: str, overlap: str, secret: str | None, config: str | None, as_json: bool) -> None:
    """Change the secret."""
    from daemon.cli.output import print_fields, print_json
    from daemon.cli.webhooking.given import seconds

    overlap_s = seconds(overlap)
    info, made = with_catalog(config, lambda catalog: catalog.webhooks.rotate(webhook_id, overlap_s, secret))
    if as_json:
        print_json(_document(info) | {"secret": made})
        return
    print_fields([("id", info.id), ("secret", made), ("old secret until", _until(info) or "now")])


@command.command(help=HELP_DISABLE)
@click.argument("webhook_id", metavar="ID")
@settings_option
@json_option
def disable(webhook_id: str, config: str | None, as_json: bool) -> None:
    """Disable a webhook."""
    _print(
        with_catalog(config, lambda catalog: catalog.webhooks.enable(webhook_id, enabled=False)),
        as_json=as_json,
    )


@command.command(help=HELP_ENABLE)
@click.argument("webhook_id", metavar="ID")
@settings_option
@json_option
def enable(webhook_id: str, config: str | None, as_json: bool) -> None:
    """Enable a webhook."""
    _print(
        with_catalog(config, lambda catalog: catalog.webhooks.enable(webhook_id, enabled=True)),
        as_json=as_json,
    )


@command.command(help=HELP_DELETE)
@click.argument("webhook_id", metavar="ID")
@settings_option
@json_option
def delete(webhook_id: str, config: str | None, as_json: bool) -> None:
    """Delete a webhook."""
    _print(with_catalog(config, lambda catalog: catalog.webhooks.delete(webhook_id)), as_json=as_json)


def _print(info: WebhookInfo, *, as_json: bool) -> None:
    from daemon.cli.output import print_fields, print_json

    if as_json:
        print_json(_document(info))
    else:
        print_fields(_fields(info))


def _print_trial(trial: Trial) -> None:
    from daemon.cli.output import print_fields, print_json

    answer = trial.answer if isinstance(trial.answer, str) else msgspec.json.encode(trial.answer).decode()
    print_fields(
        [
            ("sent to", trial.url),
            ("status", trial.status),
            ("answer", answer),
            ("durability", trial.durability),
        ]
    )
    if trial.envelope is not None:
        click.echo("")
        print_json(trial.envelope)
    elif trial.duplicate:
        click.echo("the same delivery came before: it is on the log already", err=True)
    elif trial.status < 300:
        click.echo("the event is not on the log that can be read from here (yet): headgate tail", err=True)


def _document(info: WebhookInfo) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(info)
    return document


def _fields(info: WebhookInfo) -> list[tuple[str, Any]]:
    return [
        ("id", info.id),
        ("kind", info.kind),
        ("name", info.name),
        ("source", info.source),
        ("tenant", info.tenant),
        ("enabled", info.enabled),
        ("mapping", "its own" if info.config.mappings is not None else "the kind's preset"),
    ]


def _until(info: WebhookInfo) -> str | None:
    """Until when the secret before this one is good; None once it is over."""
    from datetime import UTC, datetime

    until = info.previous_until
    return until.strftime("%Y-%m-%d %H:%M:%SZ") if until is not None and until > datetime.now(UTC) else None
