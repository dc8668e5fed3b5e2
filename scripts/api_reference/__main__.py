"""
`python -m scripts.api_reference` writes `docs/openapi.json` and the page that the admin port serves at /docs.

Both come from `daemon/frontend/openapi/`; a test fails when one of them is behind it. The page is made here and not
at start-up, as the process that serves it knows nothing of the front.
"""

from __future__ import annotations

from pathlib import Path

from daemon.frontend.openapi.document import document, encoded
from daemon.supervisor.reference import PAGE
from scripts.api_reference.page import page

ROOT = Path(__file__).resolve().parents[2]


def files() -> dict[Path, bytes]:
    """What is written: path → content."""
    return {ROOT / "docs/openapi.json": encoded(), PAGE: page(document()).encode()}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_bytes(content)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
