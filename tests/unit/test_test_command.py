"""The test command's own promises: an interpreter that fits, and no silent skips in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.tools import ROOT


def find_python(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "find-python.sh")],
        env={"PATH": f"{path}:/usr/bin-for-tools", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with the few tools that the script uses and no Python at all."""
    for tool in ("basename", "sed"):
        (tmp_path / tool).symlink_to(
            f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else f"/bin/{tool}"
        )
    return tmp_path


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def real(folder: Path, name: str) -> None:
    fake(folder, name, f'exec "{sys.executable}" "$@"')


def test_the_newest_that_works_is_taken(programs: Path) -> None:
    fake(programs, "python3.14", "echo 'a shim with nothing behind it' >&2; exit 127")
    real(programs, "python3.13")
    real(programs, "python3")
    found = find_python(programs)
    assert (found.stdout.strip(), found.stderr, found.returncode) == (str(programs / "python3.13"), "", 0)


def test_without_any_it_says_what_to_install(programs: Path) -> None:
    found = find_python(programs)
    assert found.returncode == 1
    assert found.stdout == ""
    assert "needs Python 3.11 or newer" in found.stderr
    assert "apt-get install python3 python3-venv" in found.stderr


def test_an_old_one_is_named_with_its_version(programs: Path) -> None:
    fake(programs, "python3", 'case "$*" in *print*) echo 3.9;; *) exit 2;; esac')
    found = find_python(programs)
    assert found.returncode == 1
    assert "python3 is 3.9, older than 3.11" in found.stderr


def test_a_missing_venv_module_is_named_with_its_package(programs: Path) -> None:
    fake(programs, "python3.12", 'case "$*" in *print*) echo "ensurepip ";; *) exit 3;; esac')
    found = find_python(programs)
    assert found.returncode == 1
    assert "python3.12 lacks a standard module (ensurepip)" in found.stderr
    assert "apt-get install python3.12-venv" in found.stderr


def test_the_one_that_was_asked_for_or_none(programs: Path) -> None:
    real(programs, "python3")
    real(programs, "chosen")
    assert find_python(programs, PYTHON="chosen").stdout.strip() == str(programs / "chosen")
    refused = find_python(programs, PYTHON="absent")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "PYTHON=absent cannot be used" in refused.stderr


SKIPPING = """
import pytest
from tests.servers.tools import need

def test_passes():
    assert True

def test_needs():
    need("a-program-that-nobody-has")

def test_skips_by_itself():
    pytest.skip("just because")
"""


def run_pytest(folder: Path, *, ci: bool) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(SKIPPING)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    # Not two workers within a worker: this one may be one of xdist's.
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(folder / "test_it.py")),
        ],
        cwd=ROOT,
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_skip_is_reported_with_its_reason(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ci=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 skipped" in done.stdout.splitlines()[-1]


def test_with_ci_true_every_skip_is_a_failure(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ci=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a-program-that-nobody-has is not available here" in done.stdout
    assert "just because" in done.stdout
    assert "1 failed, 1 passed, 1 skipped" in done.stdout.splitlines()[-1]
