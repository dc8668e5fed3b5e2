"""
What a first try of each product needs, and the file that it is read from: `<data>/credentials.json`.

For Datafly a source, for ResultFly a key and a contract, for TrackLayer a merchant with a key, all of the tenant `demo`. A file of an older
Headgate gains the parts that it lacks.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from daemon.adapters.postgres.apikeys import SCOPES
from daemon.adapters.postgres.catalog import Created, Mode, SourceCatalog, SourceInfo
from daemon.adapters.sealing import sync_folder, write_private
from daemon.errors import SettingsError, StoreUnavailable
from daemon.events.contract.definition import Contract, Property

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "credentials.json"
TENANT = "demo"
NAME = "Demo"
#: What the demo key may send; the line that `headgate run` prints is such an event.
EVENT_TYPE = "purchase_completed"
CONTRACT = Contract(
    {
        "order_id": Property("string", required=True),
        "amount": Property("number"),
        "currency": Property("string"),
    },
    additionalProperties="allow",
)
#: Making the source takes milliseconds; who waits longer waits for a process that is stopped.
_LOCK_TIMEOUT_S = 30.0
_LOCK_PAUSE_S = 0.02
#: Pages on this machine; development mode allows them for every source anyhow, on any port.
_LOCAL_ORIGINS = ("http://localhost", "http://127.0.0.1", "http://localhost:8080", "http://127.0.0.1:8080")


class DemoSource(Struct, frozen=True):
    """An entry of `sources` in the file."""

    id: str
    tenant: str
    pipeline_key: str
    secret_key: str


class DemoCdpKey(Struct, frozen=True):
    """An entry of `cdp_keys`."""

    tenant: str
    api_key: str
    scopes: tuple[str, ...]


class DemoMerchant(Struct, frozen=True):
    """An entry of `merchants`."""

    merchant_id: str
    tenant: str
    api_key: str


class Demo(Struct, frozen=True):
    """What the file holds."""

    source: DemoSource
    cdp_key: DemoCdpKey
    merchant: DemoMerchant


class _Held(Struct):
    """The first entry of each part of the file that can be read, and its parts that are not ours."""

    source: DemoSource | None = None
    cdp_key: DemoCdpKey | None = None
    merchant: DemoMerchant | None = None
    others: dict[str, Any] = {}


async def ensure_demo(catalog: SourceCatalog, data_dir: str | Path, mode: Mode) -> Demo:
    """
    The demo's keys as the file has them; they and the file are made where they are missing.

    One process after the other does this, by a lock in the folder. Raises SettingsError when the file
    can't be written, StoreUnavailable.
    """
    path = Path(data_dir) / FILE_NAME
    async with _locked(path):
        return await _ensure(catalog, path, mode)


async def _ensure(catalog: SourceCatalog, path: Path, mode: Mode) -> Demo:
    held = _read(path)
    demo = Demo(
        await _source(catalog, path, mode, held),
        await _cdp_key(catalog, held.cdp_key),
        await _merchant(catalog, held.merchant),
    )
    if (demo.source, demo.cdp_key, demo.merchant) != (held.source, held.cdp_key, held.merchant):
        parts = {"sources": demo.source, "cdp_keys": demo.cdp_key, "merchants": demo.merchant}
        ours = {name: [msgspec.to_builtins(entry)] for name, entry in parts.items()}
        _write(path, {**held.others, **ours})
    return demo


async def _source(catalog: SourceCatalog, path: Path, mode: Mode, held: _Held) -> DemoSource:
    if held.source is not None and await catalog.holds_key(held.source.id, held.source.pipeline_key):
        return held.source
    source = await _demo_source(catalog)
    if source is None:
        created = await catalog.create_source(TENANT, NAME, _LOCAL_ORIGINS if mode == "development" else ())
        if held.source is not None:
            log.warning("%s was of another database: it is made anew", path)
            held.others = {}
    else:
        created = await catalog.new_keys(source.id)
        log.warning(
            "%s was lost: the demo source %s has a new pair of keys, which is in it now", path, source.id
        )
    return _keys_of(created)


async def _cdp_key(catalog: SourceCatalog, held: DemoCdpKey | None) -> DemoCdpKey:
    if held is not None and await catalog.api_keys.holds(held.api_key, tenant=held.tenant):
        return held
    if all(known.eventType != EVENT_TYPE for known in await catalog.contracts.in_force(TENANT)):
        # With the first key alone: who deletes it later does not find it again.
        await catalog.contracts.put(TENANT, EVENT_TYPE, CONTRACT)
    created = await catalog.api_keys.create_for_tenant(TENANT, SCOPES["cdp"])
    return DemoCdpKey(created.key.tenant, created.api_key, created.key.scopes)


async def _merchant(catalog: SourceCatalog, held: DemoMerchant | None) -> DemoMerchant:
    keys, merchants = catalog.api_keys, catalog.merchants
    if held is not None and await keys.holds(held.api_key, tenant=held.tenant, merchant_id=held.merchant_id):
        return held
    found = [one for one in await merchants.list() if one.tenant == TENANT and one.name == NAME]
    merchant = min(found, key=lambda one: one.created_at, default=None)
    if merchant is None:
        merchant = await merchants.create(NAME, TENANT)
    created = await keys.create_for_merchant(merchant.merchant_id)
    return DemoMerchant(merchant.merchant_id, merchant.tenant, created.api_key)


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


def _keys_of(created: Created) -> DemoSource:
    return DemoSource(created.source.id, created.source.tenant, created.pipeline_key, created.secret_key)


def _read(path: Path) -> _Held:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return _Held()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        log.warning("%s can't be read as JSON: it counts as lost", path)
        return _Held()
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error}", "data_dir") from None
    return _Held(
        source=_first(path, content, "sources", DemoSource),
        cdp_key=_first(path, content, "cdp_keys", DemoCdpKey),
        merchant=_first(path, content, "merchants", DemoMerchant),
        others=content,
    )


def _first(path: Path, content: dict[str, Any], part: str, kind: type[T]) -> T | None:
    """The first entry of a part, which is taken out of `content`; None when there is none that can be read."""
    try:
        entries = msgspec.convert(content.pop(part, []), list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        log.warning("%s: what it has for %s can't be read, and counts as lost: %s", path, part, error)
        return None
    return entries[0] if entries else None


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write_private(draft, msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{path} can't be written: {error}", "data_dir") from None
