"""TrackLayer's pixel as a file: current, small, and nothing in it that a page's policy or an older browser refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.pixel import SERVED, SERVED_BYTES_MAX, SOURCE
from tests.servers.tools import ROOT


def made() -> bytes:
    """What the source makes. In a process of its own, as the minifier brings a Go runtime along."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.pixel", "-"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    return done.stdout


def test_the_file_is_current() -> None:
    assert SERVED.read_bytes() == made(), "run: python -m scripts.pixel"


def test_it_is_small() -> None:
    """Before any compression (contracts 0.4.32a)."""
    assert SERVED_BYTES_MAX == 3379
    assert 2000 < len(SERVED.read_bytes()) <= 3379


def test_too_large_a_source_is_refused(tmp_path: Path) -> None:
    """The step itself says so, and writes nothing."""
    code = (
        "import sys, pathlib, scripts.pixel as p;"
        "p.SOURCE = pathlib.Path(sys.argv[1]); p.SERVED = pathlib.Path(sys.argv[2]); sys.exit(p.main([]))"
    )
    source, served = tmp_path / "big.js", tmp_path / "out.js"
    source.write_text("window.a = '" + "x" * 4000 + "'", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(served)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "more than 3379" in done.stderr
    assert not served.exists()


@pytest.mark.parametrize(
    "what",
    [
        r"\beval\b", r"\bFunction\(", r"innerHTML", r"outerHTML", r"document\.write", r"insertAdjacent", r"\.style\b",
        r"createElement", r"set(Timeout|Interval)\([\"'`]", r"document\.cookie=", r"localStorage",
    ],
)  # fmt: skip
def test_nothing_that_a_policy_forbids(what: str) -> None:
    """No eval and the like, no sink of Trusted Types, no style; it writes no cookie."""
    assert re.search(what, SERVED.read_text("utf-8")) is None


@pytest.mark.parametrize(
    "newer", [r"\?\.[\w(\[]", r"\?\?", r"\|\|=", r"&&=", r"\b\d+n\b", r"#\w+\s*[=(;]", r"\bawait\b"]
)
def test_older_browsers_can_read_it(newer: str) -> None:
    """ES2019: one sign that a browser does not know, and nothing of it runs."""
    without_strings = re.sub(r'"[^"]*"|/[^/\n]*\[[^/\n]*\][^/\n]*/', "", SERVED.read_text("utf-8"))
    assert re.search(newer, without_strings) is None


def test_the_contracts_words_are_in_it() -> None:
    """The path, the warning, the media type by a beacon of text."""
    text = SERVED.read_text("utf-8")
    for word in (
        '"/v1/browser/events"',
        '"missing data-merchant on script tag"',
        '"[tracklayer] "',
        "sendBeacon",
    ):
        assert word in text
    assert len(SOURCE.read_text("utf-8")) > 2 * len(text), "the source is there to be read"


def test_the_docs_say_what_is_in_it() -> None:
    """Methods, stored names, the stubs that the browser's tests use, the size's limit."""
    text = (ROOT / "docs/pixel.md").read_text("utf-8")
    source = SOURCE.read_text("utf-8")
    methods = re.findall(r"api\.(\w+) = (?:guard\()?\(", source)
    assert sorted(methods) == ["consent", "identify", "track"]
    for method in methods:
        assert f"`{method}(" in text
    stored = set(re.findall(r"'(_tl_\w+)'", source))
    assert stored
    for name in stored:
        assert f"`{name}`" in text
    tests = (ROOT / "tests/browser/pixel/test_guest.py").read_text("utf-8")
    [stub] = re.findall(r'STUB = """(.*?)"""', tests, re.DOTALL)
    [array] = re.findall(r'ARRAY = "(.*?)"', tests)
    assert stub in text
    assert array in text
    assert "3,379 bytes" in text
    assert "[tracklayer] missing data-merchant on script tag" in text
