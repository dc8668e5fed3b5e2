"""
`python -m daemon.config.reference` prints `config/headgate.toml`: every setting with its meaning and default.

The text comes from the schema, so that the file can't say something else than the program does.
"""

from __future__ import annotations

import sys
import textwrap
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from daemon.config.schema import Section, Settings

HEAD = """\
# Headgate's settings. Every key is here, commented out where its value is the default.
#
# A key can also be given in the environment as HEADGATE_<SECTION>__<KEY> (lists comma-separated), and as a
# systemd credential named <section>.<key>. The environment wins over credentials, these over this file.
# `headgate check` says what is wrong with it, tries the servers it names and prints what it comes to.
"""


def text() -> str:
    """The whole file."""
    lines = [HEAD]
    settings = Settings()
    for field in msgspec.structs.fields(Settings):
        if not isinstance(field.type, type):
            lines += _entry(field.name, field.type, getattr(settings, field.name))
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            section = field.type
            lines += ["", *_wrapped(" ".join((section.__doc__ or "").split())), f"[{field.name}]"]
            for one in msgspec.structs.fields(section):
                lines += _entry(one.name, one.type, getattr(section(), one.name))
    return "\n".join(lines) + "\n"


def _entry(name: str, hint: Any, default: Any) -> list[str]:
    kind, *metas = get_args(hint)
    meta = next(m for m in metas if isinstance(m, Meta))
    notes = [meta.description or ""]
    if get_origin(kind) is Literal:
        notes.append("one of " + ", ".join(f'"{value}"' for value in get_args(kind)))
    if (meta.extra or {}).get("secret"):
        notes.append("a secret: better in the environment or a credential than here")
    return ["", *_wrapped("; ".join(notes)), f"#{name} = {_toml(default)}"]


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, width=100, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {_toml(item)}' for name, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value)


if __name__ == "__main__":
    sys.stdout.write(text())
