"""The demo source, and the file with its keys that a first try reads: `<data>/credentials.json`."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from daemon.adapters.postgres.catalog import Created, Mode, SourceCatalog, SourceInfo
from daemon.adapters.sealing import sync_folder, write_private
from daemon.errors import SettingsError, StoreUnavailable

log = logging.getLogger(__name__)

FILE_NAME = "credentials.json"
TENANT = "demo"
NAME = "Demo"
#: Making the source takes milliseconds; who waits longer waits for a process that is stopped.
_LOCK_TIMEOUT_S = 30.0
_LOCK_PAUSE_S = 0.02
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

    One process after the other does this, by a lock in the folder. Raises SettingsError when the file
    can't be written, StoreUnavailable.
    """
    path = Path(data_dir) / FILE_NAME
    async with _locked(path):
        return await _ensure(catalog, path, mode)


async def _ensure(catalog: SourceCatalog, path: Path, mode: Mode) -> DemoKeys:
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
        log.warning(
            "%s was lost: the demo source %s has a new pair of keys, which is in it now", path, source.id
        )
    keys = _keys_of(created)
    _write(path, {**others, "sources": [msgspec.to_builtins(keys)]})
    return keys


async def _demo_source(catalog: SourceCatalog) -> SourceInfo | None:
    """The oldest source of that tenant and name."""
    found = [one for one in await catalog.list_sources() if one.tenant == TENANT and one.name == NAME]
    return min(found, key=lambda one: one.created_at, default=None)


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the folder's lock for the block; the kernel frees it if this process dies."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{lock} can't be written: {error}", "data_dir") from None
    try:
        async with asyncio.timeout(_LOCK_TIMEOUT_S):
            while not _try_lock(descriptor):  # noqa: ASYNC110 another process's lock signals nothing
                await asyncio.sleep(_LOCK_PAUSE_S)
        yield
    except TimeoutError:
        raise StoreUnavailable(f"another process has held {lock} for {_LOCK_TIMEOUT_S:g} s") from None
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
        write_private(draft, msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{path} can't be written: {error}", "data_dir") from None
