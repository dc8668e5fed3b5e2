"""
The command line's frame: which commands there are, and how every one of them ends.

A command ends with the exit code of the HeadgateError it raised (sysexits.h), with one readable line on
standard error, as JSON where `--json` was asked for. 130 after Ctrl-C, 143 after TERM.

Commands are imported when they are called: `headgate run` becomes the supervisor, which has to stay small.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from daemon import __version__
from daemon.cli.notes import Notes
from daemon.errors import HeadgateError, UsageError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

#: Command → (module, its line in the list of commands).
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("daemon.cli.run", "Run Headgate in the foreground until Ctrl-C or TERM."),
    "check": ("daemon.cli.check", "Validate the settings, try the servers they name, print a digest."),
    "sources": ("daemon.cli.sources", "Create, list, change, disable and enable sources of events."),
    "merchants": ("daemon.cli.merchants", "Create, list, disable and enable TrackLayer's merchants."),
    "keys": ("daemon.cli.keys", "Create, list and revoke the keys that callers send events with."),
    "webhooks": (
        "daemon.cli.webhooks",
        "Take events from Stripe, Shopify, HubSpot, GitHub and other services.",
    ),
    "contracts": ("daemon.cli.contracts", "Say what ResultFly's events carry, type by type."),
    "events": ("daemon.cli.events", "Count the events that are stored in PostgreSQL."),
    "profiles": ("daemon.cli.profiles", "Show whose events they are: identifiers, merges, conflicts."),
    "tail": ("daemon.cli.tail", "Show and follow the events on the log."),
    "spool": ("daemon.cli.spool", "Show, drain, verify and export what waits on this machine for Kafka."),
    "demo": ("daemon.cli.demo", "Serve a page that sends events and shows what the log received."),
    "slots": ("daemon.cli.slots", "Show the processes of the running instance; bring back a parked one."),
    "restart": ("daemon.cli.restart", "Replace the running instance's processes without losing a request."),
    "version": ("daemon.cli.version", "Print versions."),
}


class Terminated(Exception):
    """TERM came while a command worked."""


class Interrupted(Exception):
    """Ctrl-C; click would write an empty line for it, into a pipe too."""


class ReaderGone(Exception):
    """Whoever read our output has ended (`| head`); click would make a failure of the BrokenPipeError."""


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own; the list of commands imports none of them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None
        except KeyboardInterrupt:
            raise Interrupted from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and give its `command`."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="headgate COMMAND --help says more about each of them, with examples.",
)
@click.version_option(__version__, "-V", "--version", message="headgate %(version)s")
def headgate() -> None:
    """
    Headgate takes events from browsers and servers and puts them on a log, Kafka or its own.

    Settings come from the file that HEADGATE_CONFIG (or --config) names and from HEADGATE_… variables. Give
    every command the same ones as the running instance: that is how it finds it.

    \b
      headgate run --config config/dev.toml     everything embedded, nothing to install
      headgate check                            is all well?
      headgate tail --follow                    what comes in
    """


def main() -> NoReturn:
    """Run the command that the process was called with, and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with `arguments`; give the exit code."""
    as_json = "--json" in arguments
    notes = Notes()
    logging.getLogger().addHandler(notes)
    try:
        outcome = headgate.main(args=arguments, prog_name="headgate", standalone_mode=False)
        _flush()
        notes.tell("headgate: note: ")
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return UsageError.exit_code
    except click.ClickException as error:
        return _fail(_sentence(error), "UsageError", UsageError.exit_code, as_json=as_json)
    except HeadgateError as error:
        return _fail(str(error), type(error).__name__, error.exit_code, as_json=as_json)
    except (Interrupted, KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            # Behind the ^C that the terminal has shown.
            sys.stderr.write("\n")
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except (BrokenPipeError, ReaderGone):
        _forget_stdout()
        return 0
    except Exception as error:  # noqa: BLE001  the last resort: one line instead of a traceback
        if os.environ.get("HEADGATE_DEBUG"):
            traceback.print_exc()
        text = f"a fault of Headgate's own: {type(error).__name__}: {error} (HEADGATE_DEBUG=1 shows where)"
        return _fail(text, type(error).__name__, HeadgateError.exit_code, as_json=as_json)


def _sentence(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text}; try: {context.command_path} --help" if context is not None else text


def _fail(text: str, kind: str, code: int, *, as_json: bool) -> int:
    """Say what went wrong on standard error, where it does not mix with results."""
    if as_json:
        import json

        line = json.dumps({"error": {"kind": kind, "message": text, "exit_code": code}}, ensure_ascii=False)
    else:
        line = f"headgate: {text}"
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            line = f"\x1b[31mheadgate:\x1b[0m {text}"
    try:
        sys.stderr.write(line + "\n")
        _flush()
    except BrokenPipeError:
        _forget_stdout()
    return code


def _flush() -> None:
    sys.stdout.flush()


def _forget_stdout() -> None:
    """Whoever read our output has had enough (`| head`): say nothing more, not even at the interpreter's end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def settings_option(command: Any) -> Any:
    """Add `--config`, which names the settings file."""
    return click.option(
        "--config",
        metavar="FILE",
        help="Settings file; else the one that HEADGATE_CONFIG names, else none.",
    )(command)


def json_option(command: Any) -> Any:
    """Add `--json`, which asks for output that a program reads."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, also errors (on standard error)."
    )(command)
