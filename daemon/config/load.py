"""
From a TOML file, systemd credentials and the environment to one frozen Settings.

The later wins: defaults, file, credentials (`$CREDENTIALS_DIRECTORY/<section>.<key>`), environment
(`HEADGATE_<SECTION>__<KEY>` and five short names). An unknown key is an error that names the nearest
known one. Values that are wrong are named by their key, never shown: they may be secrets.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from daemon.config.regions import REGIONS
from daemon.config.schema import Section, Settings
from daemon.errors import SettingsError

#: Short names that scripts rely on, beside HEADGATE_<SECTION>__<KEY>.
SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "HEADGATE_MODE": ("mode",),
    "HEADGATE_DATA_DIR": ("data_dir",),
    "HEADGATE_INGEST_PORT": ("server", "ingest_port"),
    "HEADGATE_DASHBOARD_PORT": ("server", "dashboard_port"),
    "HEADGATE_ADMIN_PORT": ("server", "admin_port"),
}

_SECTIONS: dict[str, type[Section]] = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, Section)
}
_KEYS: dict[str, tuple[str, ...]] = {
    name: tuple(field.name for field in msgspec.structs.fields(section))
    for name, section in _SECTIONS.items()
}
_TOP = tuple(field.name for field in msgspec.structs.fields(Settings))

Tree = dict[str, Any]


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """
    The settings out of the file at `path` (None: no file), credentials and `environ` (default: the process's).

    Raises SettingsError with the offending key for whatever can't be used.
    """
    environ = os.environ if environ is None else environ
    tree = _read_file(path) if path is not None else {}
    _check_names(tree, f"in {path}")
    _read_credentials(tree, environ.get("CREDENTIALS_DIRECTORY"))
    _read_environment(tree, environ)
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _named(error) from None
    _check_together(settings)
    return settings


def config_path(environ: Mapping[str, str] | None = None, given: str | None = None) -> Path | None:
    """The settings file: the one `given` on the command line, else `HEADGATE_CONFIG`, else none."""
    environ = os.environ if environ is None else environ
    name = given or environ.get("HEADGATE_CONFIG") or ""
    return Path(name) if name else None


def _read_file(path: Path) -> Tree:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {path}; name one with --config or HEADGATE_CONFIG"
        ) from None
    except OSError as error:
        raise SettingsError(f"the settings file {path} can't be read: {error.strerror}") from error
    except RecursionError:
        raise SettingsError(f"{path} is not taken: it is nested too deep") from None
    except ValueError as error:  # no TOML, no UTF-8, a number of thousands of digits
        raise SettingsError(f"{path} is not TOML: {error}") from None


def _check_names(tree: Tree, where: str) -> None:
    for name, value in tree.items():
        if name not in _TOP:
            raise _unknown(name, _TOP, where)
        if name not in _SECTIONS:
            continue
        if not isinstance(value, dict):
            raise SettingsError(f"[{name}] {where} must be a table", name)
        for key in value:
            if key not in _KEYS[name]:
                raise _unknown(f"{name}.{key}", tuple(f"{name}.{known}" for known in _KEYS[name]), where)


def _unknown(key: str, known: tuple[str, ...], where: str) -> SettingsError:
    elsewhere = [
        f"{section}.{name}"
        for section, names in _KEYS.items()
        for name in names
        if name == key.rpartition(".")[2]
    ]
    near = elsewhere[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        every = (*_TOP, *(f"{section}.{name}" for section, names in _KEYS.items() for name in names))
        near = difflib.get_close_matches(key, every, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    return SettingsError(f"unknown setting {key[:200]} {where}{hint}", key)


def _read_credentials(tree: Tree, folder: str | None) -> None:
    if not folder:
        return
    for section, keys in _KEYS.items():
        for key in keys:
            file = Path(folder) / f"{section}.{key}"
            try:
                text = file.read_text().strip()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"the credential {section}.{key} can't be read: {error}", f"{section}.{key}"
                ) from None
            # An empty one is how the unit says "not set": systemd 249 has no other way to make one optional.
            if text:
                _put(tree, (section, key), text)


def _read_environment(tree: Tree, environ: Mapping[str, str]) -> None:
    for name, text in environ.items():
        if name in SHORT_NAMES:
            _put(tree, SHORT_NAMES[name], text)
            continue
        match = re.fullmatch(r"HEADGATE_([A-Z0-9]+(?:_[A-Z0-9]+)*?)__([A-Z0-9_]+)", name)
        if match is None:
            continue
        section, key = match[1].lower(), match[2].lower()
        if key not in _KEYS.get(section, ()):
            spelled = [f"HEADGATE_{s}__{k}".upper() for s, keys in _KEYS.items() for k in keys]
            near = difflib.get_close_matches(name, spelled, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"unknown setting {name[:200]} in the environment{hint}", f"{section}.{key}")
        _put(tree, (section, key), text)


def _put(tree: Tree, path: tuple[str, ...], text: str) -> None:
    key = ".".join(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # Linux allows any bytes in the environment; here they are lone surrogates
        raise SettingsError(f"{key} is not UTF-8", key) from None
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    kind = _default_of(path)
    if isinstance(kind, tuple):
        tree[path[-1]] = _listed(text)
    elif isinstance(kind, dict):
        tree[path[-1]] = dict(_pair(part, path) for part in _listed(text))
    else:
        tree[path[-1]] = text


def _default_of(path: tuple[str, ...]) -> Any:
    return getattr(_SECTIONS[path[0]](), path[1]) if len(path) == 2 else None


def _pair(text: str, path: tuple[str, ...]) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        key = ".".join(path)
        raise SettingsError(f"{key}: {text[:100]!r} is not name=value", key)
    return name.strip(), value.strip()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _named(error: msgspec.ValidationError) -> SettingsError:
    message, _, where = str(error).partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    return SettingsError(f"bad setting {key[:200]}: {message[:1].lower()}{message[1:1000]}", key)


def _check_together(settings: Settings) -> None:
    """What the types can't say."""
    server = settings.server
    ports = {
        "ingest_port": server.ingest_port,
        "admin_port": server.admin_port,
        "dashboard_port": server.dashboard_port,
    }
    for name, port in ports.items():
        for other, taken in ports.items():
            if name < other and port == taken:
                raise SettingsError(f"server.{name} and server.{other} are both {port}", f"server.{other}")
    for entry in server.trusted_proxies:
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise SettingsError(
                f"server.trusted_proxies: {entry[:100]!r} is no address and no network like 10.0.0.0/8",
                "server.trusted_proxies",
            ) from None
    for broker in settings.kafka.brokers:
        host, colon, port_text = broker.rpartition(":")
        # five ASCII digits: "²" is a digit, too, and int() refuses it
        known = port_text.isascii() and port_text.isdigit() and len(port_text) <= 5
        if not (colon and host and known and 0 < int(port_text) < 65536):
            raise SettingsError(f"kafka.brokers: {broker[:100]!r} is not host:port", "kafka.brokers")
    if settings.publisher.ack_deadline_s >= settings.frontend.answer_timeout_s:
        raise SettingsError(
            "publisher.ack_deadline_s must be below frontend.answer_timeout_s, or no event could reach "
            "the local log in time while Kafka is away",
            "publisher.ack_deadline_s",
        )
    if settings.frontend.answer_timeout_s >= settings.claims.pending_s:
        raise SettingsError(
            "frontend.answer_timeout_s must be below claims.pending_s, or a claim could run out while its "
            "event is still being published",
            "frontend.answer_timeout_s",
        )
    _check_regions(settings)
    if settings.kafka.security_protocol.startswith("SASL") and not settings.kafka.sasl_username:
        raise SettingsError(
            "kafka.security_protocol asks for SASL: set kafka.sasl_username", "kafka.sasl_username"
        )


def _check_regions(settings: Settings) -> None:
    resultfly = settings.resultfly
    named = {f"resultfly.regions.{tenant}": region for tenant, region in resultfly.regions.items()}
    for key, region in {"resultfly.default_region": resultfly.default_region, **named}.items():
        if region and region not in REGIONS:
            near = region.upper() if region.upper() in REGIONS else "GB" if region.upper() == "UK" else "DE"
            raise SettingsError(
                f"{key[:200]}: {region[:100]!r} is no country of phone numbers; two capital letters, such as {near}",
                key,
            )
