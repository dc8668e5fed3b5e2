"""The lock of a data folder and the file that says where its servers are."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.adapters.embedded.running import (
    Endpoints,
    find_running,
    lock_data_dir,
    remove_running,
    write_running,
)
from daemon.errors import AlreadyRunning, SettingsError


def test_one_holder_at_a_time_and_the_second_hears_who(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with lock_data_dir(data), pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}"):
        lock_data_dir(data)
    lock_data_dir(data).release()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_releasing_twice_is_fine(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path)
    lock.release()
    lock.release()


def test_a_killed_holder_leaves_it_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from daemon.adapters.embedded.running import lock_data_dir\n"
        "lock = lock_data_dir(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid}"):
            lock_data_dir(tmp_path)
        holder.send_signal(signal.SIGKILL)
    lock_data_dir(tmp_path).release()


def test_child_processes_do_not_keep_it(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    lock_data_dir(tmp_path).release()
    child.communicate()


def test_a_folder_that_cannot_be_made_is_a_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="HEADGATE_DATA_DIR") as caught:
        lock_data_dir(tmp_path / "file" / "d")
    assert caught.value.key == "data_dir"


def test_the_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    write_running(tmp_path, Endpoints(1, "postgresql://a@/b?host=%2Fx", "unix:///x"))
    write_running(tmp_path, Endpoints(2, "postgresql://c@/d?host=%2Fx", "unix:///y"))
    path = tmp_path / "run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "pid": 2,
        "postgres_dsn": "postgresql://c@/d?host=%2Fx",
        "redis_url": "unix:///y",
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_only_its_own_publication_is_withdrawn(tmp_path: Path) -> None:
    write_running(tmp_path, Endpoints(2, "", ""))
    remove_running(tmp_path, 1)
    assert (tmp_path / "run.json").exists()
    remove_running(tmp_path, 2)
    assert not (tmp_path / "run.json").exists()
    remove_running(tmp_path, 2)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": 1}', "\xff"])
def test_a_damaged_file_means_that_nothing_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    assert find_running(tmp_path) is None


def test_an_address_where_nobody_listens_is_not_found(tmp_path: Path) -> None:
    write_running(tmp_path, Endpoints(1, f"postgresql://a@/b?host={tmp_path}", ""))
    assert find_running(tmp_path) is None
    write_running(tmp_path, Endpoints(1, "", f"unix://{tmp_path}/absent.sock"))
    assert find_running(tmp_path) is None
