"""Redis and PostgreSQL gone, hung or emptied under load: known keys go on working, and what was missed is made up for."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from tests.support.load import Load
from tests.support.product import NewProduct, Product, Source, until

#: architecture: `headgate_store_up` tells an outage within 10 s
TOLD_S = 10.0
PER_S = 400.0


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Stop servers with all their children, so that connections stay open and nothing answers."""
    everybody = [child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)] + list(
        pids
    )
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)


def store(product: Product, name: str, metric: str = "up") -> set[float]:
    return set(product.metrics().values(f"headgate_store_{metric}", store=name, role="frontend"))


def redis(product: Product, *commands: str) -> list[str]:
    """Commands to the embedded Valkey; gives the first line of each answer."""
    running = json.loads((product.data / "run.json").read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(unquote(urlsplit(running["redis_url"]).path))
        with connection.makefile("rwb") as file:
            answers = []
            for command in commands:
                file.write(f"{command}\r\n".encode())
                file.flush()
                answers.append(file.readline().decode().strip())
            return answers


def outages(product: Product, name: str) -> float:
    return product.metrics().sum("headgate_store_outages_total", store=name)


def test_redis_hangs_under_load(product: Product, source: Source) -> None:
    before = product.at_rest(), outages(product, "redis")
    limited = product.create_source(rate=0.01, burst=4)
    duplicate = product.track(source)
    with Load(product.ingest_port, source, connections=8, per_s=PER_S) as load:
        load.wait(100)
        with frozen(product.servers()["valkey"]):
            until(lambda: store(product, "redis") == {0.0}, "the outage is told", TOLD_S)
            load.wait(200)
            assert product.readyz() == (200, []), "an event can get its 2xx"
            # Each frontend limits by its share: together no more than the whole.
            statuses = [product.post("p", limited, {"type": "page"}).status for _ in range(40)]
            assert set(statuses) == {200, 429}
            assert statuses.count(200) <= 4
        until(lambda: store(product, "redis") == {1.0}, "Redis is back")
        load.wait(100)
    assert load.failures == []
    assert load.statuses.keys() == {200}
    rest = product.at_rest()
    assert outages(product, "redis") == before[1] + 2, "one for each frontend"
    for name, labels in (
        ("headgate_claims_total", {"result": "skipped"}),
        ("headgate_local_limit_requests_total", {}),
    ):
        assert rest.sum(name, **labels) > before[0].sum(name, **labels)
    assert load.acked.keys() <= set(product.message_ids())
    again = product.post("t", source, {"type": "track", "event": "Seen", "messageId": duplicate})
    assert again.get("x-headgate-duplicate") == "1", "what was claimed before the outage still is"
    missed = next(iter(load.acked))
    assert product.post("t", source, {"type": "track", "event": "Seen", "messageId": missed}).status == 200


def test_redis_is_emptied_under_load(product: Product, source: Source) -> None:
    """Also of its scripts, as after a restart without its file."""
    before = product.at_rest().outcomes["accepted"]
    with Load(product.ingest_port, source, connections=8, per_s=PER_S) as load:
        load.wait(100)
        for _ in range(3):
            assert redis(product, "FLUSHALL SYNC", "SCRIPT FLUSH SYNC") == ["+OK", "+OK"]
            load.wait(50)
    assert load.failures == []
    assert load.statuses.keys() == {200}
    assert product.at_rest().outcomes["accepted"] == before + len(load.acked)
    assert load.acked.keys() <= set(product.message_ids())
    assert store(product, "redis") == {1.0}


def test_postgres_hangs_under_load(product: Product, source: Source) -> None:
    before = outages(product, "postgres")
    cached = product.create_source()
    unseen = product.create_source()
    product.track(cached)
    with Load(product.ingest_port, source, connections=8, per_s=PER_S) as load:
        load.wait(100)
        with frozen(product.servers()["postgres"]):
            until(lambda: store(product, "postgres") == {0.0}, "the outage is told", TOLD_S)
            load.wait(200)
            assert product.readyz() == (200, [])
            for _ in range(10):
                product.track(cached)
            # A key that nobody has looked up yet can't be told from a wrong one: come back later.
            reply = product.post("t", unseen, {"type": "track", "event": "Seen"})
            assert (reply.status, reply.code) == (503, "UNAVAILABLE")
            assert int(reply.get("retry-after") or 0) >= 1
        until(lambda: store(product, "postgres") == {1.0}, "PostgreSQL is back")
        product.track(unseen)
        load.wait(100)
    assert load.failures == []
    assert load.statuses.keys() == {200}
    assert outages(product, "postgres") == before + 2, "one for each frontend"
    assert product.at_rest().in_work == 0
    assert load.acked.keys() <= set(product.message_ids())


def test_both_hang_and_known_keys_are_good_for_a_while(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_KEYS__LAST_GOOD_S="4", HEADGATE_KEYS__MEMORY_TTL_S="1").start()
    # Who asks them for nothing tells of it, too.
    with frozen(*product.servers().values()):
        until(lambda: store(product, "redis") | store(product, "postgres") == {0.0}, "both are told", TOLD_S)
    until(lambda: store(product, "redis") | store(product, "postgres") == {1.0}, "both are back")

    source = product.create_source()
    with Load(product.ingest_port, source, connections=8, per_s=100) as load:
        load.wait(20)
        with frozen(*product.servers().values()):
            load.wait(150)
            assert load.statuses.keys() == {200}
            # Nobody could say by now whether the key was revoked.
            until(lambda: 503 in load.statuses, "no longer believed", 30.0)
        until(lambda: store(product, "redis") | store(product, "postgres") == {1.0}, "both back")
        load.wait(20)
    assert load.failures == []
    assert load.statuses.keys() == {200, 503}
    assert product.at_rest().sum("headgate_key_lookups_total", found="last_good") > 0
    assert load.acked.keys() <= set(product.message_ids())


def test_start_without_postgres_and_redis(new_product: NewProduct, tmp_path: Path) -> None:
    """Servers of one's own that are not there yet: it starts, says so, and works once they are."""
    product = new_product(
        HEADGATE_POSTGRES__DSN=f"postgresql://headgate@/headgate?host={tmp_path}",
        HEADGATE_REDIS__URL=f"unix://{tmp_path}/none.sock",
    )
    product.start(wait=False)
    until(
        lambda: product.readyz()[0] == 503 and "database" in " ".join(product.readyz()[1]),
        "not ready, and why",
    )
    reply = product.ask("POST", "/v1/t", {"Authorization": "Bearer dk_live_" + "a" * 32}, b"{}")
    assert (reply.status, reply.code) == (503, "UNAVAILABLE")
    assert product.at_rest().outcomes["unavailable"] == 1
    product.stop()
