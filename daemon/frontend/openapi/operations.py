"""The document's operations: every path and method, with who may call it, what it takes and what it answers."""

from __future__ import annotations

from typing import Any

from daemon.config.schema import Limits
from daemon.events import datafly, pixel
from daemon.events.payload import ID_CHARS_MAX, NAME_CHARS_MAX
from daemon.frontend import assets
from daemon.frontend.openapi import answers, callers, resultfly, samples, tracklayer
from daemon.frontend.openapi.answers import headers
from daemon.frontend.openapi.callers import COOKIES, json_body, parameters, size
from daemon.frontend.openapi.schemas import Json, call_name, event_name, ref

BROWSER, SERVER, SEGMENT, PIXEL = "Browsers", "Servers", "Segment-style", "Pixels"
WEBHOOK, FILES = "Webhooks", "Files and health"

TAGS: tuple[Json, ...] = (
    {
        "name": BROWSER,
        "description": "What web pages send. The page's origin must be among the source's; answers set the "
        "visitor's cookies. `/datafly.js` does all of it for a page.",
    },
    {
        "name": SERVER,
        "description": "What servers send: signed with the source's secret key, or many events at once.",
    },
    {
        "name": SEGMENT,
        "description": "Where SDKs made for Segment send: give them the ingest port as their host and a pipeline "
        "key as their write key, which may also stand in the body as `writeKey`. `timestamp` is corrected by the sender's clock error where `sentAt` is there.",
    },
    {
        "name": PIXEL,
        "description": "An event in the address of an image, for mails, AMP and pages without scripts. The body is a "
        "transparent GIF whatever happened; the status and `X-Headgate-Error` tell.",
    },
    {
        "name": WEBHOOK,
        "description": "What other services send: Stripe, Shopify, HubSpot, GitHub, Standard Webhooks, or any that posts "
        "JSON. `headgate webhooks create` makes the address, says how its sender signs, and what becomes of the body.",
    },
    tracklayer.TAG_ABOUT,
    *resultfly.TAGS,
    {"name": FILES, "description": "What is there for everybody, without a key."},
)

_KEY: list[Json] = [{"pipelineKey": []}, {"pipelineKeyBasic": []}]
_SIGNATURE: list[Json] = [
    {"signature": [], "signatureTime": [], "pipelineKeyHeader": []},
    {"signature": [], "signatureTime": [], "pipelineKey": []},
    {"signature": [], "signatureTime": [], "pipelineKeyBasic": []},
    {"signature": [], "signatureTime": []},
]

_ID: Json = {"type": "string", "maxLength": ID_CHARS_MAX}


def operations() -> dict[str, Json]:
    """Path → path item."""
    made: dict[str, Json] = {}
    for letter, kind in datafly.BROWSER_TYPES.items():
        made[f"/v1/{letter}"] = {"post": _browser(letter, kind), "options": _preflight(letter)}
    made["/v1/events"] = {"post": tracklayer.shared_events(_events())}
    made["/v1/batch"] = {"post": _batch()}
    for kind in sorted(datafly.TYPES, key=list(samples.EVENTS).index):
        made[f"/v1/{kind}"] = {"post": _segment(kind)}
    for kind in pixel.TYPES:
        made[f"/v1/pixel/{kind}"] = {"get": _pixel(kind)}
    made["/v1/webhook"] = {"post": _webhook()}
    made.update(tracklayer.operations())
    made.update(resultfly.operations())
    made["/datafly.js"] = _file(
        "/datafly.js", "sdk", "The browser SDK", "text/javascript", "Put it on every page of the site."
    )
    made["/v1/pixel.js"] = _pixel_script()
    made["/openapi.json"] = _file(
        "/openapi.json", "openapi", "This document", "application/json", "OpenAPI 3.1."
    )
    made["/health"] = _health()
    return made


_PURPOSE = {
    "track": "Something happened",
    "page": "A page was seen",
    "identify": "A visitor turned out to be a user",
    "group": "A user belongs to a group",
    "screen": "A screen of an app was seen",
    "alias": "An id replaces another",
}


def _browser(letter: str, kind: str) -> Json:
    return {
        "operationId": f"browser_{kind}",
        "tags": [BROWSER],
        "summary": _PURPOSE[kind],
        "security": [{"pipelineKey": []}, {"pipelineKeyQuery": []}, {"pipelineKeyBasic": []}],
        "parameters": parameters("ContentEncoding", "RequestId", *COOKIES),
        "requestBody": json_body(event_name(kind), samples.EVENTS[kind], Limits().body_bytes_max),
        "responses": {"200": answers.accepted("Set-Cookie", *answers.CORS), **answers.BROWSER.references()},
        "x-codeSamples": _shell(samples.browser(letter, kind)),
    }


