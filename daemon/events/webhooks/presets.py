"""
What each kind does without a mapping of its own (contracts A.5).

The presets take what most people want and what is no one's secret: no names, no addresses. Whoever
needs more writes `mappings`, which then replace the preset's; the event's name, its time and the
delivery's id stay the preset's unless the mapping names them.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from daemon.events.webhooks.config import Kind, WebhookConfig

#: Members that stay the preset's where the operator's mappings leave them out.
KEPT = ("messageId", "timestamp")


class Preset(Struct, frozen=True, kw_only=True):
    """
    A kind's own ways.

    `event_paths` are tried in turn. `unique_paths` tell deliveries apart together with the messageId,
    where the sender's id alone does not.
    """

    event_paths: tuple[str, ...] = ()
    event_header: str | None = None
    message_id_header: str | None = None
    items_path: str | None = None
    unique_paths: tuple[str, ...] = ()
    mappings: dict[str, str]


PRESETS: dict[Kind, Preset] = {
    "stripe": Preset(
        event_paths=("$.type",),
        mappings={
            "messageId": "$.id",
            "timestamp": "$.created",
            "userId": "$.data.object.customer",
            "properties.amount": "$.data.object.amount",
            "properties.amount_total": "$.data.object.amount_total",
            "properties.amount_paid": "$.data.object.amount_paid",
            "properties.currency": "$.data.object.currency",
            "properties.payment_id": "$.data.object.id",
            "properties.object": "$.data.object.object",
            "properties.status": "$.data.object.status",
            "properties.invoice": "$.data.object.invoice",
            "properties.subscription": "$.data.object.subscription",
            "properties.metadata": "$.data.object.metadata",
            "properties.livemode": "$.livemode",
        },
    ),
    "shopify": Preset(
        event_header="x-shopify-topic",
        message_id_header="x-shopify-webhook-id",
        mappings={
            "timestamp": "$.updated_at",
            "userId": "$.customer.id",
            "properties.id": "$.id",
            "properties.name": "$.name",
            "properties.total": "$.total_price",
            "properties.subtotal": "$.subtotal_price",
            "properties.tax": "$.total_tax",
            "properties.discount": "$.total_discounts",
            "properties.currency": "$.currency",
            "properties.status": "$.financial_status",
            "properties.products": "$.line_items",
        },
    ),
    "hubspot": Preset(
        event_paths=("$.subscriptionType",),
        # HubSpot sends up to 100 at once. A slice selects from an array alone: one event by itself is taken too.
        items_path="$[:]",
        # HubSpot of eventId: "This value is not guaranteed to be unique."
        unique_paths=("$.portalId", "$.subscriptionId", "$.objectId", "$.occurredAt"),
        mappings={
            "messageId": "$.eventId",
            "timestamp": "$.occurredAt",
            "properties.object_id": "$.objectId",
            "properties.object_type_id": "$.objectTypeId",
            "properties.property_name": "$.propertyName",
            "properties.property_value": "$.propertyValue",
            "properties.change_source": "$.changeSource",
            "properties.portal_id": "$.portalId",
            "properties.app_id": "$.appId",
            "properties.subscription_id": "$.subscriptionId",
        },
    ),
    "github": Preset(
        event_header="x-github-event",
        message_id_header="x-github-delivery",
        mappings={
            "userId": "$.sender.login",
            "properties.action": "$.action",
            "properties.repository": "$.repository.full_name",
            "properties.organization": "$.organization.login",
            "properties.ref": "$.ref",
            "properties.before": "$.before",
            "properties.after": "$.after",
            "properties.number": "$.number",
            "properties.issue": "$.issue.number",
            "properties.release": "$.release.tag_name",
        },
    ),
    "standard-webhooks": Preset(
        event_paths=("$.type",),
        message_id_header="webhook-id",
        mappings={"timestamp": "$.timestamp", "properties": "$.data"},
    ),
    "custom": Preset(
        # Datafly's own member first, then what most senders call it
        event_paths=("$.event", "$.type"),
        mappings={
            "messageId": "$.messageId",
            "timestamp": "$.timestamp",
            "userId": "$.userId",
            "properties": "$",
        },
    ),
}


def effective(config: WebhookConfig) -> WebhookConfig:
    """The settings with the preset's in the places that were left open: what is in force."""
    preset = PRESETS[config.source_type]
    path, header = config.event_type_path, config.event_type_header
    if path is None and header is None:
        path = preset.event_paths[0] if preset.event_paths else None
        header = preset.event_header
    return msgspec.structs.replace(
        config,
        event_type_path=path,
        event_type_header=header,
        mappings=mappings_of(config),
        items_path=config.items_path or preset.items_path,
        message_id_header=config.message_id_header or preset.message_id_header,
    )


def mappings_of(config: WebhookConfig) -> dict[str, str]:
    """The mappings in force."""
    preset = PRESETS[config.source_type].mappings
    if config.mappings is None:
        return dict(preset)
    kept = {member: path for member, path in preset.items() if member in KEPT}
    return kept | config.mappings
