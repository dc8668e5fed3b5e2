"""The chaos run's parts without the run: its schedule follows from the seed, its figures are right, and it can fail."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from daemon.errors import UsageError
from tests.chaos.faults import PLAYS, Played
from tests.chaos.figures import figures_of
from tests.chaos.ledger import Acked, Attempt, Ledger
from tests.chaos.proofs import common
from tests.chaos.reconcile import Books
from tests.chaos.report import Check, Run, checks_of, write
from tests.chaos.schedule import ALL, Fault, schedule
from tests.chaos.stage import Sample

# --- the schedule


def test_the_seed_gives_the_schedule() -> None:
    assert schedule(7, 600, 200) == schedule(7, 600, 200)
    assert schedule(7, 600, 200) != schedule(8, 600, 200)


@pytest.mark.parametrize("seed", range(20))
def test_a_long_schedule_has_all_kinds_within_its_time_and_no_two_in_one_area(seed: int) -> None:
    planned = schedule(seed, 600, 200)
    assert len(planned) == 200
    assert {one.kind for one in planned} == {kind.name for kind in ALL} == set(PLAYS)
    assert [one.number for one in planned] == list(range(1, 201))
    assert all(one.at_s > 30 and one.at_s + one.seconds < 570 for one in planned)
    for area in {one.area for one in planned}:
        ours = [one for one in planned if one.area == area]
        for one, after in itertools.pairwise(ours):
            assert one.at_s + one.seconds <= after.at_s
    away = [one for one in planned if one.area == "kafka"]
    assert sum(one.alone for one in away) >= 5, "its availability is judged by these"
    assert sum(not one.alone for one in away) >= 5


def test_what_the_machine_lacks_is_left_out() -> None:
    kinds = {one.kind for one in schedule(7, 600, 200, has=())}
    assert "disk full" not in kinds
    assert "kill processor" not in kinds
    assert "kill publisher" in kinds


def test_only_some_kinds() -> None:
    assert {one.kind for one in schedule(1, 90, 10, only=("roll", "kafka killed"))} == {
        "roll",
        "kafka killed",
    }
    assert {one.kind for one in schedule(1, 60, 5, only=("kafka killed",))} == {"kafka killed"}
    with pytest.raises(UsageError, match="there is no fault 'earthquake'"):
        schedule(1, 60, 5, only=("earthquake",))


def test_too_many_faults_for_the_time_are_refused() -> None:
    with pytest.raises(UsageError, match="200 faults do not fit into 60 s"):
        schedule(7, 60, 200)


# --- the figures


def played(kind: str, area: str, began_at: float, ended_at: float, recovered_at: float) -> Played:
    fault = Fault(1, kind, area, began_at, ended_at - began_at, 0, alone=True)
    return Played(fault, began_at, ended_at, recovered_at)


def attempt(sent_at: float, seconds: float = 0.01, status: int = 200, why: str = "") -> Attempt:
    return Attempt("t", sent_at, sent_at + seconds, status, ok=status == 200, first=True, events=1, why=why)


def test_requests_count_for_what_was_broken_while_they_were_on_their_way() -> None:
    ledger = Ledger()
    ledger.attempts = [
        attempt(1.0),
        attempt(9.5, 2.0),  # into the outage
        attempt(12.0, 0.5, 503, "full of 17 events"),
        attempt(14.0, 0.1, 0, "closed without an answer"),
        attempt(19.9, 0.05),  # Kafka is not back yet
        attempt(20.5),  # shortly after
        attempt(30.0, 0.3),
        attempt(41.0),
    ]
    figures = figures_of(
        ledger,
        [
            played("kafka killed", "kafka", 10.0, 18.0, 20.0),
            played("kill frontend", "frontend", 13.9, 13.9, 14.5),
            played("roll", "roll", 40.0, 42.0, 42.0),
        ],
    )
    assert (figures.overall.requests, figures.overall.good) == (8, 6)
    assert figures.quiet.requests == 2
    assert figures.quiet.p99_s == pytest.approx(0.3)
    # Without the one that a dying frontend took along, and the second after it.
    assert (figures.kafka_away.requests, figures.kafka_away.good) == (3, 2)
    assert figures.kafka_away.availability == pytest.approx(2 / 3)
    assert figures.by_kind["kafka killed"].requests == 4
    assert figures.by_kind["roll"].requests == 1
    assert figures.by_kind_alone["kafka killed"].requests == 3
    assert figures.by_kind_alone["kill frontend"].requests == 0
    assert figures.refusals == {"503 full of … events": 1}
    assert figures.no_answer == {"closed without an answer": 1}


# --- the verdict


def good_run() -> Run:
    ledger = Ledger()
    for number in range(100):
        name = f"id-{number}"
        ledger.sends([name], "t")
        ledger.attempts.append(attempt(float(number)))
        ledger.acks([name], "t", float(number), "kafka")
    faults = [
        played("kafka killed", "kafka", 20.0, 30.0, 32.0),
        played("roll", "roll", 50.0, 52.0, 52.0),
    ]
    return Run(
        seed=7,
        seconds=100.0,
        per_s=1.0,
        began_at=0.0,
        command="make chaos",
        settings={"A": "1"},
        has=["root"],
        ledger=ledger,
        played=faults,
        samples=[Sample(float(n), float(n % 7), 0, 1 << 27) for n in range(100)],
        books=Books(records=101, ours=100, on_log=set(ledger.sent), stored=100, distinct=100),
        figures=figures_of(ledger, faults),
        in_work=0,
        overdrawn=0,
        left_processes=0,
        exit_code=0,
        asked_faults=2,
    )


def test_a_good_run_is_called_good_and_told(tmp_path: Path) -> None:
    assert write(good_run(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Chaos: nothing lost")
    assert "| Kafka alone was away | 13 | 100.000% |" in text
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["ok"]
    assert document["ids"]["lost"] == []
    assert document["faults"][0]["kind"] == "kafka killed"
    picture = ElementTree.fromstring((tmp_path / "timeline.svg").read_text())
    assert len(picture.findall(".//{*}title")) == 2, "one for each fault"


def lose(run: Run) -> None:
    run.books.on_log.discard("id-3")


def leave_on_the_spool(run: Run) -> None:
    run.books.on_log.discard("id-3")
    run.books.on_spool.add("id-3")


def invent(run: Run) -> None:
    run.books.on_log.add("id-none")


def tear(run: Run) -> None:
    run.books.torn.append("id-3")


def give_up(run: Run) -> None:
    run.ledger.given_up.add("id-3")


def answer_500(run: Run) -> None:
    run.ledger.attempts.append(attempt(5.0, status=500))


def refuse_without_kafka(run: Run) -> None:
    run.ledger.attempts.append(attempt(25.0, status=503))
    run.figures = figures_of(run.ledger, run.played)


def leave_in_work(run: Run) -> None:
    run.in_work = 1


def overdraw(run: Run) -> None:
    run.overdrawn = 1


def play_too_few(run: Run) -> None:
    run.asked_faults = 3


def not_recover(run: Run) -> None:
    run.played[0].failed = "never well again"


def leave_a_process(run: Run) -> None:
    run.left_processes = 1


def store_twice(run: Run) -> None:
    run.books.stored = 101


def store_too_little(run: Run) -> None:
    run.books.stored = 99


SPOILED: list[Callable[[Run], None]] = [
    lose,
    leave_on_the_spool,
    invent,
    tear,
    give_up,
    answer_500,
    refuse_without_kafka,
    leave_in_work,
    overdraw,
    play_too_few,
    not_recover,
    leave_a_process,
    store_twice,
    store_too_little,
]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda one: one.__name__)
def test_every_fault_of_the_product_spoils_the_verdict(spoil: Callable[[Run], None], tmp_path: Path) -> None:
    run = good_run()
    assert all(check.ok for check in checks_of(run))
    spoil(run)
    wrong = [check.what for check in checks_of(run) if not check.ok]
    assert 1 <= len(wrong) <= 2, wrong
    assert not write(run, tmp_path)
    assert "NOT AS IT HAS TO BE" in (tmp_path / "report.md").read_text()


def test_what_was_acknowledged_first_counts() -> None:
    ledger = Ledger()
    ledger.acks(["a"], "t", 1.0, "local")
    ledger.acks(["a"], "t", 2.0, "kafka")
    assert ledger.acked == {"a": Acked("t", 1.0, "local")}


def test_a_proof_tells_its_verdict_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    good, bad = Check("lost", "0", "0", ok=True), Check("failed", "0", "3", ok=False)
    assert common.told("rolls", "python …", [good], {"requests": 7}) == 0
    assert "as it has to be" in capsys.readouterr().out
    assert common.told("rolls", "python …", [good, bad], {}) == 1
    assert "NO  failed: 3 (has to be 0)" in capsys.readouterr().out
    kept = json.loads((tmp_path / ".cache/chaos/rolls.json").read_text())
    assert (kept["ok"], len(kept["checks"])) == (False, 2)
