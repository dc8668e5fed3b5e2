"""That the run would find it: planted bugs, leaks, crashes and wrong answers."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.events.payload import InvalidPayload
from daemon.frontend import cors
from tests.fuzz import blackbox, growth, plan, report
from tests.fuzz.engines import drawn, flooded, guided, mutated
from tests.fuzz.http import answers
from tests.fuzz.http.wire import Answer, Broken, Connection
from tests.fuzz.inputs.grammar import Grammar
from tests.fuzz.inputs.mutator import Mutator
from tests.fuzz.inputs.tree import Obj, parse, write
from tests.fuzz.inputs.words import FILLERS
from tests.fuzz.judge import FAILED, Judge, shrunk
from tests.fuzz.plan import Job
from tests.fuzz.result import MIB, Found, Memory, Result
from tests.fuzz.result import growth as grown
from tests.fuzz.run import Run
from tests.fuzz.targets.target import Target, refused

ROOT = Path(__file__).resolve().parents[2]
JSON = Grammar("json", ("total", "items"), ("19.90", '"x"'))
SEED = b'{"name":"a","total":1}'


def planted(data: bytes) -> str:
    """Fails where the total is a text."""
    tree, known = parse(data)
    if isinstance(tree, Obj) and any(name == "total" and isinstance(value, str) for name, value in tree):
        raise TypeError("planted")
    return "JSON" if known else "no JSON"


TARGET = Target("planted", "a bug that was put there", planted, (JSON,))


@pytest.mark.parametrize("engine", [mutated, drawn])
def test_a_planted_bug_is_found_and_made_small(engine: object) -> None:
    """With its place, how often, and next to nothing around it."""
    judge = Judge(TARGET)
    engine.run(TARGET, [SEED], 500, 1, judge.see)  # type: ignore[attr-defined]
    assert judge.inputs == 500 == sum(judge.outcomes.values())
    [failure] = judge.failures.values()
    assert re.fullmatch(r"TypeError at tests/fuzz/test_machinery.py:\d+", failure.key)
    assert failure.times == judge.outcomes[FAILED]
    small = shrunk(failure.data, lambda data: judge.key_of(data) == failure.key)
    # a piece less and it is another input, or none; which one it is depends on what was found first
    assert judge.key_of(small) == failure.key
    assert len(small) <= 2 * len(b'{"total":""}')


def test_what_takes_too_long_is_found() -> None:
    """An expression that begins again at each blank of a flood of them: the square of its size."""

    def run(data: bytes) -> str:
        return str(re.search(r"\s+$", data.decode("utf-8", "replace")[:3000] + "x"))

    target = Target("slow", "a bad expression", run, (Grammar("text"),))
    judge = Judge(target, cpu_s_max=0.01)
    flooded.run(target, [b"ab"], len(FILLERS) * 2, 1, judge.see)
    assert list(judge.failures) == ["slow"]


def test_the_same_seed_makes_the_same_inputs() -> None:
    """And none is longer than it may be."""

    def made(seed: int) -> list[bytes]:
        mutator = Mutator(random.Random(seed), (JSON, Grammar("text")), [SEED + b"\x1etext"], 300)
        return [mutator.new() for _ in range(500)]

    assert made(1) == made(1) != made(2)
    assert max(map(len, made(1))) <= 300


def test_trees_come_back_as_they_were() -> None:
    """Doubled names and numbers as they were written included."""
    data = b'{"a":1.50,"a":[null,true,{"":"\\ud800"}],"b":1e400}'
    tree, known = parse(data)
    assert known
    assert write(tree) == data
    assert parse(b"[" * 5000) == (None, False)


def test_growth_is_seen() -> None:
    """A leak grows with inputs that are known; what keeps nothing does not."""
    kept: list[bytes] = []
    inputs = [bytes(1000) for _ in range(500)]
    before, after = growth.soaked(lambda data: kept.append(data + b"x"), inputs)
    assert after.blocks - before.blocks > 4000
    before, after = growth.soaked(len, inputs)
    assert after.blocks - before.blocks < 100


def test_a_sample_is_bounded() -> None:
    """In number and in bytes, whatever comes."""
    sample = growth.Sample(random.Random(1), inputs_max=10, bytes_max=1000)
    for number in range(1000):
        sample.see(bytes(number))
    assert len(sample.inputs) == 10
    assert sum(map(len, sample.inputs)) <= 1000


def _result(
    engine: plan.Engine, *found: Found, run_bytes: int = 0, run_blocks: int = 0, again: int = 0
) -> Result:
    return Result(
        engine, "contact", 1, 10, {"E.164": 10}, list(found), 0.001, Memory(run_bytes, run_blocks, again, 0)
    )


def test_a_run_is_judged() -> None:
    """By what was found and by growth, except where an engine keeps what it has made."""
    assert grown(_result("mutated")) == []
    assert grown(_result("mutated", run_bytes=100 * MIB))
    assert grown(_result("guided", run_bytes=100 * MIB)) == []
    assert grown(_result("guided", run_blocks=1_000_000))
    assert grown(_result("drawn", run_bytes=100 * MIB, run_blocks=1_000_000)) == []
    assert grown(_result("drawn", again=10 * MIB))
    results = [_result("mutated", Found.of("ValueError at x:1", "…", b"a", 3)), _result("http")]
    assert report.problems(results) == ["mutated contact: ValueError at x:1 (3×)"]
    page = report.page(results, command="make fuzz", took_s=60, told=["resident"], guided=False)
    assert "20 inputs" in page
    assert "1 found" in page
    assert "atheris is not installed" in page


def test_a_plan_has_all_inputs() -> None:
    """At least as many as were asked for, over the engines that were; without atheris the mutator has its part."""
    names = ["contact", "datafly-event"]
    for chosen in (("guided", "http"), ("mutated", "drawn", "flooded", "guided", "http")):
        for is_there in (True, False):
            jobs = plan.jobs(10_000, 1, chosen, names, guided=is_there)
            assert 10_000 <= sum(job.inputs for job in jobs) <= 10_000 + 100 * len(jobs)
            assert any(job.engine == "guided" for job in jobs) == is_there
            assert len({job.seed for job in jobs}) == len(jobs)


DIES = """
import os, sys
from pathlib import Path
from tests.fuzz.blackbox import BlackBox
result = Path(sys.argv[sys.argv.index("--result") + 1])
BlackBox(result.with_suffix(".box")).note(7, b"the last one")
os.abort()
"""


def test_a_crash_of_native_code_leaves_its_input(tmp_path: Path) -> None:
    """The process is gone; what it was given last is kept, and is a finding."""
    run = Run(tmp_path, lambda done, what: None, process=(sys.executable, "-c", DIES))
    run.do(Job("mutated", "contact", 100, 1))
    [result] = run.results
    [found] = result.found
    assert (result.inputs, found.input) == (7, b"the last one")
    assert "-6" in found.key
    assert report.problems(run.results)
    kept = [file for file in (tmp_path / "found/contact").iterdir() if not file.suffix]
    assert [file.read_bytes() for file in kept] == [b"the last one"]


def test_a_black_box_is_readable_at_any_time(tmp_path: Path) -> None:
    """Before it is there, too."""
    path = tmp_path / "x.box"
    assert blackbox.read(path) == (0, b"")
    box = blackbox.BlackBox(path)
    box.note(2, b"long" * 10)
    box.note(3, b"short")
    assert blackbox.read(path) == (3, b"short")


def test_the_command(tmp_path: Path) -> None:
    """A small run, by atheris where it is installed; its report; a wrong option."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "tests.fuzz", *options]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    done = run("--inputs", "300", "--targets", "contact", "--engines", "guided", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
    assert ("| guided |" in done.stdout) == guided.available()
    assert (tmp_path / "report.md").read_text() == done.stdout
    wrong = run("--targets", "contacts")
    assert wrong.returncode == 64
    assert "is none of" in wrong.stderr


