"""What all tests share; the fixtures are in tests/fixtures."""

from __future__ import annotations

import pytest

from tests.servers.tools import in_ci

pytest_plugins = [
    "tests.fixtures.folders",
    "tests.fixtures.stores",
    "tests.fixtures.kafka",
    "tests.fixtures.front",
]

_skipped: list[str] = []


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember every skip, whatever caused it."""
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember modules that skipped themselves."""
    _note(report)


#: Folders whose files share what is dear to make (an installed service): they stay on one test process.
_TOGETHER = ("systemd",)
#: Folders in the order in which they begin: the longest first, so that no process is left with them alone.
_ORDER = ("systemd", "e2e", "browser", "contract", "integration", "property", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, so that its fixtures are made once (with `--dist loadgroup`)."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in _TOGETHER else str(item.path)))
    order = {folder: number for number, folder in enumerate(_ORDER)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CI=true a skip is a failure: a suite that did not run is not a suite that passed."""
    if _skipped and in_ci() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that count as failures."""
    if _skipped and in_ci():
        terminalreporter.section("skipped, which CI=true does not allow", red=True)
        for line in _skipped:
            terminalreporter.line(line)
