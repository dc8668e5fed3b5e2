"""The embedded Postgres and Valkey: real servers, their files, their ends, and who they run as."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis.asyncio as redis

from daemon.adapters.embedded import privileges
from daemon.adapters.embedded.child import LOG_BYTES_MAX, acquire_server_lock, spawn, trim_log
from daemon.adapters.embedded.postgres import start_postgres
from daemon.adapters.embedded.rundir import postgres_dsn, redis_url, run_dir_for
from daemon.adapters.embedded.running import find_running, lock_data_dir
from daemon.adapters.embedded.servers import EmbeddedServers, start_embedded
from daemon.adapters.embedded.session import embedded_session
from daemon.adapters.embedded.valkey import start_valkey
from daemon.config.schema import Settings
from daemon.errors import SettingsError, StoreUnavailable
from tests.servers.tools import ROOT, need

NOBODY = 65534
DEADLINE_S = 20.0


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[EmbeddedServers]:
    servers = await start_embedded(data, postgres=True, redis=True)
    try:
        yield servers
    finally:
        await servers.stop()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def valkey_client(url: str) -> AsyncIterator[Any]:
    client = redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def until(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline, f"still not: {what}"
        await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    """Ended, whether or not somebody has collected its exit code."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_parent(data: Path, become: list[str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*(become or []), sys.executable, "-m", "tests.servers.embedded_parent", str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def told(parent: subprocess.Popen[str]) -> dict[str, Any]:
    assert parent.stdout is not None
    found: dict[str, Any] = json.loads(parent.stdout.readline())
    return found


def finish(parent: subprocess.Popen[str]) -> int:
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.close()
    parent.stdout.close()
    return parent.wait(DEADLINE_S)


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as servers:
        async with connected(servers.endpoints.postgres_dsn) as connection:
            assert await connection.fetchval("SELECT current_database()") == "headgate"
            await connection.execute("CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')")
        async with valkey_client(servers.endpoints.redis_url) as client:
            await client.set("k", "kept")
    async with running(tmp_path) as servers:
        async with connected(servers.endpoints.postgres_dsn) as connection:
            assert await connection.fetchval("SELECT v FROM t") == "kept"
        async with valkey_client(servers.endpoints.redis_url) as client:
            assert await client.get("k") == b"kept"


async def test_the_settings_are_durable_and_the_addresses_follow_from_the_folder(tmp_path: Path) -> None:
    async with running(tmp_path) as servers:
        assert servers.endpoints.postgres_dsn == postgres_dsn(run_dir_for(tmp_path))
        assert servers.endpoints.redis_url == redis_url(run_dir_for(tmp_path))
        async with connected(servers.endpoints.postgres_dsn) as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                assert await connection.fetchval(f"SHOW {name}") == "on"
            assert (await connection.fetchval("SHOW server_version")).startswith("18")
            # Sorting must not depend on the machine: code points, capital letters first.
            assert await connection.fetchval("SELECT 'Z' < 'a' COLLATE \"default\"") is True
        async with valkey_client(servers.endpoints.redis_url) as client:
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "0", "port": "0"}
            for name, value in wanted.items():
                assert await client.config_get(name) == {name: value}


