"""The settings as far as they differ from the defaults, with secrets marked."""

from __future__ import annotations

from typing import Any

from daemon.config.schema import Section, Settings, visible


def differences(settings: Settings) -> dict[str, Any]:
    """Map `section.key` to its value wherever that is not the default; a secret is a mark."""
    return _differences(visible(settings), visible(Settings()), "")


def secrets_of(section: Section) -> list[str]:
    """All secret values that are set, so that a text can be searched for them."""
    from daemon.config.schema import is_secret

    found = []
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section):
            found += secrets_of(value)
        elif isinstance(value, str) and value and is_secret(type(section), name):
            found.append(value)
    return found


def _differences(shown: dict[str, Any], default: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in shown.items():
        if isinstance(value, dict):
            found |= _differences(value, default[name], f"{prefix}{name}.")
        elif value != default[name]:
            found[prefix + name] = value
    return found
