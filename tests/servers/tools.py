"""System programs that some tests need: found, or the test is skipped with a reason (in CI: failed)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"

#: Where scripts/system-packages.sh unpacks programs that must not be installed as services.
UNPACKED = CACHE / "tools"

JAVA_VERSION_MIN = 17
NODE_VERSION_MIN = 18


def in_ci() -> bool:
    """Say whether a missing program is a failure: the environment has CI=true."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def skip_or_fail(reason: str) -> None:
    """Skip the running test for want of something on this machine; with CI=true fail it instead."""
    __tracebackhide__ = True
    if in_ci():
        pytest.fail(f"CI=true allows no skips: {reason}", pytrace=False)
    pytest.skip(reason)


def need(tool: str) -> str:
    """
    Return the path of a system program, or skip the test (with CI=true: fail it).

    Known: `java` (17 or newer), `mvn`, `node` (18 or newer), `npm`, `promtool`, `chromium`, `systemd`,
    `systemd-analyze`, `setpriv`, `unshare`, `nsenter`, and `root` (not a program: the test has to run as root;
    returns "root"). Any other name is looked for on PATH.
    """
    __tracebackhide__ = True
    found = _PROBES[tool]() if tool in _PROBES else _program(tool)
    if found is None:
        hint = _HINTS.get(tool, f"install {tool}")
        skip_or_fail(f"{tool} is not available here: {hint}")
    assert found is not None
    return found


@cache
def _program(name: str) -> str | None:
    path = shutil.which(name)
    if path is None and os.access(unpacked := UNPACKED / "usr/bin" / name, os.X_OK):
        path = str(unpacked)
    return path


@cache
def _java() -> str | None:
    path = _program("java")
    if path is None:
        return None
    text = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', text)
    return path if version and int(version[1]) >= JAVA_VERSION_MIN else None


def _node() -> str | None:
    path = _program("node")
    if path is None:
        return None
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.", text)
    return path if version and int(version[1]) >= NODE_VERSION_MIN else None


def _systemd() -> str | None:
    for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd"):
        if os.access(path, os.X_OK):
            return path
    return None


def _root() -> str | None:
    return "root" if os.geteuid() == 0 else None


_PROBES: dict[str, Callable[[], str | None]] = {
    "java": _java,
    "node": _node,
    "systemd": _systemd,
    "root": _root,
}

_HINTS = {
    "java": f"install Java {JAVA_VERSION_MIN} or newer (Debian: default-jre-headless)",
    "mvn": "install Maven (Debian: maven), which fetches Kafka's jars",
    "chromium": "install Chromium (Debian: chromium)",
    "node": f"install Node.js {NODE_VERSION_MIN} or newer (Debian: nodejs)",
    "npm": "install npm (Debian: npm)",
    "promtool": "run scripts/system-packages.sh, or install prometheus",
    "systemd": "install systemd",
    "systemd-analyze": "install systemd",
    "root": "run the tests as root",
}
