"""Rolling restarts and reloads: every process is new afterwards, and no caller has noticed."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.load import Load
from tests.support.product import ROOT, NewProduct, Product, until
from tests.support.wire import Wire, request

PER_S = 500.0


def pids(product: Product) -> dict[tuple[str, int], int | None]:
    return {(slot.role, slot.slot): slot.pid for slot in product.slots()}


def rolls(product: Product, result: str) -> float:
    return product.metrics().sum("headgate_rolls_total", result=result)


def test_roll_under_load_fails_no_request(new_product: NewProduct) -> None:
    product = new_product(HEADGATE_PUBLISHER__COUNT="2").start()
    source = product.create_source()
    before = pids(product)
    with (
        Load(product.ingest_port, source, connections=12, per_s=PER_S) as kept,
        Load(product.ingest_port, source, connections=12, per_s=PER_S, fresh=True) as fresh,
    ):
        kept.wait(200)
        assert product.json("restart", "--rolling")["result"] == "5 slots rolled"
        between = pids(product)
        kept.wait(100)
        product.send(signal.SIGHUP)
        until(lambda: rolls(product, "done") == 2, "the reload is over")
        after = pids(product)
        kept.wait(100)
    for load in (kept, fresh):
        assert load.failures == []
        assert load.statuses.keys() == {200}
    # Every process is new each time, the embedded servers never are.
    for old, new in ((before, between), (between, after)):
        assert {place for place, pid in old.items() if new[place] == pid} == {("embedded", 0)}
    assert {slot.state for slot in product.slots()} == {"READY"}
    assert {slot.restarts for slot in product.slots()} == {0}
    acked = kept.acked.keys() | fresh.acked.keys()
    assert acked == set(product.message_ids())
    rest = product.at_rest()
    assert rest.outcomes["accepted"] == len(acked)
    assert rest.outcomes["interrupted"] == 0


def test_idle_connections_over_a_roll(new_product: NewProduct) -> None:
    """A keep-alive connection that is idle is closed without harm, one with half a request is finished."""
    product = new_product().start()
    whole = request("POST", "/v1/t", product.demo.headers, b'{"type":"track","event":"Held"}')
    with Wire(product.ingest_port) as idle, Wire(product.ingest_port) as held:
        idle.send(whole)
        assert (first := idle.reply()) is not None
        assert first.status == 200
        held.send(whole[:-1])
        slot = until(lambda: holder(product), "1 request in work")[-1]
        before = product.pid("frontend", slot)
        product.send(signal.SIGHUP)
        product.wait_slot("frontend", slot, not_pid=before)
        held.send(whole[-1:])
        assert (reply := held.reply()) is not None
        assert (reply.status, reply.get("connection")) == (200, "close")
        assert idle.closed()
        until(lambda: rolls(product, "done") == 1, "the reload is over")


def holder(product: Product) -> list[int]:
    """The slots of frontends that have a request in work."""
    samples = product.metrics().samples
    return [int(labels["slot"]) for name, labels, n in samples if name == "headgate_requests_in_work" and n]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file of the test's own."""
    path = tmp_path / "settings.toml"
    path.write_text((ROOT / "config/dev.toml").read_text())
    return path


def change(settings: Path, text: str) -> None:
    settings.write_text((ROOT / "config/dev.toml").read_text().replace("count = 2", "count = 2\n" + text))


def test_reload_with_bad_settings_keeps_the_old_processes(new_product: NewProduct, settings: Path) -> None:
    product = new_product(config=settings).start()
    before = pids(product)
    for text, key in (
        ("tick_ss = 0.1", "frontend.tick_ss"),
        ('tick_s = "soon"', "frontend.tick_s"),
        ("tick_s = ", str(settings)),
        ("[limits]\nrate_per_s = -1", "limits.rate_per_s"),
    ):
        change(settings, text)
        refused = rolls(product, "refused")
        product.send(signal.SIGHUP)
        until(lambda: rolls(product, "refused") > refused, f"{text} refused")  # noqa: B023  called here
        assert key in product.logged("error")[-1]["message"]
    failed = product.command("restart", "--rolling", code=78)
    assert "limits.rate_per_s" in failed.stderr
    assert pids(product) == before
    assert product.readyz() == (200, [])
    product.track(product.demo)

    # What only the process itself finds wrong: a frontend can't send its largest event in such a frame.
    change(settings, "[publisher]\nframe_bytes_max = 65536")
    failed = product.command("restart", "--rolling", code=70)
    assert "frame_bytes_max" in failed.stderr
    after = pids(product)
    assert {place for place in before if before[place] == after[place]} >= {("frontend", 0), ("frontend", 1)}
    assert product.readyz() == (200, [])
    product.track(product.demo)
    assert rolls(product, "failed") == 1