def test_a_refusal_has_to_fit_into_an_answer() -> None:
    """Not empty, not without end, and UTF-8."""
    assert refused(InvalidPayload("no")) == "InvalidPayload"
    for bad in ("", "a" * 10_000):
        with pytest.raises(AssertionError):
            refused(InvalidPayload(bad))
    with pytest.raises(UnicodeEncodeError):
        refused(InvalidPayload("\ud800"))


def _answer(
    status: int, body: bytes = b'{"error":{"code":"NOT_FOUND","message":"m"}}', **headers: str
) -> Answer:
    given = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return Answer(status, tuple(given.items()), body)


UNAVAILABLE = b'{"error":{"code":"UNAVAILABLE","message":"%b"}}'


def test_right_answers() -> None:
    """A refusal, a limit, and the HTTP server's own."""
    assert answers.check(_answer(404), "datafly", "GET") == "404"
    assert answers.check(_answer(503, UNAVAILABLE % b"busy", retry_after="1"), "datafly", "POST") == "503"
    assert answers.check(Answer(400, (("connection", "close"),), b""), "any", "GET") == "400 by the server"


@pytest.mark.parametrize(
    ("answer", "owner", "rule"),
    [
        (_answer(500), "datafly", "status 500"),
        (_answer(502), "any", "status 502"),
        (_answer(503, UNAVAILABLE % b"busy"), "datafly", "503 without Retry-After"),
        (_answer(503, UNAVAILABLE % b"an unexpected failure; try again", retry_after="1"), "datafly", "an unforeseen failure"),
        (_answer(404), "resultfly", "not resultfly's shape"),
        (_answer(404), "pixel", "not pixel's shape"),
        (_answer(404, b"not found"), "datafly", "not datafly's shape"),
        (_answer(404, content_type="text/html"), "any", "no product's shape"),
        (_answer(405), "datafly", "405 without Allow"),
        (Answer(404, (("x-a", "1"), ("x-a", "2")), b"{}"), "datafly", "headers twice: x-a"),
        (Answer(400, (), b""), "any", "a bare answer on a connection that stays"),
    ],
)  # fmt: skip
def test_wrong_answers(answer: Answer, owner: answers.Owner, rule: str) -> None:
    """Each for its own reason."""
    with pytest.raises(answers.Wrong, match=rule):
        answers.check(answer, owner, "POST")


