"""The whole document."""

from __future__ import annotations

import msgspec

from daemon import __version__
from daemon.config.schema import Limits
from daemon.events.payload import DEPTH_MAX, ID_CHARS_MAX, NAME_CHARS_MAX
from daemon.frontend.openapi import (
    answers,
    callers,
    merchant_event,
    operations,
    resultfly,
    schemas,
    tracklayer,
)
from daemon.frontend.openapi.schemas import Json

_LIMITS = Limits()

DESCRIPTION = f"""\
What the ingest port takes and answers. Limits are those of the default settings.

- A 2xx means durable: it is sent after every event of the request is on Kafka, or on this machine's disk after fsync. `X-Headgate-Durability` says which.
- A refusal is `{{"error":{{"code","message"}}}}` (TrackLayer's: `{{"success":false,"error","message","details"}}`, ResultFly's: `{{"status":"error","error_code","message"}}`): the code is for programs, the message names the field and what to do. It has an `X-Request-Id`.
- `messageId` is the caller's own id: a copy within 24 hours is answered like the first, with `X-Headgate-Duplicate: 1`, and is not published again. So retry whatever got no answer.
- 429 and 503 have `Retry-After`. A key has {_LIMITS.rate_per_s:,.0f} requests per second and {_LIMITS.burst:,} at once, unless its source has a rate of its own.
- Null or an empty string for an optional field is the same as leaving it out. Of duplicate keys the last wins. Ids have at most {ID_CHARS_MAX} characters, names {NAME_CHARS_MAX:,}; JSON is nested at most {DEPTH_MAX} deep, and is valid UTF-8.
- Times are ISO 8601: `2026-02-25T14:30:00.000Z`; a date alone is taken too.
- Bodies may be packed: `Content-Encoding: gzip`, `deflate`, `br` or `zstd`.
- An unknown path is a 404 (`NOT_FOUND`), a wrong method a 405 (`METHOD_NOT_ALLOWED`) with `Allow`.
"""


def document() -> Json:
    """The OpenAPI 3.1 document, as JSON values."""
    return {
        "openapi": "3.1.1",
        "info": {"title": "Headgate", "version": __version__, "description": DESCRIPTION},
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "servers": [{"url": "/", "description": "The ingest port that this document came from."}],
        "tags": list(operations.TAGS),
        "paths": operations.operations(),
        "components": {
            "securitySchemes": {
                **callers.SECURITY_SCHEMES,
                "merchantKey": tracklayer.SECURITY_SCHEME,
                "cdpKey": resultfly.SECURITY_SCHEME,
            },
            "parameters": callers.PARAMETERS,
            "headers": answers.HEADERS,
            "responses": _responses(),
            "schemas": {
                **schemas.components(),
                "MerchantEvent": merchant_event.schema(),
                **resultfly.schemas(),
            },
        },
    }


def _responses() -> Json:
    made = answers.responses()
    tracklayer.share(made)
    return {**made, **tracklayer.responses(), **resultfly.responses()}


def encoded() -> bytes:
    """The document as it is served and as it stands in `docs/openapi.json`: indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"
