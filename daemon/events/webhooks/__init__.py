"""
Webhooks of other services as Datafly events (contracts A.5): pure, from bytes to events.

`config` is what an operator writes, `presets` what each kind does without, `paths` the JSONPath, and
`mapper` turns a body into events.
"""

from daemon.events.webhooks.config import KINDS, BadConfig, Kind, WebhookConfig, read_config
from daemon.events.webhooks.mapper import Mapped, Mapper, WebhookLimits, form_payload
from daemon.events.webhooks.presets import effective

__all__ = [
    "KINDS",
    "BadConfig",
    "Kind",
    "Mapped",
    "Mapper",
    "WebhookConfig",
    "WebhookLimits",
    "effective",
    "form_payload",
    "read_config",
]
