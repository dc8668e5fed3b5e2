"""When an installation is done, and when it has to be done again; pip itself is not run here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import setup_venv


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone whose .venv has this test's interpreter."""
    root = tmp_path / "a clone"
    (root / "requirements").mkdir(parents=True)
    for kind in setup_venv.KINDS:
        (root / "requirements" / f"{kind}.txt").write_text(f"{kind}==1\n")
    (root / "pyproject.toml").write_text("")
    (root / ".venv" / "bin").mkdir(parents=True)
    python = root / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(setup_venv, "ROOT", root)
    monkeypatch.setattr(setup_venv, "VENV", root / ".venv")
    monkeypatch.setattr(setup_venv, "PYTHON", python)
    monkeypatch.setattr(setup_venv, "STAMP", root / ".venv" / "stamp")
    monkeypatch.setattr(setup_venv, "HOME", root / ".venv" / "home")
    monkeypatch.setattr(setup_venv, "LOCK", root / ".cache" / "lock")
    monkeypatch.delenv("PYTHON", raising=False)
    return root


def stamp(kind: str) -> None:
    setup_venv.STAMP.write_text(setup_venv._stamp(kind))


def test_what_has_its_stamp_is_ready_and_dev_is_enough_to_run(clone: Path) -> None:
    assert not setup_venv._ready("runtime")
    stamp("runtime")
    assert setup_venv._ready("runtime")
    assert not setup_venv._ready("dev")
    stamp("dev")
    assert setup_venv._ready("dev")
    assert setup_venv._ready("runtime")


@pytest.mark.parametrize("changed", ["requirements/runtime.txt", "pyproject.toml"])
def test_changed_pins_are_installed_again(clone: Path, changed: str) -> None:
    stamp("runtime")
    with (clone / changed).open("a") as file:
        file.write("\n# another\n")
    assert not setup_venv._ready("runtime")


def test_an_interpreter_that_is_gone_or_broken_is_replaced(clone: Path) -> None:
    stamp("runtime")
    setup_venv.PYTHON.write_text("#!/bin/sh\nexit 1\n")
    assert not setup_venv._ready("runtime")
    setup_venv.PYTHON.unlink()
    assert not setup_venv._ready("runtime")


def test_asking_for_another_interpreter_replaces_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp("runtime")
    monkeypatch.setenv("PYTHON", sys.executable)
    assert setup_venv._ready("runtime")
    setup_venv.PYTHON.write_text("#!/bin/sh\necho 'True 3.11.0 (another build)'\n")
    assert not setup_venv._ready("runtime")


def test_a_moved_folder_is_noticed(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not setup_venv._moved()
    setup_venv.HOME.write_text(str(clone))
    assert not setup_venv._moved()
    setup_venv.HOME.write_text("/elsewhere")
    assert setup_venv._moved()


def test_an_interrupted_installation_has_no_stamp(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp("runtime")

    def interrupted(*arguments: str, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_venv, "_pip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        setup_venv._install("runtime")
    assert not setup_venv._ready("runtime")


def test_a_failed_installation_says_so_and_is_done_again(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_venv.PYTHON.write_text('#!/bin/sh\ncase "$*" in *install*) exit 3;; esac\necho "True 3"\n')
    # The handlers that main sets belong to a process of its own, not to pytest's.
    monkeypatch.setattr("signal.signal", lambda *_: None)
    before = os.umask(0o022)
    os.umask(before)
    try:
        assert setup_venv.main("runtime") == 1
    finally:
        os.umask(before)
    assert "exit code 3" in capsys.readouterr().err
    assert not setup_venv.STAMP.exists()


def test_an_unknown_kind_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-I", setup_venv.__file__ or "", "everything"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert "runtime|dev" in done.stderr
