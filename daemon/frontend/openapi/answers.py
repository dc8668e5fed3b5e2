"""
The document's answers: every status of every kind of endpoint, with its headers and bodies.

Statuses and codes come from the products' own tables (`datafly.ERRORS`); what is written here is what they
mean to a caller.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from daemon.events import datafly, identity
from daemon.events.outcome import Outcome
from daemon.frontend import assets
from daemon.frontend.cookies import MAX_AGE_S
from daemon.frontend.openapi.schemas import Json, ref

#: Error code → when it is given (contracts 0.2.14). Every code that is ever sent stands here.
MEANINGS: dict[str, str] = {
    "INVALID_PAYLOAD": "Not JSON, or not what the endpoint asks for; the message names the field.",
    "BATCH_TOO_LARGE": "More events or bytes than a batch may have.",
    "INVALID_PIPELINE_KEY": "No key, an unknown or revoked one, or the source is disabled or not named.",
    "INVALID_SIGNATURE": "The signature does not fit the body, the time and the secret, or is missing.",
    "TIMESTAMP_OUT_OF_RANGE": "The signature's time is more than 5 minutes away from now, either way.",
    "ORIGIN_NOT_ALLOWED": "The page's origin is not among the source's.",
    "NOT_FOUND": "There is no such path, or no such webhook.",
    "METHOD_NOT_ALLOWED": "The path has other methods; `Allow` says which.",
    "REQUEST_TIMEOUT": "The body was not complete in time.",
    "PAYLOAD_TOO_LARGE": "The body, inflated, is over the limit.",
    "UNSUPPORTED_MEDIA_TYPE": "A content type, charset or content encoding that is not taken.",
    "RATE_LIMITED": "Over the key's rate. Try again after `Retry-After`.",
    "UNAVAILABLE": "It could not be made durable now, or we are too busy. Try again after `Retry-After`.",
}

_TEXT: Json = {"type": "string"}
_SECONDS: Json = {"type": "integer", "minimum": 1}

#: Every header that an answer may have.
HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "Of every refusal: the caller's own `X-Request-Id`, or a fresh one. It stands in our logs.",
        "required": True,
        "schema": _TEXT,
    },
    "X-Headgate-Durability": {
        "description": "Where the events are safe: on Kafka, or on this machine's disk. Of a batch, the weakest. "
        "Absent where nothing new was accepted.",
        "schema": {"type": "string", "enum": ["kafka", "local"]},
    },
    "X-Headgate-Duplicate": {
        "description": "The `messageId` was durable before; the event was not published again.",
        "schema": {"type": "string", "const": "1"},
    },
    "X-Headgate-Error": {
        "description": "The error code: the body is the GIF whatever happened.",
        "required": True,
        "schema": _TEXT,
    },
    "Retry-After": {"description": "Whole seconds until it is worth another try.", "schema": _SECONDS},
    "RateLimit": {
        "description": 'What is left of which quota: `"key";r=<requests>;t=<seconds>`.',
        "required": True,
        "schema": _TEXT,
    },
    "RateLimit-Policy": {
        "description": 'The quota: `"key";q=<requests>;w=<seconds>`.',
        "required": True,
        "schema": _TEXT,
    },
    "Set-Cookie": {
        "description": "For each id that the visitor lacks, a line: "
        + ", ".join(f"`{name}` ({seconds // 86400} days)" for name, seconds in MAX_AGE_S.items())
        + f". `Path=/`, `SameSite=Lax`, `Secure`, the source's cookie domain; `{identity.VISITOR_COOKIE}` is "
        "`HttpOnly`. `_fbc` and `_gcl_aw` only with their click id.",
        "schema": _TEXT,
    },
    "Access-Control-Allow-Origin": {"description": "The page's origin, if it is allowed.", "schema": _TEXT},
    "Access-Control-Allow-Credentials": {"schema": {"type": "string", "const": "true"}},
    "Access-Control-Allow-Methods": {"schema": {"type": "string", "const": "POST, OPTIONS"}},
    "Access-Control-Allow-Headers": {"schema": {"type": "string", "const": "Content-Type, Authorization"}},
    "Access-Control-Expose-Headers": {"schema": _TEXT},
    "Access-Control-Max-Age": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
    "Vary": {"schema": _TEXT},
    "Allow": {"description": "The methods of the path.", "required": True, "schema": _TEXT},
    "ETag": {"description": "Changes with the bytes.", "required": True, "schema": _TEXT},
    "Cache-Control": {"required": True, "schema": _TEXT},
    "Content-Encoding": {
        "description": "As `Accept-Encoding` allows.",
        "schema": {"type": "string", "enum": ["br", "gzip"]},
    },
    "Cross-Origin-Resource-Policy": {"schema": {"type": "string", "const": "cross-origin"}},
}

#: What a page's own browser asks for.
CORS = (
    "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Vary",
)  # fmt: skip


def headers(names: Sequence[str], *, required: Sequence[str] = ()) -> dict[str, Json]:
    """Headers of an answer, as references; those `required` are always there."""
    return {
        name: {**HEADERS[name], "required": True}
        if name in required
        else {"$ref": f"#/components/headers/{name}"}
        for name in names
    }


class Family(Struct, frozen=True):
    """Endpoints that refuse alike: `name` is the first part of the names of their shared answers."""

    name: str
    outcomes: tuple[Outcome, ...]
    #: codes beside the tables' own, by status
    codes: dict[int, tuple[str, ...]] = {}
    cors: bool = False
    gif: bool = False

    def statuses(self) -> dict[int, tuple[str, ...]]:
        """Status → codes, in order."""
        found: dict[int, tuple[str, ...]] = {}
        for outcome in self.outcomes:
            status, code = datafly.ERRORS[outcome]
            found[status] = (*found.get(status, ()), code)
        for status, codes in self.codes.items():
            found[status] = (*found.get(status, ()), *codes)
        return dict(sorted(found.items()))

    def references(self) -> dict[str, Json]:
        """Its refusals, for an operation."""
        return {
            str(status): {"$ref": f"#/components/responses/{self.name}{status}"} for status in self.statuses()
        }

    def responses(self) -> dict[str, Json]:
        """Its refusals, for the document's components."""
        return {
            f"{self.name}{status}": self._refusal(status, codes) for status, codes in self.statuses().items()
        }

    def _refusal(self, status: int, codes: tuple[str, ...]) -> Json:
        names = ["X-Request-Id"]
        if status in (429, 503):
            names.append("Retry-After")
        if status == 429:
            names += ["RateLimit", "RateLimit-Policy"]
        if self.cors and status not in (401, 403):
            names += CORS
        answer: Json = {"description": "\n".join(f"`{code}`: {MEANINGS[code]}" for code in codes)}
        if self.gif:
            names[:0] = ["X-Headgate-Error", "Cache-Control"]
            answer["content"] = gif()
        else:
            answer["content"] = error(codes)
        answer["headers"] = headers(names, required=("Retry-After",))
        return answer