async def test_they_listen_on_unix_sockets_only_that_nobody_else_can_open(tmp_path: Path) -> None:
    async with running(tmp_path) as servers:
        for server in servers._servers:
            # Postgres' sessions are forks of this one, and listen nowhere else.
            assert psutil.Process(server.pid).net_connections(kind="inet") == []
        assert stat.S_IMODE(run_dir_for(tmp_path).stat().st_mode) == 0o700
        for name in ("postgres.log", "valkey.log", "run.json"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


async def test_only_one_of_them_when_the_settings_name_the_other(tmp_path: Path) -> None:
    servers = await start_embedded(tmp_path, postgres=False, redis=True)
    assert servers.names == ["Valkey"]
    assert servers.endpoints.postgres_dsn == ""
    assert find_running(tmp_path) == servers.endpoints
    await servers.stop()
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize(
    "name", ["with a space", 'a,comma and a "quote"', "löng-" + "x" * 180, "per%cent?&#"]
)
async def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    data = tmp_path / name / "data"
    async with running(data) as servers:
        async with connected(servers.endpoints.postgres_dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        async with valkey_client(servers.endpoints.redis_url) as client:
            assert await client.ping()
        assert find_running(data) == servers.endpoints
    if (run := run_dir_for(data)).parent == Path("/tmp"):
        shutil.rmtree(run)


async def test_two_data_folders_side_by_side(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as first, running(tmp_path / "b") as second:
        async with connected(first.endpoints.postgres_dsn) as connection:
            await connection.execute("CREATE TABLE only_in_a ()")
        async with connected(second.endpoints.postgres_dsn) as connection:
            assert await connection.fetchval("SELECT to_regclass('only_in_a')") is None
        assert find_running(tmp_path / "a") == first.endpoints
        assert find_running(tmp_path / "b") == second.endpoints


async def test_found_while_they_run_and_not_afterwards(tmp_path: Path) -> None:
    assert find_running(tmp_path) is None
    async with running(tmp_path) as servers:
        assert find_running(tmp_path) == servers.endpoints
        left_behind = (tmp_path / "run.json").read_bytes()
    assert find_running(tmp_path) is None
    (tmp_path / "run.json").write_bytes(left_behind)
    assert find_running(tmp_path) is None


async def test_a_command_finds_a_service_whose_sockets_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "runtime"))
    with lock_data_dir(tmp_path / "data"):
        async with running(tmp_path / "data"):
            monkeypatch.delenv("RUNTIME_DIRECTORY")
            async with embedded_session(settings, postgres=True, redis=True) as found:
                async with connected(found.postgres.dsn) as connection:
                    assert await connection.fetchval("SELECT current_database()") == "headgate"
                async with valkey_client(found.redis.url) as client:
                    assert await client.ping()


async def test_a_killed_parent_takes_both_down_and_the_next_start_finds_everything(tmp_path: Path) -> None:
    parent = start_parent(tmp_path)
    found = told(parent)
    async with connected(found["dsn"]) as connection:
        await connection.execute("CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')")
    async with valkey_client(found["url"]) as client:
        await client.set("k", "kept")
    parent.kill()
    finish(parent)
    # The very next start waits for the old servers' end: two on the same files would spoil them.
    async with running(tmp_path) as servers:
        assert all(gone(pid) for pid in found["pids"])
        async with connected(servers.endpoints.postgres_dsn) as connection:
            assert await connection.fetchval("SELECT v FROM t") == "kept"
        async with valkey_client(servers.endpoints.redis_url) as client:
            assert await client.get("k") == b"kept"


async def test_a_killed_parent_needs_no_next_start(tmp_path: Path) -> None:
    parent = start_parent(tmp_path)
    found = told(parent)
    parent.kill()
    finish(parent)
    await until(lambda: all(gone(pid) for pid in found["pids"]), "both servers have ended")


async def test_after_a_crash_of_everything_stale_files_do_not_matter(tmp_path: Path) -> None:
    parent = start_parent(tmp_path)
    found = told(parent)
    async with connected(found["dsn"]) as connection:
        await connection.execute("CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')")
    for pid in (*found["pids"], parent.pid):
        os.kill(pid, signal.SIGKILL)
    finish(parent)
    stale = tmp_path / "postgres" / "postmaster.pid"
    assert stale.exists()
    # After a reboot the recorded pid may be anybody's; the worst case is one that Postgres can see: ours.
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    async with running(tmp_path) as servers, connected(servers.endpoints.postgres_dsn) as connection:
        assert await connection.fetchval("SELECT v FROM t") == "kept"


async def test_a_server_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as servers:
        assert servers.failures() == []
        valkey = servers._servers[1]
        os.kill(valkey.pid, signal.SIGKILL)
        await until(lambda: bool(servers.failures()), "the failure is seen")
        assert servers.failures()[0].startswith("Valkey ended with code -9")


async def test_a_predecessor_that_does_not_end_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    lock = await acquire_server_lock(path, "Some server")
    server = spawn(
        "Some server",
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)",
        ],
        log_path=tmp_path / "some.log",
        death_signal=signal.SIGKILL,
        lock=lock,
    )
    os.close(lock)
    second = await acquire_server_lock(path, "Some server", grace_s=0.05)
    assert server.exit_code() == -signal.SIGKILL
    os.close(second)


async def test_a_lock_held_by_somebody_unknown_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.adapters.embedded.child.PREDECESSOR_KILLED_S", 0.05)
    held = await acquire_server_lock(tmp_path / "some.lock", "Some server")
    with pytest.raises(StoreUnavailable, match="another Some server still uses"):
        await acquire_server_lock(tmp_path / "some.lock", "Some server", grace_s=0.05)
    os.close(held)


async def test_a_program_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    server = spawn(
        "Nothing", [str(tmp_path / "absent")], log_path=tmp_path / "log", death_signal=signal.SIGKILL
    )
    assert await server.wait(DEADLINE_S)
    assert server.exit_code() == 71
    assert "No such file or directory" in server.log_tail()


