"""Node.js programs of `tests/node`, with what its lock file pins."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.tools import CACHE, ROOT, need, skip_or_fail

SOURCES = ROOT / "tests/node"
INSTALLED = CACHE / "node"
FILES = ("package.json", "package-lock.json", "send.mjs")
INSTALL_S = 90.0
RUN_S = 60.0


def program(name: str) -> Path:
    """The path of a script of `tests/node`, beside the packages it imports. Skips without Node, npm or the packages."""
    npm = need("npm")
    need("node")
    wanted = hashlib.sha256(b"".join((SOURCES / one).read_bytes() for one in FILES)).hexdigest()[:16]
    folder = INSTALLED / wanted
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for one in FILES:
                shutil.copy(SOURCES / one, folder)
            # What is pinned and nothing else, by hash; no package may run anything here.
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=INSTALL_S,
            )
            if done.returncode != 0:
                skip_or_fail(
                    f"npm could not fetch Segment's SDK:\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
                )
            (folder / "complete").touch()
    return folder / name


def run(name: str, given: Any) -> Any:
    """Run a script with `given` as JSON on its standard input; gives the JSON that it prints."""
    done = subprocess.run(
        [need("node"), str(program(name))],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