def test_reload_with_changed_settings(new_product: NewProduct, settings: Path) -> None:
    product = new_product(config=settings).start()
    source = product.demo
    big = {"type": "track", "event": "Seen", "properties": {"filler": "x" * 5000}}
    assert product.post("t", source, big).status == 200
    change(settings, "[limits]\nbody_bytes_max = 4096\n[server]\nbacklog = 17")
    settings.write_text(settings.read_text().replace("count = 2", "count = 3"))
    product.send(signal.SIGHUP)
    until(lambda: rolls(product, "done") == 1, "the reload is over")
    assert product.post("t", source, big).status == 413
    assert "limits.body_bytes_max" in product.log
    assert len([slot for slot in product.slots() if slot.role == "frontend"]) == 3
    # What only a restart can change stays, and that is said.
    assert "restart to change server.backlog" in product.log

    # Fewer frontends: those that go lose nothing.
    settings.write_text(settings.read_text().replace("count = 3", "count = 1"))
    with Load(product.ingest_port, source, connections=8, per_s=200, fresh=True) as load:
        load.wait(50)
        product.json("restart", "--rolling")
        assert [slot.slot for slot in product.slots() if slot.role == "frontend"] == [0]
        load.wait(50)
    assert load.statuses.keys() == {200}
    assert product.at_rest().in_work == 0


def test_new_code_in_place_comes_with_a_roll(new_product: NewProduct, tmp_path: Path) -> None:
    """As after `git pull` in a clone: the supervisor stays, the others are of the new version, and nobody has noticed."""
    clone = tmp_path / "clone"
    for folder in ("daemon", "workers", "config"):
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    product = new_product()
    product.cwd = clone
    product.environ["PYTHONPATH"] = str(clone)
    product.start()
    assert product.ask("GET", "/health").json() == {"status": "ok"}
    with (
        Load(product.ingest_port, product.create_source(), connections=8, per_s=PER_S) as kept,
        Load(product.ingest_port, product.demo, connections=8, per_s=100, fresh=True) as fresh,
    ):
        kept.wait(100)
        app = clone / "daemon/frontend/app.py"
        old = app.read_text()
        assert old.count('"draining" if draining else "ok"') == 1
        app.write_text(old.replace('"draining" if draining else "ok"', '"draining" if draining else "newer"'))
        supervisor = product.process.pid
        product.command("restart", "--rolling")
        assert {product.ask("GET", "/health").json()["status"] for _ in range(20)} == {"newer"}
        kept.wait(100)
    assert product.process.pid == supervisor
    assert product.running
    for load in (kept, fresh):
        assert load.failures == []
        assert load.statuses.keys() == {200}
    assert kept.acked.keys() | fresh.acked.keys() <= set(product.message_ids())


def test_kill_in_the_middle_of_a_roll(new_product: NewProduct) -> None:
    product = new_product().start()
    source = product.create_source()
    with Load(product.ingest_port, source, connections=8, per_s=PER_S) as load:
        load.wait(100)
        for _ in range(2):
            product.send(signal.SIGHUP)
            time.sleep(0.15)
            product.kill("frontend", 1)
            product.wait_slot("frontend", 1)
            load.wait(100)
        # Waits for those that are on, and then goes well itself.
        product.json("restart", "--rolling")
        load.wait(100)
    assert load.statuses.keys() == {200}
    assert load.acked.keys() <= set(product.message_ids())
    assert product.at_rest().in_work == 0
    assert {slot.state for slot in product.slots()} == {"READY"}
