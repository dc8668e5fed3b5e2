"""Settings: the environment and the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from daemon.config.load import SHORT_NAMES, load
from daemon.config.schema import Section, Settings
from daemon.errors import SettingsError
from tests.fuzz.inputs.grammar import Grammar
from tests.fuzz.targets.target import Target, refused


def environment(data: bytes) -> str:
    """`NAME=value` lines as the environment, which on Linux may hold any bytes but NUL."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    environ = dict(line.partition("=")[::2] for line in text.split("\n") if "=" in line)
    environ.pop("CREDENTIALS_DIRECTORY", None)
    return _loaded(None, environ)


def file(data: bytes) -> str:
    """A settings file."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as made:
        made.write(data)
        made.flush()
        return _loaded(Path(made.name), {})


def _loaded(path: Path | None, environ: dict[str, str]) -> str:
    try:
        settings = load(path, environ)
    except SettingsError as error:
        # a log line and a terminal take it, whatever the environment held
        str(error).encode("utf-8", "backslashreplace")
        assert error.key or path is not None, f"no key is named: {error}"
        return refused(error, str(error).encode("utf-8", "backslashreplace").decode())
    again = msgspec.json.decode(msgspec.json.encode(settings), type=Settings)
    assert again == settings, "the children would not get the same settings"
    return "settings"


_SECTIONS: dict[str, type[Section]] = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, Section)
}
_NAMES = tuple(
    f"\nHEADGATE_{section}__{field.name}=".upper()
    for section, kind in _SECTIONS.items()
    for field in msgspec.structs.fields(kind)
) + tuple(f"\n{name}=" for name in SHORT_NAMES)
_VALUES = (
    "0", "1", "-1", "8080", "65535", "65536", "0.5", "1e3", "nan", "inf", "-inf", "1e999", "true", "false", "yes", "production",
    "development", "", " ", "a,b", "127.0.0.1:9092", "[::1]:9092", ":1", "a:٣", "a:b", "10.0.0.0/8", "10.0.0.1/99", "::/0", "x=y",
    "x=DE", "DE", "de", "UK", "SASL_SSL", "spool", "refuse", "debug", "0" * 64, "g" * 64, "9" * 5000, "0x10", "1_000", "\udcff",
)  # fmt: skip
_TOML = (
    "\n[server]\n", "\n[kafka]\n", "\n[limits]\n", "ingest_port = 8080", "brokers = ['a:1']", "mode = \"production\"", "trusted_proxies = []",
    "= 1", "1979-05-27T07:32:00Z", "'''", '"""', "[[a]]", "a.b.c = 1", "inf", "nan", "0xff", "{a=1}", "#", "\\u0000", "[" * 600,
    *(f"\n[{section}]\n" for section in _SECTIONS), *(name for kind in _SECTIONS.values() for name in kind.__struct_fields__),
)  # fmt: skip

TARGETS = (
    Target(
        "settings-environment",
        "settings in the environment",
        environment,
        (Grammar("text", _NAMES, _VALUES),),
        4096,
        share=0.5,
    ),
    Target(
        "settings-file",
        "a settings file",
        file,
        (Grammar("text", _TOML, _VALUES),),
        4096,
        share=0.4,
        floods=False,
    ),
)
