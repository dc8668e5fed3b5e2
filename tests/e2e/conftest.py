"""Instances of the whole product: one shared by the tests that do it no harm, new ones for the others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import NewProduct, Product, Source


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """The test process's instance: two frontends, embedded servers, the local log. Leave it as it was."""
    folder = Path(tempfile.mkdtemp(prefix="hgp-", dir="/tmp"))
    made = Product(folder)
    try:
        yield made.start()
    finally:
        made.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def four() -> Iterator[Product]:
    """The test process's instance with four frontends, in production mode, behind a proxy. Leave it as it was."""
    folder = Path(tempfile.mkdtemp(prefix="hgp-", dir="/tmp"))
    environ = {"HEADGATE_MODE": "production", "HEADGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}
    made = Product(folder, {"HEADGATE_FRONTEND__COUNT": "4", **environ})
    try:
        yield made.start()
    finally:
        made.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def source(product: Product) -> Source:
    """A source of the shared instance, without a limit that matters; shared too: its log has others' events."""
    return product.create_source()


@pytest.fixture(autouse=True)
def conservation(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: each event that a shared instance received has ended, once. New ones are asked at their end."""
    shared: list[Product] = [
        request.getfixturevalue(name) for name in ("product", "four") if name in request.fixturenames
    ]
    yield
    for product in shared:
        product.conserved()


@pytest.fixture
def new_product(tmp_path: Path) -> Iterator[NewProduct]:
    """Make an instance for this test alone, not started: `new_product(HEADGATE_FRONTEND__COUNT="4").start()`."""
    made: list[Product] = []

    def make(*, config: Path | str = "config/dev.toml", **environ: str) -> Product:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Product(folder, environ, config=config))
        return made[-1]

    yield make
    errors: list[AssertionError] = []
    for product in made:
        try:
            product.end()
        except AssertionError as error:
            errors.append(error)
    assert not errors, errors
