"""The command `headgate`. Each command is a module of its own, imported only when it is the one that was called."""

from daemon.cli.app import main

__all__ = ["main"]
