"""Rolling restarts and reloads under keep-alive callers and fresh connections: not one request may fail."""

from __future__ import annotations

import signal
import time
from typing import Any

from tests.chaos.proofs.common import instance, p99_ms, say
from tests.chaos.report import Check
from tests.support.load import Load
from tests.support.product import Product, until

#: Requests per second of the keep-alive callers together, and of the fresh connections.
KEPT_PER_S = 600.0
FRESH_PER_S = 100.0
PATIENCE_S = 120.0


def rolls(restarts: int, reloads: int, clients: int) -> tuple[list[Check], dict[str, Any]]:
    """`restarts` rolling restarts and as many as `reloads` reloads in turns, under `clients` keep-alive callers."""
    with instance(HEADGATE_PUBLISHER__COUNT="2") as product:
        source = product.create_source()
        with (
            Load(product.ingest_port, source, connections=clients, per_s=KEPT_PER_S) as kept,
            Load(product.ingest_port, source, connections=16, per_s=FRESH_PER_S, fresh=True) as fresh,
        ):
            kept.wait(clients)
            began = time.monotonic()
            for number in range(max(restarts, reloads)):
                if number < restarts:
                    product.json("restart", "--rolling")
                if number < reloads:
                    _reload(product)
                say(
                    f"{time.monotonic() - began:5.0f} s  round {number + 1} of {max(restarts, reloads)}: "
                    f"{len(kept.acked) + len(fresh.acked)} acknowledged, {len(kept.failures) + len(fresh.failures)} failed"
                )
            ended = time.monotonic()
            kept.wait(clients)
        acked = kept.acked.keys() | fresh.acked.keys()
        logged = product.message_ids()
        rest = product.at_rest()
        done = int(rest.sum("headgate_rolls_total", result="done"))
    failures = [*kept.failures, *fresh.failures]
    statuses = {**kept.statuses} | {status: fresh.statuses[status] for status in fresh.statuses}
    checks = [
        Check("rolls done", f"{restarts + reloads}", f"{done}", done == restarts + reloads),
        Check(
            "failed requests",
            "0",
            f"{len(failures)} of {len(kept.answers) + len(fresh.answers)}",
            not failures,
        ),
        Check("answers but 200", "0", f"{sorted(set(statuses) - {200})}", set(statuses) == {200}),
        Check("acknowledged ids that are lost", "0", f"{len(acked - set(logged))}", acked <= set(logged)),
        Check(
            "records twice on the log",
            "0",
            f"{len(logged) - len(set(logged))}",
            len(logged) == len(set(logged)),
        ),
    ]
    return checks, {
        "requests": len(kept.answers) + len(fresh.answers),
        "seconds": round(ended - began, 1),
        "p99_ms": round(p99_ms(kept, began, ended), 1),
        "failures": failures[:20],
    }


def _reload(product: Product) -> None:
    def over() -> float:
        found = product.metrics()
        return found.sum("headgate_rolls_total", result="done") + found.sum(
            "headgate_rolls_total", result="failed"
        )

    before = over()
    product.send(signal.SIGHUP)
    until(lambda: over() > before, "the reload is over", PATIENCE_S)
