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

#: The shell puts in an id of its own for each time that the line is pasted, and the time.
TRACKED = (
    '{"event_id":"try-\'$(date +%s%N)\'","event_name":"purchase","event_time":\'$(date +%s)\',"merchant_id":"\'$MERCHANT\'",'
    '"value":129.99,"currency":"EUR"}'
)

BOUGHT = (
    '{"source":"try.curl","externalEventId":"try-\'$(date +%s%N)\'","eventType":"purchase_completed",'
    '"identity":{"email":"jane@example.com"},"properties":{"order_id":"A-1","amount":129.99,"currency":"EUR"}}'
)

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
    merchant = demo_merchant(credentials)
    if merchant is not None:
        lines += [
            "",
            dim("  or as a merchant of TrackLayer:"),
            f"    {track_line(settings, ingest, merchant, credentials)}",
        ]
    customer = demo_cdp_key(credentials)
    if customer is not None:
        lines += [
            "",
            dim("  or as a server of ResultFly:"),
            f"    {cdp_line(settings, ingest, customer, credentials)}",
        ]
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
    key = _key(settings, str(source["pipeline_key"]), "dk", credentials)
    return _post(f"{ingest}/v1/t", key, EVENT)


def track_line(settings: Settings, ingest: str, merchant: Mapping[str, Any], credentials: Path) -> str:
    """The same for the demo merchant of TrackLayer; it leaves key and merchant in variables for what is tried next."""
    key = _key(settings, str(merchant["api_key"]), "tl", credentials)
    line = _post(f"{ingest}/v1/events", "$TL_KEY", TRACKED)
    return f"TL_KEY={key} MERCHANT={shlex.quote(str(merchant['merchant_id']))}; {line}"


def cdp_line(settings: Settings, ingest: str, customer: Mapping[str, Any], credentials: Path) -> str:
    """The same with the demo key of ResultFly, whose contract the event keeps."""
    key = _key(settings, str(customer["api_key"]), "cdp", credentials)
    return f"CDP_KEY={key}; " + _post(f"{ingest}/v1/cdp/events", "$CDP_KEY", BOUGHT)


def _key(settings: Settings, key: str, prefix: str, credentials: Path) -> str:
    """`key`; in production what reads it from its file."""
    if settings.development:
        return key
    # without live or test the name of a part of the file would do as well
    return f"$(grep -Eo '{prefix}_(live|test)_[A-Za-z0-9]+' {shlex.quote(str(credentials))} | head -n 1)"


def _post(url: str, key: str, body: str) -> str:
    return (
        f"curl -sS {url} -H \"Authorization: Bearer {key}\" -H 'Content-Type: application/json' -d '{body}'"
    )


def demo_source(credentials: Path) -> dict[str, Any] | None:
    """The first source of credentials.json; None when there is none."""
    return _first(credentials, "sources", {"id", "tenant", "pipeline_key", "secret_key"})


def demo_merchant(credentials: Path) -> dict[str, Any] | None:
    """The first merchant of credentials.json; None when there is none."""
    return _first(credentials, "merchants", {"merchant_id", "api_key"})


def demo_cdp_key(credentials: Path) -> dict[str, Any] | None:
    """The first key of ResultFly in credentials.json; None when there is none."""
    return _first(credentials, "cdp_keys", {"api_key"})


def _first(credentials: Path, part: str, names: set[str]) -> dict[str, Any] | None:
    try:
        entries = msgspec.json.decode(credentials.read_bytes(), type=dict[str, Any])[part]
    except (OSError, ValueError, KeyError):
        return None
    first = entries[0] if isinstance(entries, list) and entries else None
    return first if isinstance(first, dict) and names <= first.keys() else None
