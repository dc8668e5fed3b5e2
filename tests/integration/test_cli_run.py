"""`headgate run` and the commands beside it: the whole of it as an operator sees it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.adapters.embedded.postgres import start_postgres
from daemon.adapters.embedded.rundir import postgres_dsn as dsn_in
from daemon.errors import AlreadyRunning, SettingsError
from tests.fixtures.loops import run
from tests.servers.kafka import free_port
from tests.support.command import Command, end, says, wait_for

EVENT = {"type": "track", "event": "Bought"}


class Instance:
    """`headgate run`, with its output in files."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.data = folder / "data"
        self.out, self.err = folder / "out", folder / "err"
        self.ports = {name: free_port() for name in ("INGEST", "ADMIN", "DASHBOARD")}
        self.headgate = Command(
            HEADGATE_DATA_DIR=str(self.data),
            **{f"HEADGATE_{name}_PORT": str(port) for name, port in self.ports.items()},
            **{"HEADGATE_MODE": "development", "HEADGATE_FRONTEND__COUNT": "1", **variables},
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, wait: str = "tail --follow") -> Instance:
        """Start it and wait until it has printed `wait`."""
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = self.headgate.start("run", stdout=out, stderr=err)
        process = self.process
        wait_for(lambda: says(self.out, wait) or process.poll() is not None, wait)
        assert process.poll() is None, self.err.read_text()
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; gives the exit code."""
        process, self.process = self.process, None
        assert process is not None
        return end(process, number)[0]

    def status(self, path: str) -> int:
        """The status of the admin port's answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['ADMIN']}{path}", timeout=10) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def send(self, key: str) -> int:
        """Send an event with a pipeline key; the status."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['INGEST']}/v1/t",
            json.dumps(EVENT).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def key(self) -> str:
        """The demo source's pipeline key."""
        [source] = json.loads((self.data / "credentials.json").read_text())["sources"]
        return str(source["pipeline_key"])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[type[Instance]]:
    """Make instances; those that still run at the end are ended."""
    made: list[Instance] = []

    class Made(Instance):
        def __init__(self, folder: Path, **variables: str) -> None:
            super().__init__(folder, **variables)
            made.append(self)

    yield Made
    for one in made:
        if one.process is not None:
            one.stop()


def test_from_the_printed_line_to_the_revoked_key(make: type[Instance], tmp_path: Path) -> None:
    instance = make(tmp_path).start()
    headgate = instance.headgate
    assert instance.status("/readyz") == 200
    text = instance.out.read_text()
    assert "\x1b" not in text
    assert (instance.data / "credentials.json").stat().st_mode & 0o777 == 0o600

    # The printed line, pasted; and the printed command for looking at what came of it.
    [curl] = [line.strip() for line in text.splitlines() if line.strip().startswith("curl")]
    pasted = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(pasted.stdout) == {"success": True}
    [tail] = [line.strip() for line in text.splitlines() if line.strip().endswith("tail --follow")]
    assert f"HEADGATE_DATA_DIR={shlex.quote(str(instance.data))}" in tail
    [envelope] = [json.loads(line) for line in headgate("tail").stdout.splitlines()]
    assert envelope["event"] == "Product Viewed"
    [demo] = headgate.json("sources", "list")
    assert envelope["source"] == demo["id"]

    # A second instance, and commands, beside the running one.
    assert instance.process is not None
    assert f"process {instance.process.pid}" in headgate.error("run", code=AlreadyRunning.exit_code)
    assert headgate.json("check")["ok"] is True
    slots = headgate.json("slots")
    assert {slot["role"]: slot["state"] for slot in slots["slots"]} == dict.fromkeys(
        ("embedded", "publisher", "processor", "frontend"), "READY"
    )
    assert slots["supervisor"] == instance.process.pid
    assert "not PARKED" in headgate.error("slots", "unpark", "frontend", "0", code=64)
    assert "no slot 7" in headgate.error("slots", "unpark", "frontend", "7", code=66)
    assert headgate.json("slots", "unpark", "--all") == {"unparked": []}

    # New keys work at once, disabled and revoked ones no more.
    made = headgate.json("sources", "create", "--tenant", "acme", "--name", "shop")
    assert instance.send(made["pipeline_key"]) == 200
    headgate("sources", "disable", made["id"])
    wait_for(lambda: instance.send(made["pipeline_key"]) == 401, "the disabled source is refused")
    headgate("sources", "enable", made["id"])
    wait_for(lambda: instance.send(made["pipeline_key"]) == 200, "the enabled source is taken")
    headgate("keys", "revoke", made["pipeline_key"])
    wait_for(lambda: instance.send(made["pipeline_key"]) == 401, "the revoked key is refused")
    assert instance.send(instance.key()) == 200

    # Every process but the embedded servers' is another one afterwards.
    before = {(one["role"], one["slot"]): one["pid"] for one in slots["slots"]}
    rolled = headgate("restart", "--rolling")
    assert "publisher/0" in rolled.stdout
    after = {(one["role"], one["slot"]): one["pid"] for one in headgate.json("slots")["slots"]}
    assert [place for place in before if before[place] == after[place]] == [("embedded", 0)]

    assert instance.stop() == 0
    assert "Headgate does not run" in headgate.error("slots", code=69)

    # A second run keeps the data and the keys.
    key = instance.key()
    instance.start()
    assert instance.key() == key
    assert instance.send(key) == 200
    assert instance.stop(signal.SIGINT) == 0


