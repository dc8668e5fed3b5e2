"""The demo source, and the file with its keys that a first try reads: `<data>/credentials.json`."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from daemon.adapters.postgres.catalog import Created, Mode, SourceCatalog, SourceInfo
from daemon.adapters.sealing import sync_folder, write_private
from daemon.errors import SettingsError

log = logging.getLogger(__name__)

FILE_NAME = "credentials.json"
TENANT = "demo"
NAME = "Demo"
#: Pages on this machine; development mode allows them for every source anyhow, on any port.
_LOCAL_ORIGINS = ("http://localhost", "http://127.0.0.1", "http://localhost:8080", "http://127.0.0.1:8080")


class DemoKeys(Struct, frozen=True):
    """An entry of `sources` in the file."""

    id: str
    tenant: str
    pipeline_key: str
    secret_key: str


async def ensure_demo(catalog: SourceCatalog, data_dir: str | Path, mode: Mode) -> DemoKeys:
    """
    The demo source's keys as the file has them; source and file are made where they are missing.

    Only one process may do this at a time (the supervisor does). Raises SettingsError when the file
    can't be written, StoreUnavailable.
    """
    path = Path(data_dir) / FILE_NAME
    held, others = _read(path)
    if held is not None and await catalog.holds_key(held.id, held.pipeline_key):
        return held
    source = await _demo_source(catalog)
    if source is None:
        created = await catalog.create_source(TENANT, NAME, _LOCAL_ORIGINS if mode == "development" else ())
        if held is not None:
            log.warning("%s was of another database: it is made anew", path)
            others = {}
    else:
        created = await catalog.new_keys(source.id)
        log.warning("%s was lost: the demo source %s has a new pair of keys, which is in it now", path, source.id)
    keys = _keys_of(created)
    _write(path, {**others, "sources": [msgspec.to_builtins(keys)]})
    return keys


async def _demo_source(catalog: SourceCatalog) -> SourceInfo | None:
    """The oldest source of that tenant and name."""
    found = [one for one in await catalog.list_sources() if one.tenant == TENANT and one.name == NAME]
    return min(found, key=lambda one: one.created_at, default=None)


def _keys_of(created: Created) -> DemoKeys:
    return DemoKeys(created.source.id, created.source.tenant, created.pipeline_key, created.secret_key)


def _read(path: Path) -> tuple[DemoKeys | None, dict[str, Any]]:
    """The demo source's entry, if it can be read, and what else is in the file."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        entries = msgspec.convert(content.pop("sources", []), list[DemoKeys])
    except FileNotFoundError:
        return None, {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        log.warning("%s can't be read as JSON with the keys of sources: it counts as lost", path)
        return None, {}
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error}", "data_dir") from None
    return (entries[0] if entries else None), content


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(draft, msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{path} can't be written: {error}", "data_dir") from None
