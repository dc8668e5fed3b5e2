"""The files of systemd/, by systemd's own tools and by what they promise."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from daemon.config.load import load
from daemon.config.schema import Section, Settings, is_secret
from tests.servers.tools import ROOT, need
from tests.systemd.machine import Machine, run

#: The first test that wants an installation makes it, which downloads packages where no cache has them.
pytestmark = pytest.mark.timeout(300)

SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "headgate.service"

#: The oldest systemd that the unit is for.
VERSION_MIN = 249
EXPOSURE_MAX = 2.0

#: What came with systemd 240 or later, by the NEWS of the releases.
DIRECTIVES_SINCE = {
    "NoExecPaths": 248,
    "OOMPolicy": 243,
    "LoadCredential": 247,
    "PrivateIPC": 248,
    "ProcSubset": 247,
    "ProtectClock": 245,
    "ProtectHostname": 242,
    "ProtectKernelLogs": 244,
    "ProtectProc": 247,
    "RestrictSUIDSGID": 242,
    "SetCredential": 247,
    "TimeoutAbortSec": 243,
}
#: What every systemd in use knows.
DIRECTIVES_OLD = """
    After AmbientCapabilities CapabilityBoundingSet Description DevicePolicy Documentation Environment
    EnvironmentFile ExecReload ExecStart Group KeyringMode KillMode LimitCORE LimitNOFILE LockPersonality
    MemoryDenyWriteExecute NoNewPrivileges NotifyAccess PrivateDevices PrivateMounts PrivateTmp PrivateUsers
    ProtectControlGroups ProtectHome ProtectKernelModules ProtectKernelTunables ProtectSystem RemoveIPC
    RequiresMountsFor Restart RestartPreventExitStatus RestartSec RestrictAddressFamilies RestrictNamespaces
    RestrictRealtime RuntimeDirectory RuntimeDirectoryMode StartLimitIntervalSec StateDirectory
    StateDirectoryMode SystemCallArchitectures SystemCallErrorNumber SystemCallFilter TasksMax
    TimeoutStartSec TimeoutStopSec Type UMask User WantedBy Wants WatchdogSec WorkingDirectory
"""


def assignments(path: Path) -> list[tuple[str, str]]:
    """The `Name=value` lines of a unit file, in order."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [(line.split("=", 1)[0], line.split("=", 1)[1]) for line in lines if line and line[0] not in "#["]


def value(name: str) -> str:
    """The value of a directive that the unit has exactly once."""
    (found,) = [text for one, text in assignments(UNIT) if one == name]
    return found


def made_by_sysusers(root: Path) -> list[str]:
    """The fields of our user's line in passwd, after systemd-sysusers has worked on an empty `root`."""
    (root / "etc").mkdir()
    run([need("systemd-sysusers"), f"--root={root}", str(SYSTEMD / "headgate.sysusers")])
    lines = (root / "etc/passwd").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("headgate:")]
    return line.split(":")


