"""One installation per test session, made on an overlay; each module that asks gets a machine that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import CLONE, Machine, Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Where layers and machines are made; skips where root or namespaces are missing."""
    made = Workshop(tmp_path_factory.mktemp("machines"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def installed(workshop: Workshop) -> str:
    """
    The name of a layer with Headgate installed, as on a machine where much is against it.

    From a clone that only root can read, with root's umask at 077, without systemd running and without
    systemd-sysusers.
    """
    script = """
        sysusers=$(command -v systemd-sysusers) && mount --bind /dev/null "$sysusers"
        umask 077
        exec make --no-print-directory -C "$1" install
    """
    said = workshop.layer("installed", "sh", "-c", script, "sh", CLONE)
    assert "headgate: installed " in said, said
    return "installed"


@pytest.fixture(scope="module")
def machine(workshop: Workshop, installed: str, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of the module's own with Headgate installed and not started."""
    name = Path(str(request.node.path)).stem
    with workshop.machine(name, installed) as made:
        yield made
