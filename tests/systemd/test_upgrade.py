"""`make install` over a running service, and `make uninstall`; in this order, on one machine."""

from __future__ import annotations

import pytest

from tests.systemd import service
from tests.systemd.machine import CLONE, Machine, until
from tests.systemd.service import UNIT, Load

#: The first test that wants an installation makes it, which downloads packages where no cache has them.
pytestmark = pytest.mark.timeout(300)

SETTINGS = "/etc/headgate/headgate.toml"
CURRENT = "/opt/headgate/current"


def release(machine: Machine) -> str:
    """The folder of the release that a next start takes."""
    return machine.run("readlink", "-f", CURRENT).stdout.strip()


def running_release(machine: Machine) -> str:
    """The folder of the release that the running supervisor is from."""
    path = machine.run("cat", f"/proc/{service.main_pid(machine)}/cmdline").stdout.split("\0")[0]
    return path.removesuffix("/bin/python").removesuffix("/bin/python3")


@pytest.fixture(scope="module")
def upgraded(machine: Machine) -> Machine:
    """A machine whose running service was installed once more, under load."""
    machine.systemctl("enable", "--now", UNIT)
    machine.write(
        SETTINGS, machine.run("cat", SETTINGS).stdout + "\n# the operator was here\n", 0o640, "root:headgate"
    )
    before = release(machine)
    with Load(machine, service.pipeline_key(machine)) as load:
        load.goes_on()
        said = machine.run("make", "-C", CLONE, "install", host_network=True, timeout_s=300.0).stdout
        load.goes_on()
    assert load.failures == []
    assert "systemctl restart headgate" in said
    assert before != release(machine)
    assert running_release(machine) == before
    return machine


def test_the_settings_are_the_operators(upgraded: Machine) -> None:
    assert "# the operator was here" in upgraded.run("cat", SETTINGS).stdout
    assert upgraded.run("stat", "-c", "%U:%G %a", SETTINGS).stdout == "root:headgate 640\n"


def test_a_reload_keeps_to_the_running_release_and_a_restart_takes_the_new_one(upgraded: Machine) -> None:
    before = running_release(upgraded)
    pids = {slot["pid"] for slot in service.slots(upgraded) if slot["role"] != "embedded"}
    upgraded.systemctl("reload", UNIT)
    until(
        "new processes",
        lambda: all(
            s["state"] == "READY" and s["pid"] not in pids
            for s in service.slots(upgraded)
            if s["role"] != "embedded"
        ),
    )
    assert running_release(upgraded) == before

    sent = service.track(upgraded, service.pipeline_key(upgraded))
    upgraded.systemctl("restart", UNIT)
    assert running_release(upgraded) == release(upgraded)
    assert sent in service.tailed(upgraded)


def test_uninstalling_leaves_data_and_settings_and_says_so(upgraded: Machine) -> None:
    sent = service.track(upgraded, service.pipeline_key(upgraded))
    assert sent in service.tailed(upgraded)
    upgraded.write(f"/etc/systemd/system/{UNIT}.d/mine.conf", "[Service]\nNice=1\n")
    said = upgraded.run("make", "-C", CLONE, "uninstall").stdout
    assert upgraded.processes_of("headgate") == []
    gone = [
        "/opt/headgate",
        *(f"/etc/systemd/system/{path}" for path in (UNIT, f"multi-user.target.wants/{UNIT}")),
        *(
            f"/etc/{path}"
            for path in ("sysusers.d/headgate.conf", "tmpfiles.d/headgate.conf", "sysctl.d/60-headgate.conf")
        ),
    ]
    assert [path for path in gone if upgraded.exists(path)] == []
    for path in (service.DATA, "/etc/headgate", f"/etc/systemd/system/{UNIT}.d", "the user headgate"):
        assert f"left {path}" in said
    assert upgraded.exists(f"{service.DATA}/credentials.json")
    assert upgraded.exists(SETTINGS)
    assert upgraded.show("LoadState") != "loaded"
    # Once more: there is nothing left to remove, which is no error.
    upgraded.run("make", "-C", CLONE, "uninstall")
