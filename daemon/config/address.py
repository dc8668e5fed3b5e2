"""Addresses as callers use them."""

from __future__ import annotations


def reachable(host: str) -> str:
    """The host that a client on this machine uses for an address that is listened on."""
    if host in {"", "0.0.0.0", "::"}:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