def test_in_production_no_key_is_printed_or_logged(make: type[Instance], tmp_path: Path) -> None:
    instance = make(tmp_path, HEADGATE_MODE="production").start()
    [source] = json.loads((instance.data / "credentials.json").read_text())["sources"]
    said = instance.out.read_text() + instance.err.read_text()
    assert source["pipeline_key"] not in said
    assert source["secret_key"] not in said
    assert str(instance.data / "credentials.json") in said
    [curl] = [line.strip() for line in said.splitlines() if line.strip().startswith("curl")]
    pasted = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(pasted.stdout) == {"success": True}


def test_a_bad_reload_changes_nothing_and_says_why(make: type[Instance], tmp_path: Path) -> None:
    config = tmp_path / "headgate.toml"
    config.write_text("[limits]\nburst = 10\n")
    instance = make(tmp_path, HEADGATE_CONFIG=str(config)).start()
    before = instance.headgate.json("slots")
    config.write_text("[limits]\nburts = 10\n")
    # The command reads the settings too, to find the instance; the daemon has its own word on them.
    plain = Command(**{k: v for k, v in instance.headgate.variables.items() if k != "HEADGATE_CONFIG"})
    assert "limits.burst" in plain.error("restart", "--rolling", code=SettingsError.exit_code)
    after = plain.json("slots")
    assert [one["pid"] for one in after["slots"]] == [one["pid"] for one in before["slots"]]


def test_a_command_s_servers_are_waited_for_by_an_instance(make: type[Instance], tmp_path: Path) -> None:
    instance = make(tmp_path)
    command = instance.headgate.start("sources", "create", "--tenant", "acme", "--name", "shop", "--json")
    wait_for(lambda: says(instance.data / "lock", "command"), "the command holds the data folder")
    instance.start()
    out, err = command.communicate(timeout=60)
    assert command.returncode == 0, err
    assert instance.send(json.loads(out)["pipeline_key"]) == 200


def test_postgres_away_at_the_start_is_waited_for(make: type[Instance], tmp_path: Path) -> None:
    run_dir = tmp_path / "pg-run"
    instance = make(tmp_path, HEADGATE_POSTGRES__DSN=dsn_in(run_dir))
    with instance.out.open("w") as out, instance.err.open("w") as err:
        instance.process = instance.headgate.start("run", stdout=out, stderr=err)
    wait_for(lambda: instance.status("/livez") == 200, "alive")
    wait_for(lambda: says(instance.err, "the database is not prepared yet"), "a word about the database")
    wait_for(lambda: says(instance.err, "all slots are ready"), "the start is over all the same")
    assert instance.process.poll() is None
    assert instance.out.read_text() == ""
    assert instance.status("/livez") == 200
    assert instance.status("/readyz") == 503
    server = run(start_postgres(tmp_path / "pg-data", run_dir))
    try:
        wait_for(lambda: says(instance.out, "tail --follow"), "the welcome, once the database is there")
        wait_for(lambda: instance.send(instance.key()) == 200, "an event is taken")
        wait_for(lambda: instance.status("/readyz") == 200, "ready")
        assert instance.stop() == 0
    finally:
        run(server.stop())


def test_a_database_of_a_newer_headgate_ends_the_start_with_78(
    make: type[Instance], postgres_dsn: str, tmp_path: Path
) -> None:
    instance = make(tmp_path, HEADGATE_POSTGRES__DSN=postgres_dsn)
    instance.headgate("sources", "list")
    import asyncpg

    async def age() -> None:
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute(
            "INSERT INTO headgate_schema (version, name) VALUES (999, 'from the future')"
        )
        await connection.close()

    run(age())
    process = instance.headgate.start("run")
    out, err = process.communicate(timeout=60)
    assert process.returncode == SettingsError.exit_code
    assert "999" in err
    assert out == ""
