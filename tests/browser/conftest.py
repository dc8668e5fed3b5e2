"""A browser, an instance of the product, a web site on another origin, and what arrives on the log."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.tools import need
from tests.support.chromium import Chromium, Context, Page
from tests.support.product import HEADGATE, ROOT, Product, Source, until
from tests.support.site import Door, Site


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """The test process's browser."""
    program = need("chromium")
    folder = Path(tempfile.mkdtemp(prefix="hgc-", dir="/tmp"))
    with Chromium(program, folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def product(chromium: Chromium) -> Iterator[Product]:
    """The test process's instance: development mode, one frontend. Leave it running."""
    folder = Path(tempfile.mkdtemp(prefix="hgb-", dir="/tmp"))
    # A browser beside it takes all there is of a small machine: Redis is not to be called away for that.
    made = Product(folder, {"HEADGATE_FRONTEND__COUNT": "1", "HEADGATE_REDIS__TIMEOUT_S": "5"})
    try:
        yield made.start()
    finally:
        made.end()
    shutil.rmtree(folder)


class Log:
    """Follows the instance's log."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._lines: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [str(HEADGATE), "tail", "--follow"],
            cwd=ROOT,
            env=product.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(json.loads(line))

    def stop(self) -> None:
        """Follow no more."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def of(self, about: str) -> list[dict[str, Any]]:
        """The envelopes of the pages whose address holds `about`, in the order of the log."""
        return [
            one for one in list(self._lines) if about in one.get("context", {}).get("page", {}).get("url", "")
        ]

    def settled(self, source: Source) -> None:
        """Wait until everything that was answered before this call has been read."""
        mark = self._product.track(source)
        until(lambda: any(one.get("messageId") == mark for one in list(self._lines)), "the mark on the log")


@pytest.fixture(scope="session")
def log(product: Product) -> Iterator[Log]:
    """What stands on the instance's log."""
    made = Log(product)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def source(product: Product) -> Source:
    """The demo source, which takes events of this machine's pages in development mode."""
    return product.demo


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A web site on an origin of its own."""
    with Site() as made:
        yield made


@pytest.fixture
def door(product: Product) -> Iterator[Door]:
    """A door before the gateway, for this test alone."""
    with Door(product.ingest_port) as made:
        yield made


@pytest.fixture
def context(chromium: Chromium) -> Iterator[Context]:
    """A browser profile for this test alone."""
    made = chromium.context()
    yield made
    made.close()


@pytest.fixture
def site_data_blocked(tmp_path: Path) -> Iterator[Context]:
    """A browser whose user allows no site to keep data."""
    preferences = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default/Preferences").write_text(json.dumps(preferences))
    with Chromium(need("chromium"), tmp_path) as blocked:
        yield blocked.context()


@pytest.fixture
def strict(context: Context) -> Iterator[None]:
    """No page of the test may have seen an uncaught exception."""
    yield
    assert [error for page in context.pages for error in page.errors] == []


class Shop:
    """Pages with the SDK below a path that no other test has, and what came of them."""

    def __init__(self, site: Site, source: Source, log: Log, gateway: str) -> None:
        self.mark = uuid.uuid4().hex[:12]
        self.site = site
        self.source = source
        self.gateway = gateway
        self._log = log

    def add(
        self,
        name: str = "",
        *,
        attributes: str = "",
        head: str = "",
        body: str = "",
        headers: dict[str, str] | None = None,
        gateway: str = "",
        key: str = "",
        title: str = "Shop",
    ) -> str:
        """A page; gives its path."""
        path = f"/{self.mark}/{name}"
        tag = (
            f'<script src="{gateway or self.gateway}/datafly.js" '
            f'data-pipeline-key="{key or self.source.pipeline_key}" {attributes} async></script>'
        )
        html = (
            f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>"
            f"<link rel=icon href='data:,'>{head}{tag}</head><body>{body}</body></html>"
        )
        self.site.pages[path] = (html, headers or {})
        return path

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path on the site."""
        return f"http://{host}:{self.site.port}{path}"

    def arrived(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many envelopes of this shop's pages; that there are no more is to be checked with `all`."""
        until(lambda: len(self._log.of(self.mark)) >= count, f"{count} envelopes, {self._brief()}")
        return self._log.of(self.mark)

    def all(self) -> list[dict[str, Any]]:
        """Every envelope of this shop's pages, once all that was answered has been read."""
        self._log.settled(self.source)
        return self._log.of(self.mark)

    def _brief(self) -> list[str]:
        return [str(one.get("event", one["type"])) for one in self._log.of(self.mark)]


@pytest.fixture
def shop(site: Site, source: Source, log: Log, product: Product) -> Shop:
    """A shop whose pages speak to the gateway itself."""
    return Shop(site, source, log, product.url)


@pytest.fixture
def guarded_shop(site: Site, source: Source, log: Log, door: Door) -> Shop:
    """A shop whose pages speak to the gateway through the door."""
    return Shop(site, source, log, door.url)


Ready = Callable[[Page], None]


@pytest.fixture
def ready() -> Ready:
    """Wait until the SDK is there."""

    def wait(page: Page) -> None:
        until(lambda: page.js("!!(window._df && _df.version)"), "the SDK in the page")

    return wait