_ALWAYS = (Outcome.INVALID_PAYLOAD, Outcome.INVALID_KEY, Outcome.RATE_LIMITED, Outcome.UNAVAILABLE)
_WITH_BODY = (*_ALWAYS, Outcome.TIMEOUT, Outcome.UNSUPPORTED)
_SIGNED = (datafly.INVALID_SIGNATURE, datafly.TIMESTAMP_OUT_OF_RANGE)

BROWSER = Family("Browser", (*_WITH_BODY, Outcome.TOO_LARGE, Outcome.FORBIDDEN), cors=True)
SEGMENT = Family("Segment", (*_WITH_BODY, Outcome.TOO_LARGE))
SERVER = Family("Server", (*_WITH_BODY, Outcome.TOO_LARGE), {401: _SIGNED})
# a batch over its limits is a 400, not a 413 (contracts 0.1.6)
BATCH = Family("Batch", _WITH_BODY, {400: (datafly.BATCH_TOO_LARGE,), 401: _SIGNED})
PIXEL = Family("Pixel", _ALWAYS, gif=True)
# whose a webhook is says its address alone: an unknown one is no bad key, but nowhere to send to
WEBHOOK = Family(
    "Webhook",
    (*(one for one in _WITH_BODY if one is not Outcome.INVALID_KEY), Outcome.TOO_LARGE),
    {401: _SIGNED, 404: ("NOT_FOUND",)},
)

FAMILIES = (BROWSER, SEGMENT, SERVER, BATCH, PIXEL, WEBHOOK)


def error(codes: Sequence[str]) -> Json:
    """An error's body, with an example for each code."""
    return {
        "application/json": {
            "schema": {
                "allOf": [
                    ref("ErrorAnswer"),
                    {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}},
                ]
            },
            "examples": {
                code: {"value": {"error": {"code": code, "message": _EXAMPLES.get(code, MEANINGS[code])}}}
                for code in codes
            },
        }
    }


_EXAMPLES = {
    "INVALID_PAYLOAD": "event is required on track",
    "INVALID_PIPELINE_KEY": "unknown, revoked or disabled pipeline key",
    "RATE_LIMITED": "Rate limit exceeded. Retry after 1 seconds.",
}


def gif() -> Json:
    """A transparent pixel, 43 bytes."""
    return {"image/gif": {"schema": {"type": "string", "contentMediaType": "image/gif"}}}


def accepted(*extra: str) -> Json:
    """200 for one event; `extra` are headers beside those that every one has."""
    return {
        "description": "Durable: on Kafka, or on this machine's disk after fsync. Or a duplicate of an event that is.",
        "headers": headers(("X-Headgate-Durability", "X-Headgate-Duplicate", *extra)),
        "content": {"application/json": {"schema": ref("Success"), "example": {"success": True}}},
    }


def everywhere() -> dict[str, Json]:
    """Answers to paths and methods that are not there."""
    made: dict[str, Json] = {}
    for name, code, of in (
        ("NotFound", "NOT_FOUND", ("X-Request-Id",)),
        ("MethodNotAllowed", "METHOD_NOT_ALLOWED", ("Allow", "X-Request-Id")),
    ):
        made[name] = {
            "description": f"`{code}`: {MEANINGS[code]}",
            "headers": headers(of),
            "content": error((code,)),
        }
    return made


def responses() -> dict[str, Json]:
    """All shared answers by name."""
    made = everywhere()
    for family in FAMILIES:
        made.update(family.responses())
    return made


def asset(media_type: str, cache_control: str = assets.CACHE_CONTROL) -> dict[str, Json]:
    """Answers of a file that pages load; see `assets.Asset`."""
    shared = headers(
        ("ETag", "Cache-Control", "Vary", "Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy")
    )
    return {
        "200": {
            "description": f"The file. Fresh for as long as `{cache_control}` says; then the ETag saves the body.",
            "headers": {**shared, **headers(("Content-Encoding",))},
            "content": {media_type: {"schema": {"type": "object" if "json" in media_type else "string"}}},
        },
        "304": {"description": "`If-None-Match` names what we have.", "headers": shared},
    }
