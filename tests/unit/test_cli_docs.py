"""docs/cli.md knows every command and every option there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import click

from daemon.cli import app

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: click.Group = app.headgate, path: str = "headgate") -> dict[str, click.Command]:
    """Every command by what is typed."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{path} {name}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{path} {name}")
    return found


def test_every_command_is_shown_at_work() -> None:
    shown = set(re.findall(r"^\$ (?:[A-Z_]+=\S+ )*(headgate(?: [a-z]+)+)", TEXT, re.MULTILINE))
    for path, command in commands().items():
        if not isinstance(command, click.Group) or command.invoke_without_command:
            assert any(one == path or one.startswith(f"{path} ") for one in shown), path


def test_every_option_is_named_and_no_other() -> None:
    known = {
        name
        for command in commands().values()
        for option in command.params
        for name in option.opts
        if "--" in name
    } | {"--help", "--version"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert named == known


def test_every_exit_code_of_an_error_is_told() -> None:
    from daemon import errors

    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.HeadgateError)
    }
    told = set(map(int, re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)))))
    assert codes | {0, app.EXIT_INTERRUPTED, app.EXIT_TERMINATED} == told
