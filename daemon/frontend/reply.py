"""Answers, in the shape of the product that owns the path."""

from __future__ import annotations

from msgspec import Struct

from daemon.events import datafly
from daemon.frontend.refusal import Headers, Refusal

JSON = ("content-type", "application/json")
CLOSE = ("connection", "close")


class Reply(Struct, gc=False):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


def datafly_error(refusal: Refusal) -> Reply:
    """`{"error":{"code","message"}}`."""
    status, code = datafly.ERRORS[refusal.outcome]
    return Reply(status, [JSON, *refusal.headers], datafly.error_body(refusal.code or code, refusal.message))
