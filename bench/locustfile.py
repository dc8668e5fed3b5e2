"""
Browser-like users for locust: they keep their cookies, ask before they post, think, and repeat themselves.

    locust -f bench/locustfile.py --headless -u 100 -r 100 -t 30s --host http://127.0.0.1:8080

Environment:
    BENCH_KEYS        pipeline keys, comma-separated; or
    BENCH_KEYS_FILE   a file with one key a line, each with the origin of its pages after a space; or
    BENCH_CREDENTIALS Headgate's credentials.json (default: .data/credentials.json)
    BENCH_THINK_S     mean seconds between a user's events (default 0.3; 0: none)
    BENCH_SEED        of the visitors (default 1)
    BENCH_RESULT      file that takes the tally as JSON

Each user is one browser after the other: it lands on a page (with an advertisement's click id, at times),
asks for every path once with a preflight, sends its events with the cookies it was given, sometimes as
sendBeacon does (text/plain, key in the query), now and then sends the same event again, and leaves.
It checks what comes back: a `_dfid` that was kept must not be set again, a repeated messageId must be told
as a duplicate, a 200 must say where the event is durable.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any, cast

import gevent
from locust import FastHttpUser, between, constant, events, task
from locust.runners import MasterRunner, WorkerRunner

from bench.payloads import Event, Visitor
from bench.tally import Tally, from_builtins, to_builtins

THINK_S = float(os.environ.get("BENCH_THINK_S", "0.3"))
SEED = int(os.environ.get("BENCH_SEED", "1"))

#: Shares of events that are sent as sendBeacon does, and that are sent twice.
BEACON_SHARE = 0.15
REPEAT_SHARE = 0.02

#: Events of one visitor before the next one takes its place.
VISIT_EVENTS = (4, 40)

DEFAULT_ORIGIN = "http://localhost:3000"

TALLY = Tally()


class NoJar:
    """Keeps nothing: the visitor does, at a tenth of the price, and whatever the cookies' Secure says."""

    def add_cookie_header(self, request: Any) -> None:
        """Add nothing."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Keep nothing."""


def keys() -> list[tuple[str, str]]:
    """(pipeline key, origin of its pages) of all sources that there are. Raises SystemExit without any."""
    if given := os.environ.get("BENCH_KEYS"):
        return [(key.strip(), DEFAULT_ORIGIN) for key in given.split(",") if key.strip()]
    if file := os.environ.get("BENCH_KEYS_FILE"):
        lines = [line.split() for line in Path(file).read_text("utf-8").splitlines() if line.strip()]
        return [(line[0], line[1] if len(line) > 1 else DEFAULT_ORIGIN) for line in lines]
    path = Path(os.environ.get("BENCH_CREDENTIALS", ".data/credentials.json"))
    try:
        sources = json.loads(path.read_text("utf-8"))["sources"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"no keys: set BENCH_KEYS or BENCH_KEYS_FILE, or start Headgate ({path}: {error})"
        ) from error
    return [(source["pipeline_key"], DEFAULT_ORIGIN) for source in sources]


KEYS = keys()
_numbers = iter(range(1_000_000_000))