def _preflight(letter: str) -> Json:
    names = (*answers.CORS, "Access-Control-Max-Age", "Allow")
    return {
        "operationId": f"preflight_{letter}",
        "tags": [BROWSER],
        "summary": "What a browser asks before it sends",
        "description": "Answered for every origin that some enabled source lists; another gets no "
        "`Access-Control-Allow-Origin`, and its browser does not send.",
        "security": [],
        "parameters": [
            {
                "name": "Origin",
                "in": "header",
                "description": "The page's origin. Browsers send it.",
                "schema": {"type": "string"},
            },
        ],
        "responses": {
            "204": {"description": "Which origin may send.", "headers": headers(names, required=("Vary",))}
        },
        "x-codeSamples": _shell(samples.preflight(letter)),
    }


def _events() -> Json:
    return {
        "operationId": "event",
        "tags": [SERVER],
        "summary": "One signed event of any type",
        "description": "Its context is believed as it is, and no cookie is set. The path is shared with TrackLayer: "
        "a `tl_…` key makes a request TrackLayer's, `X-Signature` makes it Datafly's, and both at once are a 400.",
        "security": _SIGNATURE,
        "parameters": parameters("Source", "ContentEncoding", "RequestId"),
        "requestBody": json_body("Event", samples.EVENTS["track"], Limits().body_bytes_max),
        "responses": {"200": answers.accepted(), **answers.SERVER.references()},
        "x-codeSamples": _shell(samples.signed()),
    }


def _batch() -> Json:
    limits = Limits()
    good = answers.accepted("Retry-After")
    del good["headers"]["X-Headgate-Duplicate"]
    good["description"] = (
        "Every event that is not in `errors` is durable, or a duplicate of one that is. With `Retry-After`: those "
        "that could not be made durable now are in `errors` too; send them again."
    )
    good["content"] = {
        "application/json": {
            "schema": ref("BatchAnswer"),
            "examples": {
                "all": {"value": {"success": True, "accepted": 2}},
                "some": {"value": samples.BATCH_PARTLY},
            },
        }
    }
    return {
        "operationId": "batch",
        "tags": [SERVER],
        "summary": "Many events at once",
        "description": f"Up to {limits.batch_items_max} events; each has its own outcome, and a bad one fails alone. One "
        f"of over {size(limits.item_bytes_max)} fails alone too. A batch costs one request of the rate limit. "
        "`timestamp` is corrected by the sender's clock error where `sentAt` (the event's own, else the batch's) is "
        "there.",
        "security": [*_KEY, *_SIGNATURE],
        "parameters": parameters("Source", "ContentEncoding", "RequestId"),
        "requestBody": json_body("Batch", samples.BATCH, limits.batch_bytes_max, form=True),
        "responses": {"200": good, **answers.BATCH.references()},
        "x-codeSamples": _shell(samples.batch()),
    }


def _segment(kind: str) -> Json:
    example = {name: value for name, value in samples.EVENTS[kind].items() if name != "type"}
    return {
        "operationId": f"segment_{kind}",
        "tags": [SEGMENT],
        "summary": _PURPOSE[kind],
        "security": [{"pipelineKeyBasic": []}, {"pipelineKey": []}],
        "parameters": parameters("ContentEncoding", "RequestId"),
        "requestBody": json_body(call_name(kind), example, Limits().body_bytes_max, form=True),
        "responses": {"200": answers.accepted(), **answers.SEGMENT.references()},
        "x-codeSamples": _shell(samples.segment(kind)),
    }


#: Kind of pixel → the parameter that it needs.
_PIXEL_NEEDS = {"track": "e", "identify": "uid", "group": "gid"}


def _pixel(kind: str) -> Json:
    fields: dict[str, tuple[Json, str]] = {
        "e": ({"type": "string", "maxLength": NAME_CHARS_MAX}, "`event`: the name of what happened."),
        "uid": (_ID, "`userId`."),
        "gid": (_ID, "`groupId`."),
        "aid": (_ID, "`anonymousId`: decides before the cookie."),
        "mid": (_ID, "`messageId`: a copy within 24 hours is a duplicate."),
        "ts": (
            {"type": "integer", "minimum": 0, "maximum": 253_402_300_799_999},
            "`timestamp` in Unix milliseconds.",
        ),
        "cb": ({"type": "string"}, "Anything, so that no cache has it."),
    }
    needed = _PIXEL_NEEDS.get(kind)
    query: list[Json] = []
    for name, (schema, text) in fields.items():
        one: Json = {"name": name, "in": "query", "description": text, "schema": schema}
        if name == needed:
            one["required"] = True
            one["schema"] = {**schema, "minLength": 1, "pattern": r"\S"}
        query.append(one)
    query.append(
        {
            "name": "members",
            "in": "query",
            "style": "form",
            "explode": True,
            "description": "`p.<name>` and `t.<name>`: members of `properties` and `traits`, by dotted names "
            f"(`p.cart.total=12`) of up to {pixel.DEPTH_MAX} parts. Values stay strings.",
            "schema": {
                "type": "object",
                "patternProperties": {r"^[pt](\.[^.]+){1,16}$": {"type": "string"}},
                "additionalProperties": False,
            },
        }
    )
    answer = answers.accepted("Set-Cookie", "Cache-Control")
    answer["content"] = answers.gif()
    return {
        "operationId": f"pixel_{kind}",
        "tags": [PIXEL],
        "summary": _PURPOSE[kind],
        "security": [{"pipelineKeyQuery": []}, {"pipelineKey": []}, {"pipelineKeyBasic": []}],
        "parameters": [*query, *parameters("RequestId", *COOKIES)],
        "responses": {"200": answer, **answers.PIXEL.references()},
        "x-codeSamples": _shell(samples.pixel(kind)),
    }


