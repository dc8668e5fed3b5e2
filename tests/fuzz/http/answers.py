"""What any answer has to be: no fault of ours, in the shape of the product that owns the path, complete."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from daemon.events import datafly, pixel, resultfly
from daemon.events.outcome import Outcome
from daemon.events.tracklayer import ERRORS as TRACKLAYER_ERRORS
from daemon.events.tracklayer import MERCHANT_MISMATCH, UNKNOWN_MERCHANT
from tests.fuzz.http.wire import Answer

#: Who answers: a product, by its shape; `assets` are files, and `pixel.js` TrackLayer's; `any` where the address itself is broken.
Owner = Literal["datafly", "pixel", "resultfly", "tracklayer", "events", "assets", "pixel.js", "any"]

#: Every status that is ever meant.
STATUSES = frozenset({200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 422, 429, 431, 503})

#: Answers of the HTTP server itself, before a request is one: no body, and the connection's end.
BARE = frozenset({400, 408, 414, 431})

_DATAFLY_CODES = {code for _, code in datafly.ERRORS.values()} | {
    datafly.BATCH_TOO_LARGE, datafly.INVALID_SIGNATURE, datafly.TIMESTAMP_OUT_OF_RANGE, "NOT_FOUND", "METHOD_NOT_ALLOWED",
}  # fmt: skip
_TRACKLAYER_CODES = {code for _, code in TRACKLAYER_ERRORS.values()} | {
    MERCHANT_MISMATCH, UNKNOWN_MERCHANT, "not_found", "method_not_allowed",
}  # fmt: skip
#: Headers that may come more than once.
_SEVERAL = {"set-cookie", "vary"}
#: What is said of a failure that nobody foresaw (frontend/endpoint.py): such a 503 is no limit but a bug.
_UNFORESEEN = b"an unexpected failure"


class Wrong(AssertionError):
    """An answer that must not be; the text begins with the rule."""


def owner_of(target: str) -> Owner:
    """Whose the address of a request line is."""
    try:
        path = unquote(urlsplit(target).path if "://" in target else target.partition("?")[0])
    except ValueError:
        return "any"
    if path in ("/datafly.js", "/v1/pixel.js", "/openapi.json", "/health"):
        return "pixel.js" if path == "/v1/pixel.js" else "assets"
    for start, owner in _PREFIXES:
        if path.startswith(start) or f"{path}/" == start == "/v1/cdp/":
            return owner
    return "events" if path == "/v1/events" else "datafly"


_PREFIXES: tuple[tuple[str, Owner], ...] = (
    ("/v1/cdp/", "resultfly"),
    ("/v1/browser/", "tracklayer"),
    ("/v1/pixel/", "pixel"),
)


def check(answer: Answer, owner: Owner, method: str) -> str:
    """The outcome of a request, by its answer. Raises Wrong."""
    status = answer.status
    _require(status in STATUSES, f"status {status}", answer)
    _require(_UNFORESEEN not in answer.body, "an unforeseen failure", answer)
    _check_headers(answer)
    if status in BARE and not answer.body and answer.get("content-type") is None:
        _require(answer.closing, "a bare answer on a connection that stays", answer)
        return f"{status} by the server"
    if method == "HEAD" or status == 204:
        return str(status)
    if owner == "any":
        _require(any(_fits(answer, one) for one in _SHAPES), "no product's shape", answer)
    else:
        _require(_fits(answer, owner), f"not {owner}'s shape", answer)
    return str(status)


def _check_headers(answer: Answer) -> None:
    names = [name for name, _ in answer.headers]
    twice = {name for name in names if names.count(name) > 1 and name not in _SEVERAL}
    _require(not twice, f"headers twice: {', '.join(twice)}", answer)
    if answer.status in (429, 503):
        wait = answer.get("retry-after") or ""
        _require(
            wait.isascii() and wait.isdigit() and int(wait) >= 1,
            f"{answer.status} without Retry-After",
            answer,
        )
    if answer.status == 405:
        _require(bool(answer.get("allow")), "405 without Allow", answer)


def _fits(answer: Answer, owner: Owner) -> bool:
    if owner == "pixel":
        return _is_pixel(answer)
    if owner in ("assets", "pixel.js") and answer.status < 400:
        return bool(answer.get("content-type"))
    kind = answer.get("content-type") or ""
    if kind not in ("application/json", "application/schema+json"):
        return False
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return isinstance(document, dict) and any(shape(answer.status, document) for shape in _JSON_SHAPES[owner])


def _is_pixel(answer: Answer) -> bool:
    failed = answer.status >= 400
    return (
        answer.get("content-type") == "image/gif"
        and answer.body == pixel.GIF
        and ((answer.get("x-headgate-error") in _DATAFLY_CODES) == failed)
    )


def _is_datafly(status: int, found: dict[str, Any]) -> bool:
    if status >= 400:
        error = found.get("error")
        return isinstance(error, dict) and error.get("code") in _DATAFLY_CODES and bool(error.get("message"))
    return found.get("success") is True


def _is_resultfly(status: int, found: dict[str, Any]) -> bool:
    if status >= 400:
        return (
            found.get("status") == "error"
            and resultfly.STATUSES.get(found.get("error_code", "")) == status
            and bool(found.get("message"))
        )
    if found.get("status") in ("accepted", "duplicate"):
        return True
    results = found.get("results")
    if isinstance(results, list):
        return all(
            isinstance(one, dict) and one.get("status") in ("accepted", "duplicate", "error")
            for one in results
        )
    return "contracts" in found or "eventType" in found or "$schema" in found


def _is_tracklayer(status: int, found: dict[str, Any]) -> bool:
    if status >= 400:
        return (
            found.get("success") is False
            and found.get("error") in _TRACKLAYER_CODES
            and bool(found.get("message"))
            and isinstance(found.get("details"), list)
        )
    return (found.get("success") is True and isinstance(found.get("event_id"), str)) or found.get(
        "dropped"
    ) == Outcome.BOT


_JSON_SHAPES = {
    "datafly": (_is_datafly,),
    "resultfly": (_is_resultfly,),
    "tracklayer": (_is_tracklayer,),
    "events": (_is_datafly, _is_tracklayer),
    "assets": (_is_datafly,),
    "pixel.js": (_is_tracklayer,),
}
_SHAPES: tuple[Owner, ...] = ("datafly", "resultfly", "tracklayer", "assets", "pixel")


def _require(holds: bool, rule: str, answer: Answer) -> None:
    if not holds:
        raise Wrong(f"{rule}\n{answer.status} {dict(answer.headers)}\n{answer.body[:2000]!r}")
