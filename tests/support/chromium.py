"""
A real headless Chromium, driven over the DevTools protocol by a pipe: no driver, no port, no client library.

    with Chromium(folder) as chromium:
        context = chromium.context()            # cookies and storage of its own
        page = context.open("http://127.0.0.1:8000/")
        page.click("#buy")
        assert page.js("document.title") == "Bought"

One thread, one message at a time; what Chromium reports by itself is kept per page.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.wire import PATIENCE_S

FLAGS = (
    "--headless=new",
    # the pages are ours, and the sandbox is not to be had as root or in many containers
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--password-store=basic",
    "--window-size=1280,800",
    "--lang=en-US",
    # every site of the tests lives on this machine; nothing else can be reached
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-pipe",
)

#: Puts the two pipes where Chromium looks for them, descriptors 3 and 4, and becomes it.
_LAUNCH = (
    "import os,sys;i,o=map(int,sys.argv[1:3]);os.dup2(i,3);os.dup2(o,4);os.execv(sys.argv[3],sys.argv[3:])"
)

END_S = 15.0


class BrowserError(AssertionError):
    """What Chromium answered instead of a result."""


class Chromium:
    """One browser process. `folder` is its profile's."""

    def __init__(self, program: str, folder: Path) -> None:
        ours_in, theirs_out = (_above(fd) for fd in os.pipe())
        theirs_in, ours_out = (_above(fd) for fd in os.pipe())
        self._in, self._out = ours_in, ours_out
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "chromium.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-c", _LAUNCH, str(theirs_in), str(theirs_out),
                    program, *FLAGS, f"--user-data-dir={folder}", "about:blank",
                ],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(folder)},
                start_new_session=True,
            )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = bytearray()
        self._last = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser; it ends by itself when this process does, as its pipe closes."""
        with contextlib.suppress(BrowserError, OSError):
            self.call("Browser.close")
        for fd in (self._out, self._in):
            with contextlib.suppress(OSError):
                os.close(fd)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def context(self) -> Context:
        """A fresh profile: no cookies, no storage."""
        return Context(self, self.call("Target.createBrowserContext")["browserContextId"])

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        session: str = "",
        patience_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Send a command and wait for its result. Raises BrowserError."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        _write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + patience_s
        while number not in self._answers:
            self.listen(end - time.monotonic(), f"{method} was not answered")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def listen(self, patience_s: float, why: str = "") -> None:
        """Take in what comes within `patience_s`; fails with `why` (if any) when nothing does."""
        ready, _, _ = select.select([self._in], [], [], max(0.0, patience_s))
        if not ready:
            if why:
                raise BrowserError(why)
            return
        data = os.read(self._in, 1 << 20)
        if not data:
            raise BrowserError("Chromium has ended")
        self._buffer += data
        while (at := self._buffer.find(0)) >= 0:
            message = json.loads(self._buffer[:at])
            del self._buffer[: at + 1]
            if "id" in message:
                self._answers[message["id"]] = message
            elif page := self._pages.get(message.get("sessionId", "")):
                page.told(message["method"], message["params"])

    def attach(self, page: Page) -> None:
        """What Chromium reports of this page goes to it from now on."""
        self._pages[page.session] = page


class Context:
    """A browser profile of its own, gone when it is closed."""

    def __init__(self, chromium: Chromium, context: str) -> None:
        self._chromium = chromium
        self._id = context
        self.pages: list[Page] = []

    def open(self, url: str = "", *, before: str = "") -> Page:
        """A new tab, loaded with `url`; the script `before` runs in every document of it before the page's own."""
        made = self._chromium.call(
            "Target.createTarget", {"url": "about:blank", "browserContextId": self._id}
        )["targetId"]
        session = self._chromium.call("Target.attachToTarget", {"targetId": made, "flatten": True})[
            "sessionId"
        ]
        page = Page(self._chromium, made, session)
        self.pages.append(page)
        if before:
            page.call("Page.addScriptToEvaluateOnNewDocument", {"source": before})
        if url:
            page.goto(url)
        return page

    def cookies(self) -> dict[str, dict[str, Any]]:
        """All cookies of the profile, by name."""
        found = self._chromium.call("Storage.getCookies", {"browserContextId": self._id})["cookies"]
        return {one["name"]: one for one in found}

    def close(self) -> None:
        """End its tabs and forget all of it."""
        self._chromium.call("Target.disposeBrowserContext", {"browserContextId": self._id})


class Page:
    """One tab."""

    def __init__(self, chromium: Chromium, target: str, session: str) -> None:
        self._chromium = chromium
        self._target = target
        self.session = session
        #: uncaught exceptions in the page
        self.errors: list[str] = []
        #: the console, what the page wrote and what Chromium did: (level, text)
        self.console: list[tuple[str, str]] = []
        self._loads = 0
        chromium.attach(self)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command for this page."""
        return self._chromium.call(method, params, self.session)

    def told(self, method: str, params: dict[str, Any]) -> None:
        """Something happened in the page."""
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled":
            text = " ".join(str(one.get("value", one.get("description", ""))) for one in params["args"])
            self.console.append((params["type"], text))
        elif method == "Log.entryAdded":
            self.console.append((params["entry"]["level"], params["entry"]["text"]))

    def goto(self, url: str) -> None:
        """Load an address and wait for its load event."""
        self._loading("Page.navigate", {"url": url})

    def reload(self) -> None:
        """Load the page again."""
        self._loading("Page.reload", {})

    def _loading(self, method: str, params: dict[str, Any]) -> None:
        before = self._loads
        answer = self.call(method, params)
        if answer.get("errorText"):
            raise BrowserError(f"{params}: {answer['errorText']}")
        end = time.monotonic() + PATIENCE_S
        while self._loads == before:
            self._chromium.listen(end - time.monotonic(), f"{params} was not loaded")

    def js(self, expression: str) -> Any:
        """The value of an expression (or of the promise that it gives), as JSON carries it."""
        answer = self.call(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True},
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView();"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1},
            )

    def offline(self, *, on: bool) -> None:
        """Cut the page off from the network, or give it back."""
        self.call("Network.enable")
        self.call(
            "Network.emulateNetworkConditions",
            {"offline": on, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )

    def back(self) -> None:
        """The browser's back button, to another document or within this one."""
        self.js("history.back()")

    def close(self) -> None:
        """Close the tab, as its user would: the page is told."""
        self.call("Page.close")

    def screenshot(self, path: Path, *, dark: bool = False, width: int = 1280, height: int = 800) -> None:
        """Write a PNG of what a window of this size shows."""
        self.call("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        })  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"]))


def _above(fd: int) -> int:
    """The same pipe on a descriptor that is not one of Chromium's."""
    moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved


def _write(fd: int, data: bytes) -> None:
    view: Sequence[int] | memoryview = memoryview(data)
    while view:
        view = view[os.write(fd, bytes(view)) :]