class Browser(FastHttpUser):
    """One user after the other in front of one browser."""

    wait_time = between(THINK_S / 2, THINK_S * 1.5) if THINK_S > 0 else constant(0)
    network_timeout = 30.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Begin with a visitor of one's own."""
        # Differs over users and over locust's processes, and is the same in the next run.
        runner = self.environment.runner
        worker = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        self.rng = random.Random(f"{SEED}/{worker}/{next(_numbers)}")
        self.http: Any = cast("Any", self.client)  # locust's types know no bytes and no other jar
        self.http.client.cookiejar = NoJar()
        self.arrive()

    def arrive(self) -> None:
        """The next visitor, with no cookies."""
        self.key, origin = self.rng.choice(KEYS)
        self.visitor = Visitor(self.rng, origin)
        self.cookies: dict[str, str] = {}
        self.asked: set[str] = set()
        self.left = self.rng.randint(*VISIT_EVENTS)
        self.last: Event | None = None

    @task
    def send(self) -> None:
        """One event; at times the last one once more."""
        if self.left <= 0:
            self.arrive()
        self.left -= 1
        if self.last is not None and self.rng.random() < REPEAT_SHARE:
            self.post(self.last, repeated=True)
            return
        event = self.visitor.next()
        self.last = event if self.post(event, repeated=False) else None

    def post(self, event: Event, *, repeated: bool) -> bool:
        """Send `event`; True when it is durable."""
        path = f"/v1/{event.letter}"
        headers = {
            "Origin": self.visitor.origin,
            "User-Agent": self.visitor.user_agent,
            "Accept-Encoding": "gzip, br",
        }
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        url = path
        if self.rng.random() < BEACON_SHARE:
            # What a page sends as it is left: no headers of its own, so no preflight either.
            headers["Content-Type"] = "text/plain;charset=UTF-8"
            url = f"{path}?wk={self.key}"
        else:
            headers["Content-Type"] = "application/json"
            headers["Authorization"] = f"Bearer {self.key}"
            self.preflight(path)
        started = time.perf_counter()
        with self.http.post(url, data=event.body, headers=headers, name=path, catch_response=True) as answer:
            status = str(answer.status_code) if answer.status_code else "no answer"
            TALLY.add(f"POST {path}", status, time.perf_counter() - started)
            wrong = self.wrong_with(answer, repeated=repeated)
            if wrong:
                answer.failure(wrong)
            else:
                answer.success()
            return status == "200"

    def wrong_with(self, answer: Any, *, repeated: bool) -> str:
        """What is wrong with the answer to an event; empty when nothing is."""
        if answer.status_code != 200:
            return f"HTTP {answer.status_code}" if answer.status_code else f"no answer: {answer.error!r}"
        fault = ""
        if answer.content not in (b'{"success":true}', b'{"success": true}'):
            fault = "a 200 with another body"
        elif repeated and "x-headgate-duplicate" not in answer.headers:
            fault = "a repeated messageId that was not told as a duplicate"
        elif not repeated and "x-headgate-durability" not in answer.headers:
            fault = "a 200 that does not say where the event is durable"
        fault = self.keep_cookies(answer) or fault
        if fault:
            TALLY.fault(fault)
        return fault

    def keep_cookies(self, answer: Any) -> str:
        """Keep what is set, as a browser does; says what is wrong with it."""
        fault = ""
        for line in answer.headers.getlist("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if self.cookies.get(name, value) != value and name == "_dfid":
                fault = "a _dfid that was sent was set anew"
            self.cookies[name] = value
        return fault if self.cookies else "no cookie on the first visit"

    def preflight(self, path: str) -> None:
        """Ask whether the page may send there, once per path: browsers remember it for two hours."""
        if path in self.asked:
            return
        self.asked.add(path)
        headers = {
            "Origin": self.visitor.origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
            "User-Agent": self.visitor.user_agent,
        }
        started = time.perf_counter()
        with self.http.options(path, headers=headers, name="preflight", catch_response=True) as answer:
            status = str(answer.status_code) if answer.status_code else "no answer"
            TALLY.add("OPTIONS preflight", status, time.perf_counter() - started)
            if answer.status_code not in (200, 204):
                answer.failure(f"HTTP {status}")
            elif answer.headers.get("access-control-allow-origin") != self.visitor.origin:
                TALLY.fault("a preflight that does not allow the page")
                answer.failure("a preflight that does not allow the page")
            else:
                answer.success()


# --- the tally, over locust's processes ------------------------------------------------------------------


def _started(environment: Any, **_: Any) -> None:
    environment.bench_started = time.perf_counter()


def _report(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001  locust calls it by these names
    data["tally"] = to_builtins(TALLY)
    TALLY.answers, TALLY.latencies, TALLY.faults = {}, {}, {}


def _reported(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001  locust calls it by these names
    if "tally" in data:
        TALLY.merge(from_builtins(data["tally"]))


def _stopped(environment: Any, **_: Any) -> None:
    TALLY.seconds = time.perf_counter() - environment.bench_started


def _write(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    if isinstance(environment.runner, MasterRunner):
        gevent.sleep(0.5)  # the workers' last reports
    if file := os.environ.get("BENCH_RESULT"):
        Path(file).write_text(json.dumps(to_builtins(TALLY)), "utf-8")
    # What we count as failed is in the tally; locust's exit code should only tell whether it ran.
    environment.process_exit_code = 0


_hooks: Any = events  # locust's add_listener is untyped
_hooks.test_start.add_listener(_started)
_hooks.report_to_master.add_listener(_report)
_hooks.worker_report.add_listener(_reported)
_hooks.test_stop.add_listener(_stopped)
_hooks.quitting.add_listener(_write)
