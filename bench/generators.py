"""The two generators of load: locust for users that behave like browsers, wrk for as much as goes."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.children import ROOT, BenchError, Child
from bench.instance import Source
from bench.payloads import Visitor
from bench.tally import Latencies, Tally

#: Where the message id goes in a prepared body; wrk.lua looks for it.
MARK = "@@@@@@@@-@@@@-4@@@-8@@@-@@@@@@@@@@@@"

#: Requests that wrk goes through, over and over.
PREPARED = 2000

#: Seconds in which locust's users arrive: all at once would measure the crowd at the door.
SPAWN_S = 2.0

#: Seconds that a generator gets beyond its time to start and to finish.
GRACE_S = 45.0


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint as the generator saw it."""

    endpoint: str
    answers: dict[str, int]
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float

    @property
    def requests(self) -> int:
        """All answers, and requests without one."""
        return sum(self.answers.values())


@dataclass(frozen=True, slots=True)
class Load:
    """
    What a generator did.

    `answered` are events that got an answer, `maybe` those that may have arrived without one; `faults` are
    answers that are wrong.
    """

    seconds: float
    rows: tuple[Row, ...]
    answered: int
    maybe: int
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(row.requests for row in self.rows)

    @property
    def failed(self) -> int:
        """Those that were not answered with a 2xx."""
        return sum(
            count for row in self.rows for status, count in row.answers.items() if not status.startswith("2")
        )


@dataclass(frozen=True, slots=True)
class Locust:
    """`users` browsers in `processes` processes, thinking `think_s` seconds between events."""

    users: int
    processes: int
    think_s: float
    seed: int

    def __str__(self) -> str:
        return (
            f"locust: {self.users} users in {self.processes} process(es), {self.think_s:g} s between events"
        )

    def run(self, url: str, sources: Sequence[Source], folder: Path, seconds: float, number: int) -> Load:
        """Load `url` for `seconds`. `number` tells rounds apart: another has other visitors and ids."""
        keys, result = folder / "keys.txt", folder / f"locust-{number}.json"
        keys.write_text("".join(f"{source.key} {source.origin}\n" for source in sources), "utf-8")
        env = {
            "BENCH_KEYS_FILE": str(keys),
            "BENCH_RESULT": str(result),
            "BENCH_THINK_S": str(self.think_s),
            "BENCH_SEED": f"{self.seed + number}",
        }
        argv = [
            sys.executable, "-m", "locust", "-f", str(ROOT / "bench/locustfile.py"), "--headless",
            "--host", url, "-u", str(self.users), "-r", str(max(1.0, self.users / SPAWN_S)), "-t", f"{_whole(seconds)}s",
            # Requests under way are finished, so that what was sent is what was counted.
            "--stop-timeout", "20", "--only-summary",
        ]  # fmt: skip
        if self.processes > 1:
            argv += ["--processes", str(self.processes)]
        _run("locust", argv, folder, env, seconds)
        try:
            tally = msgspec.json.decode(result.read_bytes(), type=Tally, strict=False)
        except (OSError, msgspec.DecodeError) as error:
            log = (folder / "locust.log").read_text("utf-8", "replace")[-2000:]
            raise BenchError(f"locust left no result ({error}):\n{log}") from error
        return _load(tally)


