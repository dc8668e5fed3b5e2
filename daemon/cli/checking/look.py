"""Everything that `headgate check` looks at, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from daemon.adapters.embedded.binaries import postgres_bin, valkey_server
from daemon.adapters.embedded.running import Endpoints, find_running
from daemon.adapters.probes.finding import Finding
from daemon.cli.checking import machine
from daemon.config.load import config_path
from daemon.config.schema import Settings, is_secret
from daemon.errors import SettingsError


async def look(settings: Settings, config: str | None) -> list[Finding]:
    """Try everything that `settings`, read with the option `--config` as `config`, name; servers side by side."""
    data_dir = Path(settings.data_dir)
    instance = machine.instance_pid(data_dir)
    findings = [
        _settings(settings, config),
        *machine.data_folder(settings),
        *machine.ports(settings, instance),
    ]
    findings += machine.limits(settings)
    findings.append(
        Finding(
            "instance",
            "ok",
            f"running, process {instance}" if instance else "not running on this data folder",
        )
    )
    running = await asyncio.to_thread(find_running, data_dir)
    probes: list[Awaitable[list[Finding]]] = [
        _postgres(settings, running, started=bool(instance)),
        _redis(settings, running, started=bool(instance)),
    ]
    if settings.kafka.brokers:
        from daemon.adapters.probes.kafka import probe_kafka

        probes.append(probe_kafka(settings.kafka))
    for found in await asyncio.gather(*probes):
        findings += found
    if not settings.kafka.brokers:
        findings.append(Finding("kafka", "ok", "no brokers named: the local log is the whole log"))
    return findings


def _settings(settings: Settings, config: str | None) -> Finding:
    path = config_path(given=config)
    if path is None:
        return Finding(
            "settings", "ok", f"no file, {settings.mode} mode; HEADGATE_CONFIG or --config names one"
        )
    try:
        open_to_all = bool(path.stat().st_mode & 0o004)
    except OSError:
        open_to_all = False
    secrets = _secrets_in(path) if open_to_all else []
    if secrets:
        return Finding(
            "settings",
            "warning",
            f"{path} holds {', '.join(secrets)}, and every user of this machine can read it",
            f"chmod o-r {path}, or give secrets as credentials or in the environment",
        )
    return Finding("settings", "ok", f"{path}, {settings.mode} mode")


def _secrets_in(path: Path) -> list[str]:
    """Which secrets stand in the file itself."""
    import tomllib

    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    kinds = {field: getattr(Settings(), field) for field in Settings.__struct_fields__}
    return [
        f"{section}.{key}"
        for section, values in tree.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value and is_secret(type(kinds[section]), key)
    ]


async def _postgres(settings: Settings, running: Endpoints | None, *, started: bool) -> list[Finding]:
    from daemon.adapters.probes.postgres import probe_postgres

    if settings.postgres.dsn:
        return await probe_postgres(settings.postgres)
    if running is not None and running.postgres_dsn:
        import msgspec

        return await probe_postgres(msgspec.structs.replace(settings.postgres, dsn=running.postgres_dsn))
    return [_embedded("postgres", settings, started=started)]


async def _redis(settings: Settings, running: Endpoints | None, *, started: bool) -> list[Finding]:
    from daemon.adapters.probes.redis import probe_redis

    if settings.redis.url:
        return await probe_redis(settings.redis.url)
    if running is not None and running.redis_url:
        return await probe_redis(running.redis_url)
    return [_embedded("redis", settings, started=started)]


def _embedded(subject: str, settings: Settings, *, started: bool) -> Finding:
    """No server is named and none of ours answers: could one be started?"""
    try:
        program = postgres_bin() / "postgres" if subject == "postgres" else valkey_server()
    except SettingsError as error:
        return Finding(subject, "failed", str(error))
    if started:
        return Finding(
            subject,
            "failed",
            "the running instance's embedded server does not answer",
            f"look at `headgate slots` and at {Path(settings.data_dir)}/{'postgres' if subject == 'postgres' else 'valkey'}.log",
        )
    return Finding(subject, "ok", f"embedded, started by `headgate run` ({program.name})")
