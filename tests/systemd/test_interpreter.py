"""Which Python an installation takes, and which it refuses before it changes anything."""

from __future__ import annotations

import pytest

from tests.systemd.machine import CLONE, Machine

#: The first test that wants an installation makes it, which downloads packages where no cache has them.
pytestmark = pytest.mark.timeout(300)

CHOOSE = f"{CLONE}/systemd/choose-python.sh"


@pytest.fixture(scope="module")
def machine_with_pythons(machine: Machine) -> Machine:
    """The system's Python, and copies of it where a service can't use them."""
    script = """
        system=$(PATH=/usr/local/bin:/usr/bin:/bin sh "$1" 2>&1) || { echo "$system"; exit 1; }
        useradd --create-home --home-dir /srv/ada ada
        for folder in /root/.pyenv/versions/3.12 /home/eve/python /srv/ada/python /opt/locked; do
            mkdir -p "$folder/bin"
            cp "$system" "$folder/bin/python3.12"
        done
        chmod 0700 /opt/locked
        ln -s /home/eve/python/bin/python3.12 /usr/local/bin/linked-python
    """
    machine.run("sh", "-euc", script, "sh", CHOOSE)
    shim = '#!/bin/sh\nexec /root/.pyenv/versions/3.12/bin/python3.12 "$@"\n'
    for name in ("python3", "python3.11", "python3.12"):
        machine.write(f"/root/.pyenv/shims/{name}", shim, mode=0o755)
    return machine


def choose(machine: Machine, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of choose-python.sh."""
    given = [f"{name}={value}" for name, value in variables.items()]
    done = machine.run("env", *given, "sh", CHOOSE, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_systems_own_python_is_taken_though_shims_come_first(machine_with_pythons: Machine) -> None:
    code, chosen, said = choose(machine_with_pythons, PATH="/root/.pyenv/shims:/usr/sbin:/usr/bin:/bin")
    assert (code, said) == (0, "")
    assert chosen.startswith(("/usr/bin/python3.", "/usr/local/bin/python3.")), chosen
    real = machine_with_pythons.run("readlink", "-f", chosen.strip()).stdout
    assert chosen == real, "a link may change its target with the next upgrade of the system"


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        (
            "/root/.pyenv/shims/python3",
            "/root/.pyenv/versions/3.12/bin/python3.12, and the service cannot see",
        ),
        ("/home/eve/python/bin/python3.12", "under a home folder (/home)"),
        ("/srv/ada/python/bin/python3.12", "under a home folder (/srv/ada)"),
        ("/usr/local/bin/linked-python", "/home/eve/python/bin/python3.12, and the service cannot see"),
        ("/opt/locked/bin/python3.12", "cannot read and run /opt/locked/bin/python3.12"),
        ("/nowhere/python3.12", "does not start"),
    ],
)
def test_one_that_the_service_cannot_use_is_refused(
    machine_with_pythons: Machine, python: str, reason: str
) -> None:
    code, chosen, said = choose(machine_with_pythons, PYTHON=python)
    assert (code, chosen) == (1, "")
    assert f"PYTHON={python} cannot be used" in said
    assert reason in said


def test_without_a_usable_one_every_refusal_is_named(machine_with_pythons: Machine) -> None:
    hide = 'for p in /usr/bin/python3* /usr/local/bin/python3*; do [ ! -e "$p" ] || mount --bind /dev/null "$p"; done'
    path = "/root/.pyenv/shims:/usr/sbin:/usr/bin:/bin"
    done = machine_with_pythons.run(
        "unshare", "--mount", "sh", "-c", f'{hide}; PATH={path} exec sh "$0"', CHOOSE, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "/root/.pyenv/shims/python3.12: it is /root/.pyenv/versions/3.12/bin/python3.12" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_an_installation_with_such_a_python_changes_nothing(machine_with_pythons: Machine) -> None:
    before = machine_with_pythons.run("find", "/opt/headgate", "/etc/headgate", "-maxdepth", "2").stdout
    done = machine_with_pythons.run(
        "make", "-C", CLONE, "install", "PYTHON=/root/.pyenv/shims/python3", check=False
    )
    assert done.returncode != 0
    assert "under a home folder (/root)" in done.stderr
    assert (
        machine_with_pythons.run("find", "/opt/headgate", "/etc/headgate", "-maxdepth", "2").stdout == before
    )


def test_an_ordinary_user_is_told_to_be_root(machine_with_pythons: Machine) -> None:
    # The clone of the test is root's alone; a user's own clone is one that the user can read.
    script = 'mkdir /tmp/clone && cp -r "$1/systemd" "$1/Makefile" /tmp/clone && chmod -R a+rX /tmp/clone'
    machine_with_pythons.run("sh", "-euc", script, "sh", CLONE)
    for target in ("install", "uninstall"):
        done = machine_with_pythons.run(
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "make",
            "-C",
            "/tmp/clone",
            target,
            check=False,
        )
        assert done.returncode != 0
        assert f"(sudo make {target})" in done.stderr
