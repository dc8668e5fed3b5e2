"""A webhook's settings: the JSON that an operator writes, and that is stored with the webhook."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct, field

from daemon.errors import UsageError
from daemon.events.signatures.providers import Algorithm, Encoding

#: Who sends: each kind has its own way of signing and its own preset mapping.
Kind = Literal["stripe", "shopify", "hubspot", "github", "standard-webhooks", "custom"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: What the event becomes (contracts A.1, 0.2.23b).
EventType = Literal["track", "page", "identify", "group", "screen", "alias"]

#: How a custom sender proves who it is.
SchemeName = Literal["hmac", "shared-secret", "none"]

MAPPINGS_MAX = 100
EVENT_NAMES_MAX = 1000

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_PREFIX = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,98}[\x20-\x7e])?")


class BadConfig(UsageError):
    """A webhook's settings that can't be used; the message names the offending one."""


class WebhookConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    What to make of a sender's requests. What is left out is as in the kind's preset (`presets`).

    `mappings` are dotted canonical path → JSONPath into the payload, such as
    `"properties.amount": "$.data.object.amount"`. The name of the event is what `mappings["event"]`
    selects, else `event_type_path`, else the header `event_type_header`; `event_names` translates it.
    `items_path` selects the events of a body that holds several. The last five say how a custom
    sender signs.
    """

    source_type: Kind
    type: EventType = "track"
    event_type_path: str | None = None
    event_type_header: str | None = None
    mappings: dict[str, str] | None = None
    event_names: dict[str, str] = field(default_factory=dict)
    items_path: str | None = None
    message_id_header: str | None = None
    scheme: SchemeName | None = None
    header: str | None = None
    algorithm: Algorithm | None = None
    encoding: Encoding | None = None
    prefix: str | None = None


def read_config(document: Any) -> WebhookConfig:
    """The settings out of decoded JSON, without looking at the paths. Raises BadConfig."""
    if isinstance(document, dict):
        known = WebhookConfig.__struct_fields__
        for name in document:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
                raise BadConfig(f"a webhook's mapping has no {str(name)[:80]!r}{hint}")
    try:
        config = msgspec.convert(document, WebhookConfig)
    except msgspec.ValidationError as error:
        raise BadConfig(_explained(str(error))) from None
    _check(config)
    return config


def _check(config: WebhookConfig) -> None:
    if config.mappings is not None and len(config.mappings) > MAPPINGS_MAX:
        raise BadConfig(f"mappings has {len(config.mappings)} entries; at most {MAPPINGS_MAX} are taken")
    if len(config.event_names) > EVENT_NAMES_MAX:
        raise BadConfig(
            f"event_names has {len(config.event_names)} entries; at most {EVENT_NAMES_MAX} are taken"
        )
    for name, translated in config.event_names.items():
        if not translated.strip():
            raise BadConfig(f"event_names: {name!r} is translated to an empty name")
    for member in ("event_type_header", "message_id_header", "header"):
        value = getattr(config, member)
        if value is not None and not _HEADER_NAME.fullmatch(value):
            raise BadConfig(f"{member}: {value[:80]!r} is no name of a header")
    if config.event_type_path is not None and config.event_type_header is not None:
        raise BadConfig("event_type_path or event_type_header: one of them, not both")
    _check_signing(config)


def _check_signing(config: WebhookConfig) -> None:
    signing = {
        name: getattr(config, name) for name in ("scheme", "header", "algorithm", "encoding", "prefix")
    }
    given = [name for name, value in signing.items() if value is not None]
    if config.source_type != "custom":
        if given:
            raise BadConfig(
                f"{given[0]}: {config.source_type} signs in its own way; this is for custom alone"
            )
        return
    scheme = config.scheme or "hmac"
    if scheme == "none":
        given.remove("scheme")
        if given:
            raise BadConfig(f"{given[0]}: nothing is signed with the scheme none; leave it out")
        return
    if config.header is None:
        raise BadConfig(
            "header: a custom webhook needs the name of the header with its signature (or its secret, with "
            "scheme shared-secret); with the scheme none whoever knows the address may send"
        )
    if scheme == "shared-secret" and (config.algorithm or config.encoding):
        name = "algorithm" if config.algorithm else "encoding"
        raise BadConfig(f"{name}: a shared secret is sent as it is; leave it out")
    if config.prefix and not _PREFIX.fullmatch(config.prefix):
        raise BadConfig(f"prefix: {config.prefix[:80]!r} can't stand at the beginning of a header")


_CHOICES: dict[str, tuple[str, ...]] = {
    "source_type": KINDS,
    "type": get_args(EventType),
    "scheme": get_args(SchemeName),
    "algorithm": get_args(Algorithm),
    "encoding": get_args(Encoding),
}
_INVALID_CHOICE = re.compile(r"Invalid enum value (['\"])(.*)\1 - at `\$\.(\w+)`", re.DOTALL)


def _explained(text: str) -> str:
    """msgspec's words for the operator: which member, what is wrong, what would fit."""
    if (choice := _INVALID_CHOICE.fullmatch(text)) is not None and choice[3] in _CHOICES:
        return f"{choice[3]}: {choice[2][:80]!r} is none of {', '.join(_CHOICES[choice[3]])}"
    what, _, where = text.replace(" | null`", "`").partition(" - at `$")
    member = where.rstrip("`").lstrip(".") or "the webhook's mapping"
    return f"{member}: {what[:1].lower()}{what[1:]}"
