"""The product under fire: started, given keys, and looked at from outside while it is shot at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from daemon.events import resultfly
from tests.fuzz.http.keys import Keys
from tests.fuzz.targets.resultfly import CONTRACTS
from tests.support.product import Product
from tests.support.webhooks import WAYS

ORIGIN = "https://shop.example.com"
TENANT = "fuzz"

#: No limit that matters, callers seen through a proxy (so that each has an address of its own), and short patience with
#: those who stop in the middle.
SETTINGS = {
    "HEADGATE_FRONTEND__COUNT": "2",
    "HEADGATE_LIMITS__RATE_PER_S": "1000000",
    "HEADGATE_LIMITS__BURST": "1000000",
    "HEADGATE_TRACKLAYER__BROWSER_EVENTS_MAX": "1000",
    "HEADGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1",
    "HEADGATE_SERVER__HEAD_TIMEOUT_S": "3",
    "HEADGATE_SERVER__BODY_TIMEOUT_S": "5",
}

#: Roles that read what strangers wrote, whose memory has to stay flat.
READERS = ("frontend", "publisher", "processor")


@contextmanager
def running(folder: Path) -> Iterator[Product]:
    """A product in `folder` (with a short path), which is ended in any case."""
    folder.mkdir(parents=True, exist_ok=True)
    product = Product(folder, SETTINGS)
    try:
        yield product.start()
    finally:
        product.end()


def keys_of(product: Product) -> Keys:
    """A key of every kind, a webhook of every way, and the contracts that the seeds' events need."""
    source = product.create_source(name="fuzz", tenant=TENANT, origins=[ORIGIN])
    cdp = product.json("keys", "create", "--kind", "cdp", "--tenant", TENANT, *_scopes())
    merchant = product.json("merchants", "create", "--name", "Fuzz", "--tenant", TENANT)
    file = product.folder / "contracts.json"
    file.write_text(
        json.dumps({name: json.loads(resultfly.encode_answer(one)) for name, one in CONTRACTS.items()})
    )
    product.command("contracts", "apply", str(file), "--tenant", TENANT)
    webhooks = {
        way: _webhook(product, source.id, settings, secret, f"{product.folder}/mapping.json")
        for way, (settings, secret) in WAYS.items()
    }
    return Keys(
        source.pipeline_key,
        source.id,
        source.secret_key,
        cdp["api_key"],
        merchant["api_key"],
        merchant["merchant_id"],
        webhooks,
        ORIGIN,
    )


def _scopes() -> list[str]:
    return [part for scope in resultfly.SCOPES for part in ("--scope", scope)]


def _webhook(
    product: Product, source_id: str, settings: dict[str, Any], secret: str | None, file: str
) -> str:
    Path(file).write_text(json.dumps(settings))
    options = ["--source", source_id, "--mapping", file]
    if secret is not None:
        options += ["--secret", secret]
    return str(product.json("webhooks", "create", *options)["id"])


def pids(product: Product) -> dict[str, int]:
    """The processes of all slots, by `role/slot`."""
    return {f"{slot.role}/{slot.slot}": slot.pid for slot in product.slots() if slot.pid is not None}


def resident(product: Product) -> dict[str, int]:
    """Resident bytes of those who read what came, by `role/slot`."""
    return {
        name: psutil.Process(pid).memory_info().rss
        for name, pid in pids(product).items()
        if name.partition("/")[0] in READERS
    }


def faults_logged(product: Product) -> list[str]:
    """Lines of the log that say error or worse, each once."""
    lines = [
        json.dumps(line, sort_keys=True) for level in ("error", "critical") for line in product.logged(level)
    ]
    return list(dict.fromkeys(lines))
