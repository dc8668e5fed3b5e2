"""What a probe says."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True):
    """
    One thing that was looked at: `subject` names it, `text` says how it is, `advice` what to do about it.

    `warning` is for what works but should be different; `failed` for what keeps Headgate from working.
    """

    subject: str
    state: Literal["ok", "warning", "failed"]
    text: str
    advice: str = ""
