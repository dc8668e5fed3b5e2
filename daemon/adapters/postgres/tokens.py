"""Making keys and ids. A key is shown once; what is kept is its SHA-256 and its first characters."""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from typing import Literal

_ALPHABET = string.digits + string.ascii_letters
#: 190 bits: beyond guessing, and beyond an accident.
_KEY_CHARS = 32
_ID_CHARS = 16
#: Standard Webhooks asks for 24 to 64 bytes.
_WEBHOOK_KEY_BYTES = 32
#: Characters of a key's random part that are shown (contracts A: `sk_a1b2`); of TrackLayer's more (C.1: `tl_live_XXXXXX`).
_SHOWN_CHARS = 4
_SHOWN_CHARS_TL = 6


def new_id(prefix: Literal["src", "key", "wh"]) -> str:
    """Such as `src_` and 16 characters (95 bits)."""
    return f"{prefix}_{_random(_ID_CHARS)}"


def new_pipeline_key(mode: Literal["development", "production"]) -> str:
    """`dk_live_…` in production, `dk_test_…` in development."""
    return f"dk_{'live' if mode == 'production' else 'test'}_{_random(_KEY_CHARS)}"


def new_api_key(kind: Literal["cdp", "merchant"], mode: Literal["development", "production"]) -> str:
    """`cdp_live_…` (ResultFly) or `tl_live_…` (TrackLayer); in development `…_test_…`."""
    product = "cdp" if kind == "cdp" else "tl"
    return f"{product}_{'live' if mode == 'production' else 'test'}_{_random(_KEY_CHARS)}"


def new_secret_key() -> str:
    """`sk_…`: the whole string is the HMAC key."""
    return f"sk_{_random(_KEY_CHARS)}"


def new_webhook_secret(kind: str) -> str:
    """In the form that the kind's senders know: base64 after `whsec_` for Standard Webhooks, else characters."""
    if kind == "standard-webhooks":
        return "whsec_" + base64.b64encode(secrets.token_bytes(_WEBHOOK_KEY_BYTES)).decode()
    return f"whsec_{_random(_KEY_CHARS)}"


def digest(token: str) -> bytes:
    """What is stored of a key: SHA-256. Keys are random, so no salt and no slow hash are needed."""
    return hashlib.sha256(token.encode()).digest()


def shown_prefix(token: str) -> str:
    """The part of a key that may be shown: its kind and the first characters."""
    kind, _, rest = token.rpartition("_")
    return f"{kind}_{rest[: _SHOWN_CHARS_TL if kind.startswith('tl_') else _SHOWN_CHARS]}"


def _random(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))
