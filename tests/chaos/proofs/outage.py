"""Kafka away for minutes under steady traffic: all accepted, memory flat, drained in time, live traffic undisturbed by it."""

from __future__ import annotations

import time
from typing import Any

from tests.chaos.proofs.common import Memory, p99_ms, say
from tests.chaos.reconcile import reconcile
from tests.chaos.report import Check
from tests.chaos.stage import Stage
from tests.support.load import Load

#: Traffic before, by which the quiet p99 is known, and after, seconds.
QUIET_S = 30.0
#: The drain rate of a publisher, records per second (publisher.drain_records_per_s).
DRAIN_PER_S = 5000
PUBLISHERS = 1
#: What the drain may take longer than its rate promises: the last probe, the last look, a slow machine.
DRAIN_SLACK = 1.1
DRAIN_SLACK_S = 10.0
P99_RATIO_MAX = 2.0
#: Below this a p99 is noise: the ratio is taken of no less.
P99_FLOOR_MS = 5.0
#: How much larger the processes may get than they were before.
GROWTH_MIB_MAX = 96.0
REQUESTS_PER_S_LOOK = 15.0


def outage(seconds: float, per_s: float) -> tuple[list[Check], dict[str, Any]]:
    """Kafka killed for `seconds` at `per_s` events per second."""
    environ = {
        "HEADGATE_PUBLISHER__COUNT": str(PUBLISHERS),
        "HEADGATE_PUBLISHER__DRAIN_RECORDS_PER_S": str(DRAIN_PER_S),
        "HEADGATE_PROCESSOR__COUNT": "0",
    }
    # Its own disk would be too small for minutes of events: the spool lies where the data folder is.
    with Stage((), None, **environ) as stage:
        product = stage.product
        source = product.create_source()
        stage.kafka_up()
        with (
            Memory(product) as memory,
            Load(product.ingest_port, source, connections=64, per_s=per_s) as load,
        ):
            load.wait(int(per_s * 5), 120.0)
            quiet_at = time.monotonic()
            time.sleep(QUIET_S)
            away_at = time.monotonic()
            say(f"quiet: p99 {p99_ms(load, quiet_at, away_at):.1f} ms; Kafka goes away for {seconds:g} s")
            stage.kafka_kill()
            while (left_s := away_at + seconds - time.monotonic()) > 0:
                time.sleep(min(left_s, REQUESTS_PER_S_LOOK))
                say(
                    f"{time.monotonic() - away_at:5.0f} s  {len(load.acked)} acknowledged, {len(load.failures)} failed"
                )
            stage.kafka_restart()
            stage.kafka_up()
            back_at = time.monotonic()
            spooled = product.json("spool", "status")["records"]
            promised_s = spooled / (DRAIN_PER_S * PUBLISHERS)
            say(f"Kafka is back, {spooled} records wait: {promised_s:.0f} s by the drain's rate")
            stage.drained(promised_s * 3 + 120.0)
            drained_at = time.monotonic()
            say(f"drained after {drained_at - back_at:.0f} s")
            time.sleep(2.0)
        quiet_ms, away_ms = p99_ms(load, quiet_at, away_at), p99_ms(load, away_at + 3.0, back_at)
        drain_ms = p99_ms(load, back_at, drained_at)
        before, peak = memory.most_mib(quiet_at, away_at), memory.most_mib(away_at, drained_at)
        in_work = product.at_rest().in_work
        product.stop()
        books = reconcile(product, stage.kafka, "raw-events", "")
    asked = len(load.answers)
    good = load.statuses[200]
    lost = load.acked.keys() - books.on_log
    limit_s = promised_s * DRAIN_SLACK + DRAIN_SLACK_S
    ratio = drain_ms / max(quiet_ms, P99_FLOOR_MS)
    checks = [
        Check("requests accepted", "all", f"{good} of {asked + len(load.failures)}", good == asked and not load.failures),
        Check("acknowledged ids missing from the log", "0", f"{len(lost)}", not lost),
        Check("spooled", f"≥ {0.9 * seconds * per_s:.0f} records", f"{spooled}", spooled >= 0.9 * seconds * per_s),
        Check("drained within", f"{limit_s:.0f} s", f"{drained_at - back_at:.0f} s", drained_at - back_at <= limit_s),
        Check("p99 of live traffic in the drain", f"≤ {P99_RATIO_MAX:g} × quiet ({quiet_ms:.1f} ms)",
              f"{drain_ms:.1f} ms, {ratio:.2f} ×", ratio <= P99_RATIO_MAX),
        Check("memory of frontends and publishers", f"≤ {before:.0f} + {GROWTH_MIB_MAX:.0f} MiB", f"{peak:.0f} MiB",
              peak <= before + GROWTH_MIB_MAX),
        Check("events without an end, at rest", "0", f"{in_work}", in_work == 0),
    ]  # fmt: skip
    return checks, {
        "requests": asked, "p99_ms": {"quiet": quiet_ms, "away": away_ms, "drain": drain_ms}, "spooled": spooled,
        "drain_s": drained_at - back_at, "memory_mib": {"before": before, "peak": peak},
        "copies": books.copies,
    }  # fmt: skip
