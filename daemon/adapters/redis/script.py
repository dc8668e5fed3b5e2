"""Lua scripts: their text, their digest, and where they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent / "scripts"


class Script:
    """A Lua script of `scripts/`, called by its SHA-1 (EVALSHA wants that one; nothing secret is in it)."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


#: Claims and identities of a tick.
TICK = Script("tick")
#: Claims of a tick whose events count in sliding windows.
WINDOW = Script("window")
#: Slices of rate limits.
LEASE = Script("lease")
#: What is cached of a key: a put that an older load can't overdo, and the mark that a change leaves.
KEYS_PUT = Script("keys_put")
KEYS_CHANGED = Script("keys_changed")

#: Loaded when a connection opens, so that no call has to.
ALL = (TICK, WINDOW, LEASE, KEYS_PUT, KEYS_CHANGED)
