"""
`python -m scripts.pixel` writes `daemon/frontend/sdk/pixel.js`, which pages load, from `pixel.src.js` beside it.

With `-` it prints the file instead. Fails when it would be larger than the contract allows. A test says whether the
file is current, so Headgate needs neither this step nor the minifier to run.
"""

from __future__ import annotations

import sys
from pathlib import Path

SDK = Path(__file__).resolve().parents[1] / "daemon/frontend/sdk"
SOURCE = SDK / "pixel.src.js"
SERVED = SDK / "pixel.js"

#: 3.3 KiB as served, before compression (contracts 0.4.32a).
SERVED_BYTES_MAX = 3379
#: Nothing newer than what the source has is put in its place: older browsers would not read it.
ECMASCRIPT = 2019


def minified() -> bytes:
    """The file as it is served. Raises ValueError when the source can't be read or makes too large a file."""
    import minify  # brings a Go runtime along: only for whom it works

    minify.config({"js-version": ECMASCRIPT})
    text: str = minify.string("text/javascript", SOURCE.read_text(encoding="utf-8"))
    made = text.encode() + b"\n"
    if len(made) > SERVED_BYTES_MAX:
        raise ValueError(f"{len(made)} bytes are {len(made) - SERVED_BYTES_MAX} more than {SERVED_BYTES_MAX}")
    return made


def main(arguments: list[str]) -> int:
    """Write or print; gives the exit code."""
    try:
        made = minified()
    except ValueError as error:
        print(f"{SOURCE.name}: {error}", file=sys.stderr)
        return 1
    if arguments == ["-"]:
        sys.stdout.buffer.write(made)
    else:
        SERVED.write_bytes(made)
        print(f"{SERVED.name}: {len(made)} bytes, {SERVED_BYTES_MAX - len(made)} to spare")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
