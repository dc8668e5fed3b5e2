"""What `headgate run` prints when all is ready: where things are, the demo source, and lines to paste."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from daemon import __version__
from daemon.config.address import reachable
from daemon.config.schema import Settings
from daemon.roles import BY_NAME

EVENT = '{"type":"track","event":"Product Viewed","properties":{"sku":"A-1","price":19.9}}'

#: Variables that a command on the same machine needs to find the same instance and log; none is a secret.
NEEDED = ("HEADGATE_CONFIG", "HEADGATE_DATA_DIR", "HEADGATE_KAFKA__BROKERS", "HEADGATE_KAFKA__TOPIC_RAW")


def welcome(
    settings: Settings, command: str, *, colour: bool, environ: Mapping[str, str] | None = None
) -> str:
    """
    The text. `command` is how `headgate` is called here.

    In production mode it holds no key: what a service prints stands in a journal, for many to read.
    """
    environ = os.environ if environ is None else environ
    server = settings.server
    ingest = f"http://{reachable(server.host)}:{server.ingest_port}"
    admin = f"http://{reachable(server.admin_host)}:{server.admin_port}"
    credentials = Path(settings.data_dir) / "credentials.json"
    source = demo_source(credentials)

    def dim(text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if colour else text

    def bold(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if colour else text

    def row(name: str, value: str) -> str:
        return f"  {dim(f'{name:<14}')}{value}"

    lines = ["", bold(f"Headgate {__version__} is ready") + dim(f"  ({settings.mode})"), ""]
    lines.append(row("events", ingest))
    if "dashboard" in BY_NAME:
        lines.append(row("dashboard", f"http://{reachable(server.host)}:{server.dashboard_port}"))
    lines.append(row("admin", f"{admin}  {dim('/livez /readyz /metrics /slots')}"))
    lines.append(row("API reference", f"{admin}/docs"))
    if settings.kafka.brokers:
        lines.append(
            row("log", f"Kafka {', '.join(settings.kafka.brokers)}, topic {settings.kafka.topic_raw}")
        )
    else:
        lines.append(row("log", f"local, {Path(settings.data_dir) / 'log'}"))
    lines.append(row("data", settings.data_dir))
    if source is not None:
        lines += ["", row("demo source", f"{source['id']}  {dim('tenant ' + str(source['tenant']))}")]
        if settings.development:
            lines.append(row("pipeline key", str(source["pipeline_key"])))
            lines.append(row("secret key", str(source["secret_key"])))
        lines.append(row("keys", str(credentials)))
        lines += ["", dim("  try it:"), f"    {curl_line(settings, ingest, source, credentials)}"]
    known = " ".join(f"{name}={shlex.quote(environ[name])}" for name in NEEDED if environ.get(name))
    lines += [
        "",
        dim("  see it arrive:"),
        f"    {known + ' ' if known else ''}{shlex.quote(command)} tail --follow",
        "",
    ]
    return "\n".join(lines) + "\n"


def curl_line(settings: Settings, ingest: str, source: Mapping[str, Any], credentials: Path) -> str:
    """One line to be pasted into a shell: an event of the demo source; in production the key is read from its file."""
    if settings.development:
        key = str(source["pipeline_key"])
    else:
        key = f"$(grep -o 'dk_[A-Za-z0-9_]*' {shlex.quote(str(credentials))} | head -n 1)"
    return (
        f'curl -sS {ingest}/v1/t -H "Authorization: Bearer {key}" '
        f"-H 'Content-Type: application/json' -d '{EVENT}'"
    )


def demo_source(credentials: Path) -> dict[str, Any] | None:
    """The first source of credentials.json; None when there is none."""
    try:
        [first, *_] = msgspec.json.decode(credentials.read_bytes())["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (
        first
        if isinstance(first, dict) and {"id", "tenant", "pipeline_key", "secret_key"} <= first.keys()
        else None
    )
