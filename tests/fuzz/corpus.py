"""
The seed corpus: tests/fuzz/corpus/<target>/<what it shows>.

Inputs that get far, inputs that are refused at each place, and every input that ever broke something. All runs
start from it, and the suite replays it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")

#: A seed is small: what only size makes interesting is made by the mutator.
SEED_BYTES_MAX = 64 * 1024


def seeds(target: str) -> dict[str, bytes]:
    """The seeds of a target by name; the empty input is always one."""
    folder = FOLDER / target
    found = {"": b""}
    if folder.is_dir():
        found |= {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
    return found


def digest(data: bytes) -> str:
    """What an input is called that nobody has named yet."""
    return hashlib.sha256(data).hexdigest()[:16]
