"""
Files that pages of other sites load: the browser SDKs.

Read and packed once at the start of the process. An answer is valid for five minutes in a browser and an hour in a
shared cache; after that the ETag saves the body. Every encoding has its own ETag, as the bytes differ.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import brotli
from msgspec import Struct

from daemon.events import datafly, tracklayer
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Headers
from daemon.frontend.reply import CLOSE, JSON
from daemon.frontend.rsgi import Scope, Transport

#: The SDK as it is served: plain source, beside this module.
SDK = Path(__file__).with_name("sdk") / "datafly.js"
#: TrackLayer's, which `python -m scripts.pixel` made of the source beside it.
PIXEL = SDK.with_name("pixel.js")

CACHE_CONTROL = "public, max-age=300, s-maxage=3600, stale-while-revalidate=86400"
#: Word for word what TrackLayer documents (contracts C.5).
PIXEL_CACHE_CONTROL = "public, max-age=300, s-maxage=3600"

_SCRIPT = "text/javascript; charset=utf-8"

#: Encodings in the order in which they are chosen between equal weights.
_PREFERRED = ("br", "gzip")


class _Packed(Struct, frozen=True):
    """One encoding of the file."""

    body: bytes
    etag: str
    #: of a 304
    headers: Headers
    #: what a 200 has beside them
    more: Headers


def _datafly_refusal(text: str) -> bytes:
    return datafly.error_body("METHOD_NOT_ALLOWED", text)


def _tracklayer_refusal(text: str) -> bytes:
    return tracklayer.error_body("method_not_allowed", text)


class Asset:
    """One file at one path, for GET and HEAD from any page."""

    allow = "GET, HEAD"

    def __init__(
        self,
        kit: Kit,
        content: bytes,
        content_type: str,
        *,
        cache_control: str = CACHE_CONTROL,
        refusal: Callable[[str], bytes] = _datafly_refusal,
    ) -> None:
        """
        `content` is served as `content_type`; `kit` tells whether the process drains, and counts.

        `refusal` makes the body of a 405 from its text, in the shape of the product that owns the path.
        """
        self._kit = kit
        self._packed = _packed(content, content_type, cache_control)
        self._refusal = refusal

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request: 200, 304, or 405."""
        closing = [CLOSE] if self._kit.draining else []
        if scope.method not in ("GET", "HEAD"):
            named = self._kit.turned_away(scope, "method_not_allowed")
            text = f"{scope.method} is not allowed here; use GET"
            headers = [JSON, ("allow", self.allow), *named, *closing]
            transport.response_bytes(405, headers, self._refusal(text))
            return
        self._kit.accounts.other("asset")
        packed = self._packed[chosen(scope.headers.get("accept-encoding"))]
        if _named(packed.etag, scope.headers.get_all("if-none-match")):
            transport.response_empty(304, [*packed.headers, *closing])
        else:
            # granian leaves the body of an answer to HEAD out, and keeps its length
            transport.response_bytes(200, [*packed.headers, *packed.more, *closing], packed.body)


class OpenAsset(Asset):
    """One that also answers what a browser asks before a page's own request for it, with headers of its own."""

    allow = "GET, HEAD, OPTIONS"

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """As an Asset, and 204 to a preflight."""
        if scope.method != "OPTIONS":
            await super().__call__(scope, transport)
            return
        self._kit.accounts.other("preflight")
        closing = [CLOSE] if self._kit.draining else []
        transport.response_empty(204, [("allow", self.allow), *PREFLIGHT, *closing])


#: Everybody may, without credentials (contracts D).
PREFLIGHT = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, HEAD"),
    ("access-control-allow-headers", "*"),
    ("access-control-max-age", "7200"),
]


@cache
def _packed(content: bytes, content_type: str, cache_control: str) -> dict[str, _Packed]:
    """Every encoding of a file; takes some 20 ms, once per process."""
    shared = [
        ("cache-control", cache_control),
        ("vary", "Accept-Encoding"),
        # Pages of other sites load it: as a script, with `crossorigin`, and under COEP.
        ("access-control-allow-origin", "*"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("timing-allow-origin", "*"),
        ("x-content-type-options", "nosniff"),
    ]
    digest = hashlib.sha256(content).hexdigest()[:20]
    bodies = {
        "identity": content,
        "br": brotli.compress(content, mode=brotli.MODE_TEXT, quality=11),
        "gzip": gzip.compress(content, compresslevel=9, mtime=0),
    }
    packed: dict[str, _Packed] = {}
    for encoding, body in bodies.items():
        plain = encoding == "identity"
        etag = f'"{digest}"' if plain else f'"{digest}-{encoding}"'
        more = [("content-type", content_type)] + ([] if plain else [("content-encoding", encoding)])
        packed[encoding] = _Packed(body, etag, [*shared, ("etag", etag)], more)
    return packed


def _named(etag: str, lines: list[str]) -> bool:
    """Whether If-None-Match names `etag`, compared weakly (RFC 9110 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for line in lines for tag in line.split(",")]
    return "*" in tags or etag in tags


def chosen(accept: str | None) -> str:
    """The encoding for an Accept-Encoding header: br, gzip or identity (RFC 9110 12.5.3)."""
    weights: dict[str, float] = {}
    for part in (accept or "").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        weights[name] = weight
    best, best_weight = "identity", 0.0
    for encoding in _PREFERRED:
        weight = weights.get(encoding, weights.get("*", 0.0))
        if weight > best_weight:
            best, best_weight = encoding, weight
    return best


def sdk(kit: Kit) -> Asset:
    """`/datafly.js`."""
    return Asset(kit, SDK.read_bytes(), _SCRIPT)


def pixel(kit: Kit) -> Asset:
    """`/v1/pixel.js`."""
    return OpenAsset(
        kit,
        PIXEL.read_bytes(),
        _SCRIPT,
        cache_control=PIXEL_CACHE_CONTROL,
        refusal=_tracklayer_refusal,
    )