async def test_a_bad_setting_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unrecognized configuration parameter"):
        await start_postgres(tmp_path, run_dir_for(tmp_path), settings={"no_such_setting": "1"})
    # And nothing is left that would be in the way.
    server = await start_postgres(tmp_path, run_dir_for(tmp_path))
    await server.stop()


async def test_a_folder_with_something_else_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("important")
    with pytest.raises(SettingsError, match="not empty"):
        await start_postgres(tmp_path, run_dir_for(tmp_path))
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "important"


async def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir(mode=0o700)
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(SettingsError, match=r"PostgreSQL 16.*pg_upgrade"):
        await start_postgres(tmp_path, run_dir_for(tmp_path))


async def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "half").write_text("")
    server = await start_postgres(tmp_path, run_dir_for(tmp_path))
    await server.stop()
    assert not (tmp_path / "postgres.new").exists()


async def test_a_cut_append_only_file_is_repaired(tmp_path: Path) -> None:
    server = await start_valkey(tmp_path, run_dir_for(tmp_path))
    async with valkey_client(server.url) as client:
        await client.set("whole", "1")
        await client.set("cut", "2")
    await server.stop()
    journal = max((tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof"))
    journal.write_bytes(journal.read_bytes()[:-5])
    server = await start_valkey(tmp_path, run_dir_for(tmp_path))
    async with valkey_client(server.url) as client:
        assert await client.get("whole") == b"1"
        assert await client.get("cut") is None
    await server.stop()


async def test_logs_are_bounded(tmp_path: Path) -> None:
    log = tmp_path / "valkey.log"
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    server = await start_valkey(tmp_path, run_dir_for(tmp_path))
    assert (tmp_path / "valkey.log.1").stat().st_size == LOG_BYTES_MAX + 1
    assert log.stat().st_size < 10_000
    with log.open("ab") as file:
        file.write(b"y" * (LOG_BYTES_MAX + 1))
    assert trim_log(log) is True
    await server.stop()
    # The server's own last words came after the cut, at the start of the file.
    assert 0 < log.stat().st_size < 10_000
    assert b"y" not in log.read_bytes()[:1]


async def test_a_ctrl_c_for_the_parents_group_does_not_reach_them(tmp_path: Path) -> None:
    async with running(tmp_path) as servers:
        for server in servers._servers:
            assert os.getpgid(server.pid) != os.getpgid(0)
            assert os.getsid(server.pid) != os.getsid(0)


# --- as root -----------------------------------------------------------------------------------------


async def test_as_root_postgres_runs_as_somebody_else_below_a_closed_folder(tmp_path: Path) -> None:
    need("root")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with running(closed / "data") as servers, connected(servers.endpoints.postgres_dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1
        process = psutil.Process(servers._servers[0].pid)
        uid = process.uids().effective
        assert uid != 0
        assert set(process.uids()) == {uid}
        status = Path(f"/proc/{process.pid}/status").read_text()
        # One capability, to read and search; no way to get more.
        assert int(status.split("CapEff:")[1].split()[0], 16) == 1 << privileges.CAP_DAC_READ_SEARCH
        assert status.split("NoNewPrivs:")[1].split()[0] == "1"
        # Only its own two folders changed hands.
        owned = {path for path in (closed / "data").iterdir() if path.stat().st_uid == uid}
        assert owned == {closed / "data" / "postgres"}
        assert closed.stat().st_uid == 0
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


async def test_as_root_on_an_ordinary_users_data_it_runs_as_that_user(tmp_path: Path) -> None:
    need("root")
    server = await start_postgres(tmp_path, run_dir_for(tmp_path))
    await server.stop()
    for path in (tmp_path / "postgres", *(tmp_path / "postgres").rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    server = await start_postgres(tmp_path, run_dir_for(tmp_path))
    assert psutil.Process(server.pid).uids().effective == 12345
    await server.stop()


async def test_as_an_ordinary_user() -> None:
    need("root")
    home = Path("/tmp") / f"hg-nobody-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    become = [need("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not all(
        privileges._reachable(path, NOBODY, NOBODY) for path in (Path(sys.executable).resolve(), ROOT)
    ):
        # The interpreter or this folder is in a home that is closed to others.
        become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    parent = start_parent(home / "data", become)
    found = told(parent)
    assert {psutil.Process(pid).uids().effective for pid in found["pids"]} == {NOBODY}
    async with connected(found["dsn"]) as connection:
        assert await connection.fetchval("SELECT current_database()") == "headgate"
    assert finish(parent) == 0
    assert all(gone(pid) for pid in found["pids"])
    assert {path.stat().st_uid for path in home.rglob("*")} == {NOBODY}
    shutil.rmtree(home)
