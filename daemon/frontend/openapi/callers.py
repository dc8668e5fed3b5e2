"""The document's callers: how they show who they are, and what all of them may send."""

from __future__ import annotations

from daemon.events import identity
from daemon.frontend import body
from daemon.frontend.openapi.schemas import Json, ref

#: How the senders of webhooks sign: sender → its headers and what stands in them (contracts F.6).
_SENDERS: dict[str, dict[str, str]] = {
    "Stripe": {"Stripe-Signature": "`t=…,v1=…`: HMAC-SHA256 of `{t}.{body}`, in hex."},
    "Shopify": {"X-Shopify-Hmac-Sha256": "HMAC-SHA256 of the body, in base64."},
    "HubSpot": {
        "X-HubSpot-Signature-v3": "HMAC-SHA256 of method, address, body and time, in base64.",
        "X-HubSpot-Request-Timestamp": "That time, in Unix milliseconds.",
    },
    "GitHub": {"X-Hub-Signature-256": "`sha256=` and the HMAC-SHA256 of the body, in hex."},
    "Standard Webhooks": {
        "webhook-signature": "`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}`, in base64.",
        "webhook-timestamp": "That time, in Unix seconds.",
        "webhook-id": "The delivery's id.",
    },
}

SECURITY_SCHEMES: dict[str, Json] = {
    "pipelineKey": {
        "x-displayName": "Bearer key",
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer dk_…`, the source's pipeline key.",
    },
    "pipelineKeyBasic": {
        "x-displayName": "Basic key",
        "type": "http",
        "scheme": "basic",
        "description": "The pipeline key as user name, without a password.",
    },
    "pipelineKeyQuery": {
        "x-displayName": "Key in the query",
        "type": "apiKey",
        "in": "query",
        "name": "wk",
        "description": "The pipeline key in the address, for what can send no header (`sendBeacon`, images). "
        "An `Authorization` header that is there decides alone.",
    },
    "pipelineKeyHeader": {
        "x-displayName": "Key beside a signature",
        "type": "apiKey",
        "in": "header",
        "name": "X-Pipeline-Key",
        "description": "The pipeline key beside a signature: it names the source whose secret key signed.",
    },
    "signature": {
        "x-displayName": "Signature",
        "type": "apiKey",
        "in": "header",
        "name": "X-Signature",
        "description": "`sha256=` and, in lower-case hex, the HMAC-SHA256 of `{X-Timestamp}.{body}` with the whole "
        "secret key (`sk_…`). The body is what goes over the wire, so after gzip.",
    },
    "signatureTime": {
        "x-displayName": "Time of the signature",
        "type": "apiKey",
        "in": "header",
        "name": "X-Timestamp",
        "description": "Unix milliseconds, at most 5 minutes away from now.",
    },
    **{
        name: {"type": "apiKey", "in": "header", "name": name, "x-displayName": sender, "description": text}
        for sender, named in _SENDERS.items()
        for name, text in named.items()
    },
}

#: What a webhook's sender shows; a custom one has a header of its own choice, or none.
WEBHOOK_SECURITY: list[Json] = [*({name: [] for name in named} for named in _SENDERS.values()), {}]

#: Parameters that several operations have.
PARAMETERS: dict[str, Json] = {
    "ContentEncoding": {
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is packed. Limits hold for the inflated size.",
        "schema": {"type": "string", "enum": [one for one in body.ENCODINGS if not one.startswith("x-")]},
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Comes back with a refusal, and stands in our logs. Printable ASCII.",
        "schema": {"type": "string", "maxLength": 64, "pattern": "^[!-~]+$"},
    },
    "Source": {
        "name": "source",
        "in": "query",
        "description": "The source's id (`src_…`), where no key names it. Without either, the one that the settings "
        "bind to the host.",
        "schema": {"type": "string"},
    },
    identity.VISITOR_COOKIE: {
        "name": identity.VISITOR_COOKIE,
        "in": "cookie",
        "description": "The visitor: a UUID version 4, set by the first answer. A malformed one is replaced.",
        "schema": {"type": "string", "format": "uuid"},
    },
    **{
        name: {
            "name": name,
            "in": "cookie",
            "description": "A vendor's id, kept and passed on as it is.",
            "schema": {"type": "string", "pattern": f"^{shape.pattern}$"},
        }
        for name, shape in identity.VENDOR_COOKIES.items()
    },
}


def parameters(*names: str) -> list[Json]:
    """Shared parameters, as references."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


#: The cookies that are looked at.
COOKIES = (identity.VISITOR_COOKIE, *identity.VENDOR_COOKIES)


def json_body(name: str, example: Json, bytes_max: int, *, form: bool = False) -> Json:
    """A body of the schema `name`; `form`: also under the type that some SDKs declare."""
    content: Json = {
        "application/json": {"schema": ref(name), "example": example},
        # JSON under another name: a string to whoever only knows the name
        "text/plain": {
            "schema": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref(name)}
        },
    }
    text = (
        f"A body of at most {size(bytes_max)}, inflated: JSON in UTF-8, as `application/json` or `text/plain`"
    )
    if form:
        content[body.FORM_TYPE] = content["text/plain"]
        text += f" (or, as some SDKs declare it, `{body.FORM_TYPE}`)"
    return {"required": True, "description": text + ".", "content": content}


def size(bytes_max: int) -> str:
    """`512 KiB`."""
    mib, rest = divmod(bytes_max, 1024 * 1024)
    return f"{mib} MiB" if not rest else f"{bytes_max // 1024} KiB"
