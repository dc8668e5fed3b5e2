"""`make run` in a fresh clone, as the README says; and two instances side by side."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.tools import need
from tests.support.product import ROOT, NewProduct, Product, until


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of this repository (a copy where it is none) at a path with a space in it."""
    folder = tmp_path / "a clone"
    if (ROOT / ".git").exists():
        subprocess.run([need("git"), "clone", "--quiet", str(ROOT), str(folder)], check=True)
    else:
        left_out = shutil.ignore_patterns(".venv", ".cache", ".data", "__pycache__")
        shutil.copytree(ROOT, folder, ignore=left_out)
    return folder


@pytest.fixture
def made(tmp_path: Path, clone: Path) -> Iterator[Product]:
    """The instance that `make run` starts there."""
    product = Product(tmp_path)
    product.argv = [need("make"), "run"]
    product.cwd = clone
    product.headgate = clone / ".venv/bin/headgate"
    product.data = clone / ".data"
    for name in ("HEADGATE_CONFIG", "HEADGATE_DATA_DIR", "PYTHONPATH", "PYTHON", "VIRTUAL_ENV"):
        product.environ.pop(name, None)
    yield product
    product.end()


def paste(product: Product, ending: str) -> str:
    """Paste the printed line that begins or ends so into a shell in the clone's folder; gives what it prints."""
    [line] = [one.strip() for one in product.log.splitlines() if one.strip().startswith(ending)]
    done = subprocess.run(
        ["sh", "-c", line], cwd=product.cwd, env=product.environ, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.timeout(240)
def test_make_run_in_a_fresh_clone(made: Product) -> None:
    made.start(wait=False)
    # Installs everything first.
    made.wait_ready(200.0)
    assert json.loads(paste(made, "curl ")) == {"success": True}
    [envelope] = made.tail()
    assert (envelope["event"], envelope["source"]) == ("Product Viewed", made.demo.id)
    source = made.demo
    assert (made.data / "credentials.json").stat().st_mode & 0o777 == 0o600

    # Ctrl-C goes to the whole group; make passes TERM on, so that it comes twice.
    os.killpg(made.process.pid, signal.SIGTERM)
    made.wait()
    until(lambda: made.processes() == {}, "all of it ended")
    assert "ended, exit code 0" in made.log

    # The second time nothing is installed, and the data is there.
    made.start()
    assert "installing" not in made.log
    assert made.demo == source
    assert made.tail() == [envelope]
    made.track(source)
    # TERM to make alone.
    made.send(signal.SIGTERM)
    made.wait()
    until(lambda: made.processes() == {}, "all of it ended")
    assert "ended, exit code 0" in made.log


def test_two_instances_side_by_side(product: Product, new_product: NewProduct) -> None:
    """Other ports and another folder; what one of them does is nothing to the other."""
    other = new_product().start()
    assert other.demo != product.demo
    message_id = other.track(other.demo)
    assert message_id in other.message_ids()
    assert message_id not in product.message_ids()
    assert product.post("t", other.demo, {"type": "track", "event": "Seen"}).status == 401
    other.stop()
    product.track(product.demo)


def test_a_second_instance_on_the_same_data_or_port_is_refused(
    product: Product, new_product: NewProduct
) -> None:
    same_data = new_product(HEADGATE_DATA_DIR=str(product.data))
    same_data.start(wait=False)
    assert same_data.wait() == 73
    assert str(product.process.pid) in same_data.log
    for name, port in (("INGEST", product.ingest_port), ("ADMIN", product.admin_port)):
        same_port = new_product(**{f"HEADGATE_{name}_PORT": str(port)})
        same_port.start(wait=False)
        assert same_port.wait() == 69
        assert f"port {port}" in same_port.log
        assert f"pid {product.process.pid}" in same_port.log
        assert same_port.processes() == {}
    product.track(product.demo)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HEADGATE_FRONTEND__COUNTS", "2", "did you mean HEADGATE_FRONTEND__COUNT?"),
        ("HEADGATE_SERVER__INGEST_PORT", "many", "server.ingest_port"),
        ("HEADGATE_KAFKA__BROKERS", "localhost", "kafka.brokers"),
        ("HEADGATE_REDIS__URL", "http://127.0.0.1", "redis.url"),
        ("HEADGATE_CONFIG", "/nowhere.toml", "/nowhere.toml"),
    ],
)
def test_bad_settings_end_the_start(new_product: NewProduct, name: str, value: str, says: str) -> None:
    product = new_product(**{name: value})
    product.start(wait=False)
    assert product.wait() == 78
    assert says in product.log
    assert product.processes() == {}
