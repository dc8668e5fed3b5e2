"""
The API reference for people, at /docs on the admin port: a file beside this module, made by `scripts/api_reference`.

It has no script and asks nothing of anybody; its policy lets its own style in and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from msgspec import Struct

#: The page as it was made; it names the ingest port of the default settings.
PAGE = Path(__file__).with_name("reference.html")

DEFAULT_URL = b"http://127.0.0.1:8080"

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


class Reference(Struct, frozen=True):
    """The page for one instance, with the headers that belong to it."""

    body: bytes
    headers: tuple[str, ...]


def reference(ingest_url: str) -> Reference:
    """The page with `ingest_url` (scheme, host and port that callers use) in its lines."""
    body = PAGE.read_bytes().replace(DEFAULT_URL, ingest_url.encode())
    styles = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'"
        for style in _STYLE.findall(body)
    )
    policy = f"default-src 'none'; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none'"
    return Reference(
        body,
        (
            f"Content-Security-Policy: {policy}; frame-ancestors 'none'",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
        ),
    )
