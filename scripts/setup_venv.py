"""
Makes .venv hold the pinned dependencies (`runtime` or `dev`) and the project itself, installed editable.

Nothing is done when the stamp says that it is done: the stamp names the pins, the folder and the interpreter, and
is written last, so an interrupted installation is done again. Two at once wait for each other. Standard library
only; run by scripts/setup-venv.sh with Python 3.11 or newer.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "headgate-stamp"
HOME = VENV / "headgate-home"
LOCK = ROOT / ".cache" / "venv.lock"

#: `dev` holds everything of `runtime` at the same versions.
KINDS = ("runtime", "dev")

PIP = ("-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--root-user-action=ignore")


def main(kind: str) -> int:
    """Make .venv ready for `kind`; return the exit code."""
    if kind not in KINDS:
        print(f"usage: setup_venv.py {'|'.join(KINDS)}", file=sys.stderr)
        return 64
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    os.umask(0o022)
    if _ready(kind):
        return 0
    try:
        with _alone():
            if not _ready(kind):
                _install(kind)
    except OSError as error:
        print(f"headgate: cannot make {VENV}: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"headgate: installing failed (exit code {error.returncode}); run it again to retry",
            file=sys.stderr,
        )
        return 1
    return 0


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another make is installing; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp(kind: str) -> str:
    digest = hashlib.sha256()
    for path in (ROOT / "requirements" / f"{kind}.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return f"{kind} {digest.hexdigest()} {ROOT}\n"


def _ready(kind: str) -> bool:
    try:
        done = STAMP.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    satisfied = any(done == _stamp(other) for other in KINDS[KINDS.index(kind) :])
    return satisfied and _interpreter_fits()


def _interpreter_fits() -> bool:
    """Say whether the interpreter of .venv starts, has pip, and is the one that PYTHON= asks for, if it does."""
    probe = "import sys, pip; print(sys.version_info[:2] >= (3, 11), sys.version)"
    try:
        found = subprocess.run([PYTHON, "-I", "-c", probe], capture_output=True, text=True, check=False)
    except OSError:
        return False
    # With PYTHON= this very process runs in the interpreter that was asked for.
    wanted = sys.version if os.environ.get("PYTHON") else ""
    return found.returncode == 0 and found.stdout.startswith(f"True {wanted}")


def _moved() -> bool:
    """Say whether .venv was made for another place: its scripts name an interpreter that is not there."""
    try:
        return HOME.read_text(encoding="utf-8") != str(ROOT)
    except OSError:
        return False


def _install(kind: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    if _moved() or not _interpreter_fits():
        base = getattr(sys, "_base_executable", sys.executable)
        _say(f"making .venv with Python {sys.version.split()[0]}")
        subprocess.run([base, "-I", "-m", "venv", "--clear", str(VENV)], check=True)
    HOME.write_text(str(ROOT), encoding="utf-8")
    pins = Path("requirements") / f"{kind}.txt"
    count = sum("==" in line for line in (ROOT / pins).read_text(encoding="utf-8").splitlines())
    _say(f"installing {count} pinned packages for {kind}")
    _pip("--require-hashes", "-r", str(pins), total=count)
    _pip("--no-deps", "--no-build-isolation", "--editable", ".", total=1)
    STAMP.write_text(_stamp(kind), encoding="utf-8")
    _say("installed")


def _pip(*arguments: str, total: int) -> None:
    """Run pip and show how far it is: one line that counts on a terminal, one line per 20 packages elsewhere."""
    terminal = sys.stdout.isatty()
    seen = 0
    with subprocess.Popen([PYTHON, *PIP, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                named = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)==", line)
                if named is not None:
                    seen += 1
                    if terminal:
                        print(f"\r\x1b[K  {seen}/{total} {named[1]}", end="", flush=True)
                    elif seen % 20 == 0 and seen < total:
                        _say(f"  {seen}/{total}")
                elif total > 1 and line.startswith("Installing collected"):
                    if terminal:
                        print("\r\x1b[K  unpacking", end="", flush=True)
                    else:
                        _say("  unpacking")
        except KeyboardInterrupt:
            pip.terminate()
            raise
        finally:
            if terminal:
                print("\r\x1b[K", end="", flush=True)
    if pip.returncode != 0:
        raise subprocess.CalledProcessError(pip.returncode, "pip")


def _say(text: str) -> None:
    print(f"headgate: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
    except KeyboardInterrupt:
        print("headgate: interrupted; run it again to finish the installation", file=sys.stderr)
        sys.exit(130)
