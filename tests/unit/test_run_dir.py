"""Where a data folder's Unix sockets live."""

from __future__ import annotations

import os
import shutil
import stat
import urllib.parse
from pathlib import Path

import pytest

from daemon.adapters.embedded.rundir import (
    POSTGRES_FOLDER,
    SOCKET_PATH_BYTES_MAX,
    postgres_dsn,
    redis_url,
    run_dir_for,
)
from daemon.errors import SettingsError


@pytest.fixture(autouse=True)
def no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


def test_a_short_data_folder_keeps_its_sockets_inside(tmp_path: Path) -> None:
    run = run_dir_for(tmp_path / "d")
    assert run == tmp_path / "d" / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


def test_a_relative_folder_is_the_same_as_the_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_dir_for(Path("d")) == run_dir_for(tmp_path / "d")


@pytest.mark.parametrize("name", ["x" * 120, "ü" * 60, "comma,comma", 'quote"', "line\nbreak", "back\\slash"])
def test_a_long_or_odd_one_gets_a_folder_in_tmp_of_its_own(tmp_path: Path, name: str) -> None:
    run, other = run_dir_for(tmp_path / name), run_dir_for(tmp_path / (name + "2"))
    try:
        assert run.parent == Path("/tmp")
        assert run.name.startswith(f"headgate-{os.geteuid()}-")
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert run == run_dir_for(tmp_path / name)
        assert run != other
    finally:
        shutil.rmtree(run)
        shutil.rmtree(other)


@pytest.mark.parametrize("length", range(60, 110))
def test_every_socket_fits_at_any_length(length: int, tmp_path: Path) -> None:
    base = str(tmp_path / "d")
    data = Path(base.ljust(length, "d"))
    run = run_dir_for(data)
    try:
        socket = run / POSTGRES_FOLDER / ".s.PGSQL.5432"
        assert len(os.fsencode(socket)) <= SOCKET_PATH_BYTES_MAX
    finally:
        shutil.rmtree(run)


def test_under_systemd_it_is_below_the_units_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/r:{tmp_path}/second")
    first, second = run_dir_for(tmp_path / "a"), run_dir_for(tmp_path / "b")
    assert first.parent == second.parent == tmp_path / "r"
    assert first != second


def test_a_folder_that_somebody_prepared_as_a_link_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data / "run").symlink_to(elsewhere)
    with pytest.raises(SettingsError, match="remove it"):
        run_dir_for(data)


def test_open_permissions_are_closed(tmp_path: Path) -> None:
    run = tmp_path / "d" / "run"
    run.mkdir(parents=True)
    run.chmod(0o777)
    assert stat.S_IMODE(run_dir_for(tmp_path / "d").stat().st_mode) == 0o700


def test_a_data_folder_that_cannot_be_made_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be made: Not a directory"):
        run_dir_for(tmp_path / "file" / "d")


def test_addresses_survive_odd_characters() -> None:
    run = Path("/data/a b%20&?#ü/run")
    parts = urllib.parse.urlsplit(postgres_dsn(run))
    assert urllib.parse.parse_qs(parts.query) == {"host": [str(run / "pg")], "port": ["5432"]}
    assert urllib.parse.unquote(urllib.parse.urlsplit(redis_url(run)).path) == str(run / "valkey.sock")