def _webhook() -> Json:
    good = answers.accepted()
    good["description"] = (
        "Every event of the body that could be mapped is durable, or a duplicate of one that is. Those that could "
        "not be mapped are in `errors`."
    )
    good["content"] = {
        "application/json": {
            "schema": {"oneOf": [ref("Success"), ref("BatchAnswer")]},
            "examples": {"all": {"value": {"success": True}}, "some": {"value": samples.BATCH_PARTLY}},
        }
    }
    return {
        "operationId": "webhook",
        "tags": [WEBHOOK],
        "summary": "What another service tells",
        "description": "The signature is checked over the bytes on the wire before anything is read of them; during a "
        "rotation both secrets are good. The provider's own id of the delivery is the `messageId`, so its retries are "
        "duplicates. A body may hold several events: a bad one fails alone.",
        "security": callers.WEBHOOK_SECURITY,
        "parameters": [
            {
                "name": "source",
                "in": "query",
                "required": True,
                "description": "The webhook's id (`wh_…`).",
                "schema": {"type": "string"},
            },
            *parameters("ContentEncoding", "RequestId"),
        ],
        "requestBody": {
            "required": True,
            "description": f"JSON of at most {size(Limits().body_bytes_max)}, inflated, by any name "
            "(`application/json`, `text/plain`, `application/…+json`); of GitHub also a form with it in `payload`.",
            "content": {
                "application/json": {"schema": {"type": ["object", "array"]}, "example": samples.WEBHOOK}
            },
        },
        "responses": {"200": good, **answers.WEBHOOK.references()},
        "x-codeSamples": _shell(samples.webhook()),
    }


def _file(
    path: str,
    name: str,
    summary: str,
    media_type: str,
    text: str,
    cache_control: str = assets.CACHE_CONTROL,
) -> Json:
    get: Json = {
        "operationId": name,
        "tags": [FILES],
        "summary": summary,
        "description": text,
        "security": [],
        "parameters": [
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "ETags that the caller has.",
                "schema": {"type": "string"},
            }
        ],
        "responses": answers.asset(media_type, cache_control),
        "x-codeSamples": _shell(samples.get(path)),
    }
    return {"get": get, "head": _head_of(get)}


def _pixel_script() -> Json:
    path = "/v1/pixel.js"
    item = _file(
        path,
        "pixel_script",
        "TrackLayer's browser SDK",
        "text/javascript",
        "Put it on every page of a merchant's shop, with `data-merchant`; it sends to `/v1/browser/events`.",
        assets.PIXEL_CACHE_CONTROL,
    )
    item["options"] = {
        "operationId": "preflight_pixel_script",
        "tags": [FILES],
        "summary": "What a browser asks before a page's own request for it",
        "description": "Any page may, without credentials.",
        "security": [],
        "responses": {
            "204": {
                "description": "Everybody may.",
                "headers": {
                    **headers(("Allow",)),
                    **{
                        name.title(): {"required": True, "schema": {"type": "string", "const": value}}
                        for name, value in assets.PREFLIGHT
                    },
                },
            }
        },
        "x-codeSamples": _shell(f'curl -sS -i -X OPTIONS "$URL{path}" -H "Origin: https://shop.example.com"'),
    }
    return item


def _health() -> Json:
    def answer(status: str, text: str) -> Json:
        schema: Json = {
            "type": "object",
            "required": ["status"],
            "properties": {"status": {"type": "string", "const": status}},
        }
        return {
            "description": text,
            "headers": headers(("Cache-Control",)),
            "content": {"application/json": {"schema": schema, "example": {"status": status}}},
        }

    get: Json = {
        "operationId": "health",
        "tags": [FILES],
        "summary": "Whether this process answers",
        "description": "For load balancers that only reach this port. Whether events are taken is said by `/readyz` "
        "on the admin port.",
        "security": [],
        "responses": {
            "200": answer("ok", "It does."),
            "503": answer("draining", "It takes leave: go elsewhere."),
        },
        "x-codeSamples": _shell(samples.get("/health")),
    }
    return {"get": get, "head": _head_of(get)}


def _head_of(get: Json) -> Json:
    """The same without bodies."""
    bare = {
        status: {name: part for name, part in answer.items() if name != "content"}
        for status, answer in get["responses"].items()
    }
    head = {name: part for name, part in get.items() if name != "x-codeSamples"}
    return {**head, "operationId": f"{get['operationId']}_head", "responses": bare}


def _shell(line: str) -> list[dict[str, Any]]:
    return [{"lang": "Shell", "label": "curl", "source": line}]
