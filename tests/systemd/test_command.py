"""/opt/headgate/bin/headgate: which settings, data folder and user it works with."""

from __future__ import annotations

import pytest

from tests.systemd.machine import Machine

#: The first test that wants an installation makes it, which downloads packages where no cache has them.
pytestmark = pytest.mark.timeout(300)

COMMAND = "/opt/headgate/bin/headgate"

#: Stands in for the program behind the command: prints what it was given.
SHOW = """#!/bin/sh
echo "user=$(id -un)" "umask=$(umask)"
env | grep -E '^(HEADGATE_|CREDENTIALS_DIRECTORY=|HOME=)' | sort
printf 'argument=%s\\n' "$@"
"""

INSTALLED = {
    "HEADGATE_CONFIG=/etc/headgate/headgate.toml",
    "HEADGATE_DATA_DIR=/var/lib/headgate",
    "CREDENTIALS_DIRECTORY=/etc/headgate/credentials",
}


@pytest.fixture(scope="module")
def shown(machine: Machine) -> Machine:
    """A machine whose program only prints."""
    machine.write("/opt/headgate/current/bin/headgate", SHOW, mode=0o755)
    return machine


def call(machine: Machine, *arguments: str, user: str = "root", **variables: str) -> set[str]:
    """The lines that the program printed."""
    given = [f"{name}={value}" for name, value in variables.items()]
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user != "root" else []
    return set(machine.run(*become, "env", *given, COMMAND, *arguments).stdout.splitlines())


def test_root_works_on_the_services_data_as_the_service(shown: Machine) -> None:
    said = call(shown, "sources", "create", "--name", "two words")
    assert {"user=headgate umask=0077", "HOME=/var/lib/headgate", "argument=two words"} <= said
    assert said >= INSTALLED


def test_the_services_own_user_needs_no_variables_either(shown: Machine) -> None:
    assert call(shown, "tail", user="headgate") >= INSTALLED


@pytest.mark.parametrize(
    "given",
    [
        {"HEADGATE_CONFIG": "/etc/headgate/headgate.toml", "HEADGATE_DATA_DIR": "/var/lib/headgate"},
        {"HEADGATE_CONFIG": "/etc/headgate/headgate.toml"},
        {"HEADGATE_DATA_DIR": "/var/lib/headgate"},
    ],
)
def test_the_same_variables_given_mean_the_same(shown: Machine, given: dict[str, str]) -> None:
    said = call(shown, **given)
    assert said >= {"user=headgate umask=0077", *INSTALLED}


def test_the_environment_file_of_the_unit_is_read_and_the_caller_wins(shown: Machine) -> None:
    text = '# a comment\nHEADGATE_ADMIN_PORT=9191\nHEADGATE_KAFKA__BROKERS="a:1,b:2"\nHEADGATE_X$(id)=1\nPATH=/no'
    shown.write("/etc/headgate/environment", text)
    try:
        said = call(shown, HEADGATE_KAFKA__BROKERS="c:3")
    finally:
        shown.run("rm", "/etc/headgate/environment")
    assert {"HEADGATE_ADMIN_PORT=9191", "HEADGATE_KAFKA__BROKERS=c:3"} <= said
    assert not [line for line in said if line.startswith("HEADGATE_X")]


@pytest.mark.parametrize("arguments", [("--config", "/srv/dev.toml"), ("check", "--config=/srv/dev.toml")])
def test_settings_named_by_the_caller_are_not_mixed_with_the_installed_ones(
    shown: Machine, arguments: tuple[str, ...]
) -> None:
    said = call(shown, *arguments)
    assert "user=root umask=0022" in said
    assert not [
        line for line in said if line.startswith(("HEADGATE_CONFIG", "HEADGATE_DATA", "CREDENTIALS_"))
    ]


def test_another_data_folder_is_another_instance_and_its_owner_is_kept(shown: Machine) -> None:
    shown.run("install", "-d", "-o", "nobody", "/srv/other")
    said = call(shown, HEADGATE_DATA_DIR="/srv/other")
    assert {"user=nobody umask=0077", "HEADGATE_DATA_DIR=/srv/other"} <= said
    assert not [line for line in said if line.startswith(("HEADGATE_CONFIG", "CREDENTIALS_"))]
