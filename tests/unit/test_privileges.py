"""Who the embedded Postgres runs as; nothing is started here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.adapters.embedded import privileges
from daemon.adapters.embedded.privileges import identity_for
from daemon.errors import SettingsError


def test_an_ordinary_user_stays_who_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert identity_for(tmp_path / "absent", []) is None


def test_somebody_elses_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1000)
    with pytest.raises(SettingsError, match="belongs to user"):
        identity_for(tmp_path, [])


def test_root_becomes_an_unprivileged_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = identity_for(tmp_path / "absent", [Path("/")])
    assert found is not None
    assert found.uid != 0
    assert found.gid != 0
    assert found.cap is None


def test_a_machine_without_any_known_user_falls_back_to_the_overflow_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privileges, "_USERS", ("no-such-user-here",))
    assert privileges._unprivileged() == (65534, 65534)


def test_reachable_asks_for_every_folder_on_the_way(tmp_path: Path) -> None:
    stranger, group = 54321, 54321
    program = Path("/bin/sh")
    assert privileges._reachable(program, stranger, group)
    open_folder = tmp_path / "a" / "b"
    open_folder.mkdir(parents=True)
    tmp_path.joinpath("a").chmod(0o700)
    assert not privileges._reachable(open_folder, stranger, group)
    # The owner needs the owner's bits, and others' are of no use to them.
    mine = os.geteuid()
    tmp_path.joinpath("a").chmod(0o077)
    assert not privileges._reachable(open_folder, mine, os.getegid())
    tmp_path.joinpath("a").chmod(0o700)
    assert privileges._reachable(open_folder, mine, os.getegid())


def test_a_file_has_to_be_readable_too(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    program.chmod(0o100)
    assert not privileges._reachable(program, os.geteuid(), os.getegid())
    program.chmod(0o500)
    assert privileges._reachable(program, os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("000001ffffffffff", privileges.CAP_DAC_READ_SEARCH),
        ("00000000a80425fb", privileges.CAP_DAC_OVERRIDE),
        ("0000000000000000", None),
    ],
    ids=["full root", "a container's default", "none"],
)
def test_the_least_capability_that_is_there(
    held: str, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"Name:\tpython\nCapEff:\t{held}\n")
    assert privileges._capability() == wanted
