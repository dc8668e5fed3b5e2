"""The package's own papers: dependencies that are explained, pins that are pins."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.servers.tools import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = sorted((ROOT / "requirements").glob("*.txt"))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", line, maxsplit=1)[0].lower() for line in requirements}


def pinned(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.lower(): version for name, version in found}


def test_every_dependency_is_explained_and_nothing_else() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    wanted = {"Running": PROJECT["dependencies"]}
    wanted |= {f"Extra `{extra}`": lines for extra, lines in PROJECT["optional-dependencies"].items()}
    for title, lines in wanted.items():
        rows = re.findall(r"^\| ([\w-]+)[^|]*\| ([^|]+) \|$", sections[title], flags=re.MULTILINE)
        explained = {name for name, why in rows if name != "package" and len(why) > 10}
        assert explained == names(lines), title


def test_the_pins_cover_the_dependencies() -> None:
    runtime, dev = (pinned(ROOT / "requirements" / f"{name}.txt") for name in ("runtime", "dev"))
    extras = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) | names(extras["embedded"]) | {"hatchling"} <= runtime.keys()
    assert names(extras["test"]) | names(extras["bench"]) <= dev.keys()
    # make run after make test must not change a version.
    assert runtime.items() <= dev.items()


@pytest.mark.parametrize("path", PINS, ids=[path.name for path in PINS])
def test_pins_are_hashed_and_name_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in re.sub(r"^[\w.-]+==.*$", "", text, flags=re.MULTILINE)
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_wheel_holds_everything_that_lies_beside_the_code(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("headgate-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    beside = {
        str(path.relative_to(ROOT))
        for package in ("daemon", "workers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == beside
    assert {Path(name).suffix for name in inside} >= {".py", ".lua", ".sql"}


def test_the_http_server_is_granian_and_one_module_knows_it() -> None:
    """Decided in docs/architecture.md: no HTTP server of our own, and no parser that would make one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(one.startswith("granian") for one in project["dependencies"])
    assert not any(one.startswith(("httptools", "h11", "uvicorn")) for one in project["dependencies"])
    knowing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "daemon").rglob("*.py")
        if re.search(r"^(from|import) granian", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert knowing == ["daemon/frontend/server.py"]