@pytest.mark.parametrize(
    ("target", "owner"),
    [
        ("/v1/t?a=b", "datafly"), ("/v1/%63dp/events", "resultfly"), ("/v1/cdp", "resultfly"), ("/v1/browser/x", "tracklayer"),
        ("/v1/pixel/track?wk=1", "pixel"), ("http://x/v1/events", "events"), ("/v1/pixel.js", "pixel.js"), ("http://[::1", "any"),
    ],
)  # fmt: skip
def test_whose_an_address_is(target: str, owner: answers.Owner) -> None:
    """As the front sees it: decoded, and without host and query."""
    assert answers.owner_of(target) == owner


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\na",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\ncontent-length: 0\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_seen(sent: bytes) -> None:
    """A loose reader would see nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(sent)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = await Connection.open(server.sockets[0].getsockname()[1])
        await connection.send(b"x")
        with pytest.raises(Broken):
            await connection.answer("GET")
        await connection.close()


def test_what_is_kept_of_an_origin_is_short() -> None:
    """Whoever sends a preflight shows no key: 16,384 origins of 60 KB would have been a gigabyte in every frontend."""
    assert cors.normal("HTTPS://Shop.Example.com:443") == "https://shop.example.com"
    kept = cors._normal.cache_info().currsize
    for number in range(100):
        assert cors.normal(f"https://{'a.' * 300}{number}") == ""
    assert cors._normal.cache_info().currsize == kept
    assert not cors.allowed(
        "https://" + "a" * 600 + ".example.org", ("https://*.example.org",), development=True
    )