def test_systemd_finds_nothing_wrong_with_the_installed_unit(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", "/etc/systemd/system/headgate.service")
    assert done.stdout + done.stderr == ""


def test_the_exposure_is_low() -> None:
    analyze = need("systemd-analyze")
    said = run([analyze, "--no-pager", "security", "--offline=true", str(UNIT)]).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX, said


def test_every_directive_is_known_to_the_oldest_systemd() -> None:
    used = {name for name, _ in assignments(UNIT)}
    assert used <= {*DIRECTIVES_OLD.split(), *DIRECTIVES_SINCE}, "look up since when systemd knows it"
    too_new = {name for name in used if DIRECTIVES_SINCE.get(name, 0) > VERSION_MIN}
    assert not too_new


def test_every_secret_can_be_a_credential_and_none_has_to_be() -> None:
    secrets = {
        f"{section.name}.{one.name}"
        for section in msgspec.structs.fields(Settings)
        if isinstance(section.type, type) and issubclass(section.type, Section)
        for one in msgspec.structs.fields(section.type)
        if is_secret(section.type, one.name)
    }
    loaded = dict(text.split(":", 1) for name, text in assignments(UNIT) if name == "LoadCredential")
    absent = dict(text.split(":", 1) for name, text in assignments(UNIT) if name == "SetCredential")
    assert loaded == {secret: f"/etc/headgate/credentials/{secret}" for secret in secrets}
    # An empty value is a syntax error to systemd.
    assert absent == dict.fromkeys(secrets, r"\n")


def test_the_credentials_that_stand_for_absent_ones_change_no_setting(tmp_path: Path) -> None:
    for name, text in assignments(UNIT):
        if name == "SetCredential":
            (tmp_path / text.split(":", 1)[0]).write_text("\n")
    settings_file = tmp_path / "headgate.toml"
    settings_file.write_text('[postgres]\ndsn = "postgresql://somewhere/headgate"\n')
    settings = load(settings_file, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings == load(settings_file, {})
    assert settings.postgres.dsn == "postgresql://somewhere/headgate"


def test_the_service_gets_longer_to_stop_than_its_processes() -> None:
    settings = Settings()
    # Frontends, publishers and the rest, one after the other.
    assert float(value("TimeoutStopSec")) >= 4 * settings.server.drain_limit_s
    assert float(value("TimeoutStartSec")) > settings.supervisor.start_timeout_s
    # A hung process is the supervisor's to replace; the watchdog is for the supervisor.
    assert (
        float(value("WatchdogSec")) > settings.supervisor.beat_timeout_s + settings.supervisor.abort_grace_s
    )


def test_a_core_file_of_a_hung_supervisor_would_hold_secrets_and_is_not_written() -> None:
    assert value("LimitCORE") == "0"


def test_the_drop_in_for_newer_systemd_sends_one_signal() -> None:
    drop_in = assignments(SYSTEMD / "notify-reload.conf")
    assert drop_in == [("Type", "notify-reload"), ("ExecReload", "")]
    assert value("Type") == "notify"


def test_sysusers_and_useradd_make_the_same_user(machine: Machine, tmp_path: Path) -> None:
    ours = made_by_sysusers(tmp_path)
    theirs = machine.run("getent", "passwd", "headgate").stdout.strip().split(":")
    assert ours[4:] == theirs[4:] == ["Headgate event gateway", "/var/lib/headgate", "/usr/sbin/nologin"]
    assert int(ours[2]) < 1000
    assert int(theirs[2]) < 1000


def test_tmpfiles_makes_the_folders_for_nobody_else(tmp_path: Path) -> None:
    need("root")
    tmpfiles = need("systemd-tmpfiles")
    uid, gid = map(int, made_by_sysusers(tmp_path)[2:4])
    run([tmpfiles, f"--root={tmp_path}", "--create", str(SYSTEMD / "headgate.tmpfiles")])
    for path, mode, owner in (
        ("etc/headgate", 0o750, 0),
        ("etc/headgate/credentials", 0o750, 0),
        ("var/lib/headgate", 0o700, uid),
    ):
        seen = (tmp_path / path).stat()
        assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (mode, owner, gid), path


def test_the_kernel_settings_are_in_force_and_each_has_its_reason(machine: Machine) -> None:
    lines = (SYSTEMD / "headgate-sysctl.conf").read_text().splitlines()
    machine.run("/lib/systemd/systemd-sysctl", "/etc/sysctl.d/60-headgate.conf")
    settings = [line for line in lines if "=" in line and not line.startswith("#")]
    assert settings
    for line in settings:
        assert lines[lines.index(line) - 1].startswith("# "), f"{line} has no reason above it"
        name, wanted = (part.strip() for part in line.lstrip("-").split("="))
        path = "/proc/sys/" + name.replace(".", "/")
        if line.startswith("-") and not machine.exists(path):
            continue
        assert machine.run("cat", path).stdout.strip() == wanted, name


@pytest.mark.parametrize("script", sorted(path.name for path in SYSTEMD.glob("*.sh")))
def test_the_scripts_are_plain_sh(script: str) -> None:
    done = subprocess.run(["sh", "-n", SYSTEMD / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (SYSTEMD / script).read_text().startswith("#!/bin/sh\n")
