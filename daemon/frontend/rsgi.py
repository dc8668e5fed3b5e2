"""
What a request looks like to us: the part of RSGI (granian's interface) that is used, as Protocols.

Only `server` imports granian; everything else, tests included, needs just these shapes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol


class RequestHeaders(Protocol):
    """Request headers; names are lower case."""

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a header, or `default`."""
        ...

    def get_all(self, key: str) -> list[str]:
        """All values of a header, in order."""
        ...


class Scope(Protocol):
    """The head of a request. `client` is `address:port`."""

    method: str
    path: str
    query_string: str
    client: str
    scheme: str

    @property
    def headers(self) -> RequestHeaders:
        """The headers."""
        ...


class Transport(Protocol):
    """The body of a request, and the way back."""

    def __call__(self) -> asyncio.Future[bytes]:
        """The whole body; cancelling the future gives it up."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in parts, as they come."""
        ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""
        ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Answer without a body."""
        ...
