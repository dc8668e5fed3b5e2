"""headgate.service on a real systemd: started, reloaded under load, hung, killed, misconfigured and stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.systemd import service
from tests.systemd.machine import Machine, until
from tests.systemd.service import ADMIN, DASHBOARD, INGEST, UNIT, Load

#: The first test that wants an installation makes it, which downloads packages where no cache has them.
pytestmark = pytest.mark.timeout(300)

SETTINGS = "/etc/headgate/headgate.toml"
CREDENTIALS = "/etc/headgate/credentials"


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The module's machine with the service running."""
    service.start(machine)
    return machine


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    """The module's machine with the service stopped, and settings and credentials as installed afterwards."""
    machine.systemctl("stop", UNIT)
    kept = machine.run("cat", SETTINGS).stdout
    yield machine
    machine.write(SETTINGS, kept, 0o640, "root:headgate")
    machine.run("find", CREDENTIALS, "-type", "f", "-delete")
    machine.systemctl("stop", UNIT)
    # systemd forgets a unit that did not fail: nothing to reset then.
    machine.systemctl("reset-failed", UNIT, check=False)


def test_an_event_sent_to_the_service_is_on_the_log(running: Machine) -> None:
    assert running.show("ActiveState") == "active"
    sent = service.track(running, service.pipeline_key(running))
    assert sent in service.tailed(running)
    assert f"{service.COMMAND} tail --follow" in running.journal(), "what it tells the operator to call"


def test_it_runs_as_its_own_user_and_its_files_are_nobody_elses(running: Machine) -> None:
    assert running.show("User") == "headgate"
    root_owned = running.run("find", service.DATA, "-not", "-user", "headgate").stdout
    assert root_owned == "", "root's commands before may not leave files of root's"
    for_others = running.run("find", service.DATA, "-not", "-type", "l", "-perm", "/077").stdout
    assert for_others == ""


def test_the_status_says_how_it_goes(running: Machine) -> None:
    def told() -> re.Match[str] | None:
        return re.fullmatch(
            r"(\d+) of \1 slots ready; [\d,]+ events/s; log local", running.show("StatusText")
        )

    count = int(until("a status that counts the slots", told)[1])
    assert count == len(service.slots(running))


def test_a_check_beside_the_service_finds_nothing_wrong(running: Machine) -> None:
    # Through the sandbox, for which it needs more than a look at who holds the ports.
    done = running.run(service.COMMAND, "check", "--json")
    assert json.loads(done.stdout)["ok"] is True


def test_nothing_that_the_service_can_write_can_be_executed(running: Machine) -> None:
    pid = service.main_pid(running)
    for folder in (service.DATA, "/tmp", "/dev/shm", "/run/headgate"):
        script = (
            f"cp /bin/true {folder}/executable && {{ {folder}/executable; echo $?; rm {folder}/executable; }}"
        )
        command = ("nsenter", "-t", str(pid), "-m", "sh", "-c", script)
        assert running.run(*command, check=False).stdout == "126\n", folder


def test_a_reload_under_load_replaces_every_process_and_loses_no_request(running: Machine) -> None:
    before = {(slot["role"], slot["slot"]): slot["pid"] for slot in service.slots(running)}
    supervisor = service.main_pid(running)

    def rolled() -> bool:
        now = service.slots(running)
        return all(
            slot["state"] == "READY"
            and (slot["role"] == "embedded" or slot["pid"] != before[slot["role"], slot["slot"]])
            for slot in now
        )

    with Load(running, service.pipeline_key(running)) as load:
        load.goes_on()
        running.systemctl("reload", UNIT)
        until("every process to be replaced", rolled)
        load.goes_on()
    assert load.failures == []
    assert service.main_pid(running) == supervisor
    assert running.show("NRestarts") == "0"
    assert load.accepted <= service.tailed(running)


def test_a_reload_with_bad_settings_changes_nothing_and_says_why(running: Machine) -> None:
    before = service.slots(running)
    kept = running.run("cat", SETTINGS).stdout
    running.write(
        SETTINGS, kept.replace("[server]", "[server]\ningest_prot = 8080", 1), 0o640, "root:headgate"
    )
    try:
        running.systemctl("reload", UNIT)
        until("the refusal in the status", lambda: "server.ingest_prot" in running.show("StatusText"))
    finally:
        running.write(SETTINGS, kept, 0o640, "root:headgate")
    assert running.show("ActiveState") == "active"
    assert [slot["pid"] for slot in service.slots(running)] == [slot["pid"] for slot in before]
    service.track(running, service.pipeline_key(running))


