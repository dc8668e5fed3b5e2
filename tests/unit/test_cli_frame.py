"""Every command: its help, its errors, its exit codes; and what `headgate run` does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from daemon.cli import app
from daemon.errors import HeadgateError, NotFound, SettingsError, Unavailable, UsageError

#: What must not be in the supervisor's process, which is `headgate run`'s.
HEAVY = (
    "aiokafka",
    "asyncpg",
    "brotli",
    "cryptography",
    "granian",
    "hiredis",
    "redis",
    "rich",
    "uvloop",
    "zstandard",
)


def every_command() -> list[tuple[str, ...]]:
    """The paths of all commands and groups, as they are typed."""
    found: list[tuple[str, ...]] = [()]
    for name in app.COMMANDS:
        found.append((name,))
        command = app.headgate.get_command(click.Context(app.headgate), name)
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.commands]
    return found


def headgate(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli", *arguments],
        env={**environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_a_help_with_a_purpose_and_examples(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: headgate {' '.join(path)}".rstrip())
    assert f"  headgate {' '.join(path)}".rstrip() in text.replace(" --config", "")
    command: click.Command = app.headgate
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_list_of_commands_is_complete_and_imports_none_of_them() -> None:
    code = (
        "import sys; from daemon.cli import app; app.run(['--help']);"
        "assert not any(name in sys.modules for name in ('daemon.cli.run', 'daemon.cli.tail', 'msgspec'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(f"  {name} " in done.stdout for name in app.COMMANDS)


def test_the_supervisor_s_process_imports_nothing_heavy() -> None:
    code = (
        "import sys, json; import daemon.cli.run, daemon.cli.start, daemon.cli.settings, daemon.cli.instance,"
        " daemon.adapters.embedded.session, daemon.supervisor.main; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["tail", "--limit", "0"], "0 is not in the range"),
        (["tail", "--since", "soon"], "--since 'soon' is no time"),
        (["tail", "--nonsense"], "No such option"),
        (["restart"], "--rolling"),
        (["slots", "unpark"], "--all"),
        (["slots", "unpark", "frontend"], "--all"),
        (["slots", "unpark", "frontend", "0", "--all"], "--all"),
        (["keys", "revoke"], "Missing argument"),
        (["sources", "create", "--tenant", "t"], "Missing option '--name'"),
    ],
)
def test_wrong_use_is_one_line_and_64(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(arguments) == UsageError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


def test_with_json_an_error_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["tail", "--since", "soon", "--json"]) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    error = json.loads(captured.err)["error"]
    assert error["kind"] == "UsageError"
    assert error["exit_code"] == 64
    assert "soon" in error["message"]


@pytest.mark.parametrize("kind", [SettingsError, NotFound, Unavailable, HeadgateError])
def test_an_error_s_exit_code_is_the_command_s(
    kind: type[HeadgateError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise kind("what was wrong and what to do")

    monkeypatch.setattr(app.headgate, "main", fail)
    assert app.run([]) == kind.exit_code
    assert capsys.readouterr().err == "headgate: what was wrong and what to do\n"


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (app.Terminated, 143)])
def test_signals_end_without_a_word(
    raised: type[BaseException],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr(app.headgate, "main", fail)
    assert app.run([]) == code
    assert capsys.readouterr().err == ""


def test_a_fault_of_our_own_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.delenv("HEADGATE_DEBUG", raising=False)
    monkeypatch.setattr(app.headgate, "main", fail)
    assert app.run([]) == HeadgateError.exit_code
    [line] = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: by nothing" in line
    assert "HEADGATE_DEBUG" in line


def test_no_command_at_all_shows_the_help_and_is_wrong_use() -> None:
    done = headgate()
    assert done.returncode == 64
    assert "Commands:" in done.stderr
    assert done.stdout == ""


def test_version_says_what_runs() -> None:
    plain, machine = headgate("--version"), headgate("version", "--json")
    found = json.loads(machine.stdout)
    assert plain.stdout == f"headgate {found['headgate']}\n"
    assert found["packages"]["msgspec"]
    assert headgate("version").stdout.splitlines()[0].split() == ["headgate", found["headgate"]]


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["sources", "list"], ["keys", "list"], ["tail"], ["slots"]]
)
def test_settings_that_can_not_be_used_are_78_everywhere(command: list[str], tmp_path: Path) -> None:
    done = headgate(*command, HEADGATE_DATA_DIR=str(tmp_path), HEADGATE_FRONTEND__COUTN="2")
    assert done.returncode == SettingsError.exit_code
    assert "HEADGATE_FRONTEND__COUNT" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["slots"], ["restart", "--rolling"], ["slots", "unpark", "frontend", "0"]]
)
def test_without_an_instance_its_commands_say_so(command: list[str], tmp_path: Path) -> None:
    done = headgate(*command, HEADGATE_DATA_DIR=str(tmp_path / "none"))
    assert done.returncode == Unavailable.exit_code
    assert "headgate run" in done.stderr
    assert not (tmp_path / "none").exists()
