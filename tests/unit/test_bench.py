"""The bench measures what it says: payloads, tallies, the judgement, the ratio, and children that end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import batch
from bench.children import ROOT, BenchError, Child
from bench.generators import MARK, Load, Locust, Row, Wrk, lines
from bench.instance import OWN_ROLES, Counts, Source, counts
from bench.payloads import TYPES, Visitor
from bench.report import Round, judge, ratios
from bench.run import arguments, plan
from bench.tally import Latencies, Tally, from_builtins, to_builtins
from daemon.events import datafly


def visitors(count: int, seed: int = 1) -> list[Visitor]:
    rng = random.Random(seed)
    return [Visitor(rng, "https://shop-1.example") for _ in range(count)]


class TestPayloads:
    def test_bodies_are_what_the_paths_take(self) -> None:
        seen = set()
        for visitor in visitors(100):
            first = visitor.next()
            assert first.letter == "p", "a visit begins with a page view"
            for event in [first, *(visitor.next() for _ in range(30))]:
                body = json.loads(event.body)
                seen.add(event.letter)
                assert body["type"] == TYPES[event.letter]
                assert body["messageId"] == event.message_id
                assert body["context"]["page"]["url"].startswith("https://shop-1.example/")
                if event.letter == "t":
                    assert body["event"]
                if event.letter == "g":
                    assert body["groupId"]
                if event.letter == "i":
                    assert body["userId"] == visitor.user_id
        assert seen == set(TYPES)

    def test_sizes_and_ids(self) -> None:
        events = [visitor.next() for visitor in visitors(200) for _ in range(50)]
        sizes = sorted(len(event.body) for event in events)
        assert 150 < sizes[0] < 300
        assert 4096 < sizes[-1] <= 8192
        assert 400 < sizes[len(sizes) // 2] < 1000
        assert len({event.message_id for event in events}) == len(events)

    def test_the_same_seed_gives_the_same_bodies(self) -> None:
        first, again, other = (
            [v.next().body for v in visitors(20, seed) for _ in range(5)] for seed in (7, 7, 8)
        )
        assert first == again
        assert first != other

    def test_identified_visitors_stay_so(self) -> None:
        (visitor,) = visitors(1)
        identify = json.loads(visitor.event("i").body)
        assert json.loads(visitor.event("t").body)["userId"] == identify["userId"]


class TestTally:
    def test_quantiles_are_within_two_percent(self) -> None:
        latencies = Latencies()
        values = [number / 10_000 for number in range(1, 10_001)]
        for value in random.Random(1).sample(values, len(values)):
            latencies.add(value)
        assert latencies.count == 10_000
        assert latencies.max_s == 1.0
        for share in (0.5, 0.95, 0.99):
            assert share <= latencies.quantile(share) <= share * 1.0201
        assert latencies.quantile(1.0) == 1.0
        assert Latencies().quantile(0.5) == 0.0

    def test_processes_add_up(self) -> None:
        whole, first, second = Tally(), Tally(), Tally()
        for number in range(100):
            endpoint, status = ("POST /v1/t", "200") if number % 3 else ("OPTIONS preflight", "429")
            for tally in (whole, (first, second)[number % 2]):
                tally.add(endpoint, status, number / 1000)
        first.fault("one")
        second.fault("one")
        merged = Tally()
        for part in (first, second):
            # The way from a worker to the master: JSON's keys are strings.
            merged.merge(from_builtins(json.loads(json.dumps(to_builtins(part)))))
        assert merged.answers == whole.answers
        assert merged.requests("POST") == 66
        assert merged.statuses() == {"200": 66, "429": 34}
        assert merged.latencies["POST /v1/t"].buckets == whole.latencies["POST /v1/t"].buckets
        assert merged.overall().count == 66
        assert merged.faults == {"one": 2}


EXPOSITION = """\
# HELP headgate_events_received_total Events.
# TYPE headgate_events_received_total counter
headgate_events_received_total{role="frontend",slot="0"} 70.0
headgate_events_received_total{role="frontend",slot="1"} 1.4e+02
# TYPE headgate_events_total counter
headgate_events_total{role="frontend",slot="0",outcome="accepted"} 60.0
headgate_events_total{role="frontend",slot="1",outcome="accepted"} 139.0
headgate_events_total{role="frontend",slot="0",outcome="duplicate"} 10.0
# TYPE headgate_log_records_total counter
headgate_log_records_total{role="publisher",slot="0",durability="kafka"} 150.0
headgate_log_records_total{role="publisher",slot="0",durability="local"} 49.0
# TYPE headgate_ready gauge
headgate_ready 1.0
"""


def row(requests: int) -> Row:
    return Row("POST /v1/*", {"2xx": requests}, 0.001, 0.002, 0.003, 0.004)


class TestJudgement:
    def test_counts_over_all_processes(self) -> None:
        found = counts(EXPOSITION)
        assert found == Counts(210, {"accepted": 199, "duplicate": 10}, {"kafka": 150, "local": 49})
        assert found.in_work == 1
        assert found.since(Counts(10, {"accepted": 9}, {"kafka": 50})) == Counts(
            200, {"accepted": 190, "duplicate": 10}, {"kafka": 100, "local": 49}
        )

    def test_a_good_run(self) -> None:
        load = Load(1.0, (row(100),), 100, 0)
        assert judge(load, Counts(100, {"accepted": 98, "duplicate": 2}, {"local": 98})) == []

    @pytest.mark.parametrize(
        ("events", "said"),
        [
            (Counts(100, {"accepted": 99}, {"local": 99}), "conservation law"),
            (Counts(100, {"accepted": 101}, {"local": 101}), "conservation law"),
            (Counts(99, {"accepted": 99}, {"local": 99}), "100 answers"),
            (Counts(103, {"accepted": 103}, {"local": 103}), "100 answers"),
            (Counts(100, {"accepted": 100}, {"local": 99}), "99 records are durable"),
        ],
    )
    def test_what_does_not_add_up_is_said(self, events: Counts, said: str) -> None:
        wrong = judge(Load(1.0, (row(100),), 100, 2), events)
        assert len(wrong) == 1
        assert said in wrong[0]

    def test_requests_without_an_answer_may_have_arrived_or_not(self) -> None:
        load = Load(1.0, (row(100),), 100, 2)
        for arrived in (100, 101, 102):
            assert judge(load, Counts(arrived, {"accepted": arrived}, {"local": arrived})) == []

    def test_faults_are_wrong(self) -> None:
        load = Load(1.0, (row(1),), 1, 0, {"a _dfid that was sent was set anew": 3})
        assert judge(load, Counts(1, {"accepted": 1}, {"local": 1})) == [
            "3 × a _dfid that was sent was set anew"
        ]

    def test_failed_are_all_but_2xx(self) -> None:
        answers = Row("POST /v1/t", {"200": 5, "429": 2, "no answer": 1}, 0, 0, 0, 0)
        preflights = Row("OPTIONS preflight", {"204": 3}, 0, 0, 0, 0)
        load = Load(1.0, (answers, preflights), 7, 1)
        assert (load.requests, load.failed) == (11, 3)


def test_ratio_is_of_the_least_and_names_its_spread() -> None:
    def one(who: str, cpu_s: float) -> Round:
        return Round(who, Load(1.0, (row(1000),), 1000, 0), cpu_s)

    rounds = [
        one("unit", 0.02),
        one("it", 0.08),
        one("unit", 0.01),
        one("it", 0.03),
        one("unit", 0.04),
        one("it", 0.04),
    ]
    assert ratios(rounds, "it", "unit") == pytest.approx((3.0, 1.0, 4.0))
    assert ratios(rounds, "unit", "unit") == pytest.approx((1.0, 1.0, 1.0))
    assert ratios([], "it", "unit") == (0.0, 0.0, 0.0)


class TestArguments:
    def test_defaults(self) -> None:
        todo = plan(arguments([]))
        assert todo.generator == Locust(users=100, processes=1, think_s=0.3, seed=1)
        assert todo.overrides == {"HEADGATE_MODE": "development"}

    def test_everything(self) -> None:
        todo = plan(
            arguments(
                [
                    "--compare",
                    "--frontends",
                    "1",
                    "--publishers",
                    "2",
                    "--users",
                    "64",
                    "--kafka",
                    "k:9092",
                    "--mode",
                    "production",
                ]
            )
        )
        assert todo.generator == Wrk(connections=64, threads=1, seed=1)
        assert todo.overrides == {
            "HEADGATE_MODE": "production",
            "HEADGATE_FRONTEND__COUNT": "1",
            "HEADGATE_PUBLISHER__COUNT": "2",
            "HEADGATE_KAFKA__BROKERS": "k:9092",
        }

    @pytest.mark.parametrize(
        "line",
        [
            "--seconds 0",
            "--seconds nan",
            "--users 0",
            "--rounds 1000",
            "--think -1",
            "--kafka a:1 --mock-kafka",
        ],
    )
    def test_what_can_not_be_is_refused(self, line: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            arguments(line.split())
        assert ended.value.code == 2
        assert line.split(maxsplit=1)[0] in capsys.readouterr().err


def test_prepared_requests_for_wrk() -> None:
    sources = [Source(f"src_{n}", f"dk_{n}", f"https://shop-{n}.example") for n in range(3)]
    made = lines(sources, 1, 300)
    assert made == lines(sources, 1, 300)
    assert made != lines(sources, 2, 300)
    for line in made:
        path, key, origin, agent, cookies, body = line.removesuffix("\n").split("\t")
        assert json.loads(body)["messageId"] == MARK
        assert TYPES[path.removeprefix("/v1/")] == json.loads(body)["type"]
        assert origin == f"https://shop-{key.removeprefix('dk_')}.example"
        assert agent.startswith("Mozilla/5.0")
        assert cookies.startswith("_dfid=")
    assert {line.split("\t")[1] for line in made} == {"dk_0", "dk_1", "dk_2"}
    assert f'MARK = "{MARK}"' in (ROOT / "bench/wrk.lua").read_text("utf-8")


def until(true: Callable[[], bool], limit_s: float = 10.0) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SLEEPER = """
import json, signal, subprocess
print(json.dumps({"below": subprocess.Popen(["sleep", "600"]).pid}), flush=True)
signal.pause()
"""


class TestChildren:
    def test_noop_answers_and_stops(self, tmp_path: Path) -> None:
        with Child("noop", [sys.executable, "-m", "bench.noop"], tmp_path, answers=True) as noop:
            request = urllib.request.Request(f"{noop.answer()['noop']}/v1/t", data=b'{"a":1}', method="POST")
            for _ in range(3):
                with urllib.request.urlopen(request, timeout=10) as answer:
                    assert answer.read() == b'{"success":true}'
                    assert answer.headers["content-type"] == "application/json"
        assert not noop.running()
        assert noop.wait(1) == 0, "TERM is its way to end"

    def test_its_whole_group_ends(self, tmp_path: Path) -> None:
        with Child("sleeper", [sys.executable, "-c", SLEEPER], tmp_path, answers=True) as sleeper:
            below = int(sleeper.answer()["below"])
            assert alive(below)
        assert until(lambda: not alive(below))

    def test_one_that_does_not_start_is_told_with_its_log(self, tmp_path: Path) -> None:
        code = "import sys; sys.exit('no such port')"
        with (
            Child("broken", [sys.executable, "-c", code], tmp_path, answers=True) as broken,
            pytest.raises(BenchError, match=r"broken did not start:\nno such port"),
        ):
            broken.answer()

    def test_children_end_when_the_bench_is_killed(self, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\nfrom bench.children import Child\n"
            f"child = Child('sleep', ['sleep', '600'], Path({str(tmp_path)!r}))\n"
            "print(child.pid, flush=True)\nsys.stdin.read()"
        )
        bench = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert bench.stdout is not None
        assert bench.stdin is not None
        child = int(bench.stdout.readline())
        assert until(lambda: "sleep" in Path(f"/proc/{child}/comm").read_text("utf-8")), (
            "it has got to its exec"
        )
        os.kill(bench.pid, signal.SIGKILL)
        bench.wait()
        bench.stdin.close()
        bench.stdout.close()
        assert until(lambda: not alive(child))


class TestBatch:
    """What `bench.batch` makes of its turns, and what it sends."""

    def turn(self, way: str, events: int, frontend_s: float, embedded_s: float = 0.0) -> batch.Turn:
        cpu_s = {"frontend": frontend_s, "publisher": 0.5, "supervisor": 0.0, "embedded": embedded_s}
        return batch.Turn(way, events, events, 2.0, cpu_s)

    def test_cost_and_rate_of_a_turn(self) -> None:
        turn = self.turn(batch.SERVERS, 10_000, 1.5, 3.0)
        assert turn.cpu_us_per_event(OWN_ROLES) == pytest.approx(200.0)
        assert turn.cpu_us_per_event(("frontend",)) == pytest.approx(150.0)
        assert turn.cpu_us_per_event() == pytest.approx(500.0)
        assert turn.events_per_s == 5000.0
        nothing = batch.Turn(batch.SERVERS, 0, 0, 0.0, {})
        assert (nothing.cpu_us_per_event(), nothing.events_per_s) == (0.0, 0.0)

    def test_the_least_of_each_way_is_compared(self) -> None:
        turns = [
            self.turn(batch.SERVERS, 10_000, 1.5),
            self.turn(batch.BATCHES, 100_000, 2.0),
            self.turn(batch.SERVERS, 10_000, 9.0),
            self.turn(batch.BATCHES, 100_000, 1.5),
            self.turn(batch.BATCHES, 0, 7.0),
        ]
        assert batch.times_less(turns, batch.BATCHES, batch.SERVERS, OWN_ROLES) == pytest.approx(10.0)
        assert batch.times_less(turns, batch.BATCHES, batch.BROWSERS, OWN_ROLES) == 0.0
        assert batch.times_less([], batch.BATCHES, batch.SERVERS) == 0.0
        assert batch.figures(turns)["times_less"] == {batch.SERVERS: pytest.approx(10.0), batch.BROWSERS: 0.0}

    def test_requests_are_counted_as_the_events_in_them(self) -> None:
        good = Counts(1500, {"accepted": 1500}, {})
        assert batch.judge("w", 2, 1, 0, good, 500) == []
        assert batch.judge("w", 3, 0, 0, good, 500) == []
        assert len(batch.judge("w", 4, 0, 0, good, 500)) == 1
        assert len(batch.judge("w", 1, 1, 0, good, 500)) == 1
        assert len(batch.judge("w", 3, 0, 2, good, 500)) == 1
        assert len(batch.judge("w", 3, 0, 0, Counts(1500, {"accepted": 1499, "duplicate": 1}, {}), 500)) == 1
        assert len(batch.judge("w", 3, 0, 0, Counts(1500, {"accepted": 1000}, {}), 500)) == 2

    @pytest.mark.parametrize("whose", batch.EVENTS_OF)
    def test_every_way_sends_the_same_events(self, whose: str, tmp_path: Path) -> None:
        events = batch.bodies(whose, 1, 25)
        assert events == batch.bodies(whose, 1, 25)
        paths = batch.prepare(tmp_path, "dk_1", events, 10)
        sent = {
            way: [line.split("\t") for line in path.read_text().splitlines()] for way, path in paths.items()
        }
        assert {parts[1] for requests in sent.values() for parts in requests} == {"dk_1"}
        for way, letters in (
            (batch.SERVERS, {kind: kind for kind in TYPES.values()}),
            (batch.BROWSERS, batch.LETTERS),
        ):
            assert [parts[2] for parts in sent[way]] == [body for _, body in events]
            assert [parts[0] for parts in sent[way]] == [f"/v1/{letters[kind]}" for kind, _ in events]
        bodies = [json.loads(parts[2])["batch"] for parts in sent[batch.BATCHES]]
        assert [len(one) for one in bodies] == [10, 10]
        assert bodies[0] + bodies[1] == [json.loads(body) for _, body in events[:20]]
        for kind, body in events:
            assert body.count(MARK) == 1
            checked = datafly.decode_server(body.encode())
            assert (checked.type, checked.messageId) == (kind, MARK)

    def test_arguments_are_bounded(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert batch.arguments([]).items == batch.ITEMS_MAX
        with pytest.raises(SystemExit):
            batch.arguments(["--items", "501"])
        assert "--items must be between 1 and 500" in capsys.readouterr().err
