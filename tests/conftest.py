"""What all tests share; the fixtures are in tests/fixtures."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

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
_TOGETHER = ("tests/systemd",)
#: Folders in the order in which they begin: the longest first, so that no process is left with them alone.
_ORDER = ("systemd", "e2e", "browser", "contract", "integration", "property", "unit")


class _FilesTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """A file's tests go to one test process, so that its fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder in _TOGETHER else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _FilesTogether:
    """Used by `pytest -n`, whatever `--dist` says."""
    return _FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long folders first."""
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