def test_a_frozen_supervisor_is_brought_back_by_the_watchdog(stopped: Machine) -> None:
    # As the unit has it but for the time, which a test should not spend.
    drop_in = f"/run/systemd/system/{UNIT}.d/watchdog.conf"
    stopped.write(drop_in, "[Service]\nWatchdogSec=4\n")
    stopped.systemctl("daemon-reload")
    try:
        service.start(stopped)
        key = service.pipeline_key(stopped)
        sent = service.track(stopped, key)
        frozen = service.main_pid(stopped)
        stopped.run("kill", "-STOP", str(frozen))
        until("the watchdog to see it", lambda: stopped.show("NRestarts") == "1")
        until("the next one to be ready", lambda: stopped.show("ActiveState") == "active")
        assert service.main_pid(stopped) != frozen
        assert "Fatal Python error: Aborted" in stopped.journal(), "where it hung, as it says itself"
        assert {sent, service.track(stopped, key)} <= service.tailed(stopped)
    finally:
        stopped.run("rm", "-f", drop_in)
        stopped.systemctl("daemon-reload")


def test_a_killed_supervisor_is_started_again_without_a_loss(running: Machine) -> None:
    key = service.pipeline_key(running)
    sent = service.track(running, key)
    restarts = int(running.show("NRestarts"))
    running.run("kill", "-KILL", str(service.main_pid(running)))
    until("a restart", lambda: int(running.show("NRestarts")) == restarts + 1)
    until("the service to be ready", lambda: running.show("ActiveState") == "active")
    assert {sent, service.track(running, key)} <= service.tailed(running)


def test_bad_settings_end_it_for_good_and_name_the_key(stopped: Machine) -> None:
    stopped.write(SETTINGS, "[server]\ningest_port = 0\n", 0o640, "root:headgate")
    assert stopped.systemctl("start", UNIT, check=False).returncode != 0
    assert stopped.show("ExecMainStatus") == "78"
    assert (stopped.show("ActiveState"), stopped.show("NRestarts")) == ("failed", "0")
    assert "server.ingest_port" in stopped.journal()


def test_a_credential_is_taken_and_never_shown(stopped: Machine) -> None:
    key = "0123456789abcdef" * 4
    path = f"{CREDENTIALS}/security.sealing_key"
    stopped.write(path, key.replace("0", "?"), 0o640, "root:headgate")
    assert stopped.systemctl("start", UNIT, check=False).returncode != 0
    assert stopped.show("ExecMainStatus") == "78"
    assert "security.sealing_key" in stopped.journal()
    assert "123456789abcdef" not in stopped.journal()

    # A data folder of its own, so that nothing sealed with another key is in it.
    stopped.run("mv", service.DATA, "/var/lib/before")
    try:
        stopped.write(path, key + "\n", 0o640, "root:headgate")
        service.start(stopped)
        sent = service.track(stopped, service.pipeline_key(stopped))
        # The command has the same credential, or it could not read what is sealed with it.
        assert service.tailed(stopped) == {sent}
        assert not stopped.exists(f"{service.DATA}/sealing.key")
        stopped.systemctl("stop", UNIT)
    finally:
        stopped.run("rm", "-rf", service.DATA)
        stopped.run("mv", "/var/lib/before", service.DATA)


def test_a_variable_in_the_environment_file_reaches_the_service_and_the_command(stopped: Machine) -> None:
    stopped.write("/etc/headgate/environment", "HEADGATE_ADMIN_PORT=9191\n")
    try:
        service.start(stopped)
        assert stopped.request(9191, "GET", "/readyz") == (200, b'{"ready":true,"reasons":[]}')
        assert stopped.run(service.COMMAND, "slots", "--json").returncode == 0
    finally:
        stopped.run("rm", "/etc/headgate/environment")


def test_a_stop_leaves_nothing_running_and_nothing_listening(running: Machine) -> None:
    with Load(running, service.pipeline_key(running)) as load:
        load.goes_on()
    group = running.show("ControlGroup")
    running.systemctl("stop", UNIT)
    assert (running.show("ActiveState"), running.show("Result")) == ("inactive", "success")
    assert running.processes_of("headgate") == []
    assert not running.exists(f"/sys/fs/cgroup{group}")
    for port in (INGEST, DASHBOARD, ADMIN):
        with pytest.raises(ConnectionRefusedError):
            running.connect(port)
    left = running.run("find", "/run/headgate", "/dev/shm", "-mindepth", "1", check=False).stdout
    assert left == ""
    service.start(running)
    assert load.accepted <= service.tailed(running)