@dataclass(frozen=True, slots=True)
class Wrk:
    """`connections` over which requests follow each other without a pause: as much as goes."""

    connections: int
    threads: int
    seed: int

    def __str__(self) -> str:
        return f"wrk: {self.connections} connections in {self.threads} thread(s), no pause"

    def run(self, url: str, sources: Sequence[Source], folder: Path, seconds: float, number: int) -> Load:
        """Load `url` for `seconds`. `number` tells rounds apart: another has other message ids."""
        prepared = folder / "requests.tsv"
        if not prepared.exists():
            prepared.write_text("".join(lines(sources, self.seed)), "utf-8")
        return self.send(url, ROOT / "bench/wrk.lua", prepared, folder, seconds, number)

    def send(
        self,
        url: str,
        script: Path,
        prepared: Path,
        folder: Path,
        seconds: float,
        number: int,
        more: Sequence[str] = (),
    ) -> Load:
        """Send what `prepared` holds, as `script` (which takes `more` too) reads it. `answered` counts requests."""
        program = shutil.which("wrk")
        if program is None:
            raise BenchError("there is no wrk; on Debian: apt-get install wrk. Or take --generator locust")
        argv = [
            program, "-t", str(self.threads), "-c", str(self.connections), "-d", f"{_whole(seconds)}s",
            "--latency", "--timeout", "15s", "-s", str(script), url, "--", str(prepared), str(number), *more,
        ]  # fmt: skip
        log = _run("wrk", argv, folder, {}, seconds)
        found = [line for line in log.splitlines() if line.startswith("RESULT ")]
        if not found:
            raise BenchError(f"wrk left no result:\n{log[-2000:]}")
        said = json.loads(found[-1].removeprefix("RESULT "))
        good = said["requests"] - said["not_2xx"]
        answers = {"2xx": good, "not 2xx": said["not_2xx"], "no answer": said["no_answer"]}
        row = Row(
            "POST /v1/*",
            {status: count for status, count in answers.items() if count or status == "2xx"},
            said["p50_s"],
            said["p95_s"],
            said["p99_s"],
            said["max_s"],
        )
        # When its time is over, wrk drops what is under way.
        return Load(said["seconds"], (row,), said["requests"], self.connections + said["no_answer"])


Generator = Locust | Wrk


def lines(sources: Sequence[Source], seed: int, count: int = PREPARED) -> list[str]:
    """
    Requests for wrk.lua, one a line: returning visitors, who have their cookies.

    The same message id never comes twice, so none is a duplicate; it stands where MARK is.
    """
    rng = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        source = rng.choice(sources)
        visitor = Visitor(rng, source.origin)
        cookies = (
            f"_dfid={uuid.UUID(int=rng.getrandbits(128), version=4)}; _ga=GA1.1.{rng.randrange(2**31)}.1760000000; "
            f"_fbp=fb.1.1760000000000.{rng.randrange(10**9, 10**10)}; _ttp={uuid.UUID(int=rng.getrandbits(128), version=4)}"
        )
        for _ in range(rng.randint(2, 12)):
            event = visitor.next()
            body = event.body.decode().replace(event.message_id, MARK, 1)
            parts = (f"/v1/{event.letter}", source.key, source.origin, visitor.user_agent, cookies, body)
            made.append("\t".join(parts) + "\n")
    return made[:count]


def _whole(seconds: float) -> int:
    """Neither generator knows fractions."""
    return max(1, round(seconds))


def _run(name: str, argv: list[str], folder: Path, env: dict[str, str], seconds: float) -> str:
    with Child(name, argv, folder, env={**os.environ, **env}) as child:
        before = child.log.stat().st_size
        code = child.wait(seconds + GRACE_S)
        log = child.log.read_bytes()[before:].decode("utf-8", "replace")
    if code != 0:
        raise BenchError(f"{name} ended with {code}:\n{log[-2000:]}")
    return log


def _load(tally: Tally) -> Load:
    rows = []
    for endpoint in sorted(tally.answers):
        latencies = tally.latencies.get(endpoint, Latencies())
        rows.append(_row(endpoint, tally.answers[endpoint], latencies))
    no_answer = sum(
        by_status.get("no answer", 0)
        for endpoint, by_status in tally.answers.items()
        if endpoint.startswith("POST")
    )
    answered = tally.requests("POST") - no_answer
    return Load(tally.seconds, tuple(rows), answered, no_answer, dict(tally.faults))


def _row(endpoint: str, answers: dict[str, int], latencies: Latencies) -> Row:
    return Row(
        endpoint,
        dict(answers),
        latencies.quantile(0.5),
        latencies.quantile(0.95),
        latencies.quantile(0.99),
        latencies.max_s,
    )
