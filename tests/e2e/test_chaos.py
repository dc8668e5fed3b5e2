"""A short run of `make chaos`: the same harness and the same verdict as the long one."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.__main__ import Progress, perform
from tests.chaos.inputs import inputs_of
from tests.chaos.report import checks_of, write
from tests.chaos.schedule import schedule
from tests.chaos.stage import available
from tests.support.product import Product

SEED = 7
#: One of each sort, without those that take long; the disk is filled where this is root.
KINDS = (
    "kill frontend",
    "kill publisher",
    "freeze publisher",
    "empty redis",
    "kafka killed",
    "roll",
    "disk full",
)


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    has = available()
    kinds = [kind for kind in KINDS if kind != "disk full" or "root" in has]
    planned = schedule(SEED, 18, len(kinds), has, kinds)
    assert sorted(fault.kind for fault in planned) == sorted(kinds)
    run = perform(SEED, 18, 50, planned, Progress(quiet=True), tmp_path)
    good = write(run, tmp_path)
    assert good, [check for check in checks_of(run) if not check.ok]
    # It would be no proof without these.
    assert len(run.ledger.acked) > 500
    assert run.figures.kafka_away.requests > 50
    assert {one.durability for one in run.ledger.acked.values()} >= {"kafka", "local"}
    assert json.loads((tmp_path / "report.json").read_text())["ok"]


def test_every_way_in_is_in_the_table(product: Product) -> None:
    """The paths of the document that take events, and no other; of the pixel's one stands for all."""
    document = json.loads(product.ask("GET", "/openapi.json").body)
    takes = {
        path
        for path, methods in document["paths"].items()
        for method in methods
        if (method == "post" and "contracts" not in path) or "/pixel/" in path
    }
    driven = {
        one.build(["x"] * one.ids).split(b" ", 2)[1].decode().partition("?")[0] for one in inputs_of(product)
    }
    pixels = {path for path in takes if "/pixel/" in path}
    assert takes - pixels == driven - pixels
    assert driven & pixels
