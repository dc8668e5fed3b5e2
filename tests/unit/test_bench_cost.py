"""`make bench-cost` sends what it says, counts right, and draws what it counted."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.cost import figures, limits, pictures, scaling
from bench.cost.__main__ import arguments
from bench.cost.requests import CONTRACTS, KEY_MARK, SCENARIOS, Access, Given, Scenario, body, write
from bench.cost.turns import Turn
from bench.generators import MARK
from bench.instance import Source
from daemon.events import datafly, resultfly, tracklayer
from daemon.events.contract.definition import contract_of
from daemon.events.contract.validator import Validator
from daemon.events.signatures import check_datafly

SOURCE = Source("src_1", "dk_test_" + "a" * 32, "https://shop-0.example", "sk_" + "b" * 32)
ACCESS = Access([SOURCE], "cdp_test_" + "c" * 32, str(uuid.UUID(int=5)), "tl_test_" + "d" * 32)
GIVEN = Given(ACCESS, 0.01, 7)


def parsed(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, data = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), data


def taken(scenario: str, data: bytes) -> None:
    """As the product takes it."""
    match scenario:
        case "cdp":
            contracts = {name: Validator(name, contract_of(one)) for name, one in CONTRACTS.items()}
            event = resultfly.decode(data)
            assert resultfly.identifiers(event, "")
            resultfly.check_contract(event, contracts)
        case "tracklayer":
            assert tracklayer.decode(data).merchant_id == ACCESS.merchant_id
        case _:
            datafly.decode_server(data)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_requests_are_whole_and_of_their_size(scenario: Scenario) -> None:
    made = list(scenario.make(GIVEN, random.Random(1)))
    assert len(made) >= 20
    for request in made[:30]:
        first, headers, data = parsed(request)
        if first.startswith("GET"):
            assert data == b""
            assert MARK in first
            continue
        assert int(headers["Content-Length"]) == len(data)
        decoded = json.loads(data)
        events = decoded.get("batch", [decoded])
        assert len(events) == scenario.events
        wanted = 4096 if "4-kb" in scenario.name else 450
        for event in events:
            size = len(json.dumps(event, separators=(",", ":")))
            assert wanted - 5 <= size <= wanted + 30, "as the row says"
            taken(scenario.name, json.dumps(event).encode())
        assert (MARK in data.decode()) == (scenario.name not in ("no-id", "hmac"))
        assert (KEY_MARK in headers.get("Authorization", "")) == bool(scenario.keys)


def test_signatures_are_good_and_no_id_comes_twice() -> None:
    (scenario,) = [one for one in SCENARIOS if one.name == "hmac"]
    assert scenario.fresh
    seen = set()
    for request in scenario.make(GIVEN, random.Random(1)):
        _, headers, data = parsed(request)
        now_ms = int(headers["X-Timestamp"])
        check_datafly(SOURCE.secret.encode(), headers["X-Signature"], headers["X-Timestamp"], data, now_ms)
        seen.add(json.loads(data)["messageId"])
    other = [parsed(one)[2] for one in scenario.make(Given(ACCESS, 0.01, 8), random.Random(1))]
    assert len(seen) == 200
    assert not seen & {json.loads(data)["messageId"] for data in other}


def test_the_file_is_read_back_by_lengths(tmp_path: Path) -> None:
    scenario = SCENARIOS[0]
    write(scenario, GIVEN, tmp_path / "x")
    data, found = (tmp_path / "x").read_bytes(), []
    while data:
        length, _, rest = data.partition(b"\n")
        found.append(rest[: int(length)])
        assert rest[int(length) : int(length) + 1] == b"\n"
        data = rest[int(length) + 1 :]
    assert found == list(scenario.make(GIVEN, random.Random(scenario.name)))


def test_bodies_vary_but_not_in_size() -> None:
    rng = random.Random(1)
    assert len({body(rng, 450) for _ in range(50)}) == 50
    assert {len(body(rng, 1000)) for _ in range(50)} == {1000}


def turn(scenario: str, number: int, events: int, cpu_s: dict[str, float], requests: int = 0) -> Turn:
    counters = {"redis_trips": 5.0, "frames": 2.0, "frame_records": 40.0, "ticks": 4.0, "tick_events": 44.0}
    return Turn(
        scenario, number, events, requests or events, 2.0, 0.001, 0.004, cpu_s, {"frontend": 2**20, "noop": 2**21}, counters
    )  # fmt: skip


def test_rows() -> None:
    turns = [
        turn("single", 1, 1000, {"frontend": 0.04, "publisher": 0.01, "embedded": 9.0}),
        turn("single", 2, 1000, {"frontend": 0.05, "publisher": 0.02, "embedded": 9.0}),
    ]
    noops = [turn("noop", 1, 1000, {"noop": 0.02}), turn("noop", 2, 1000, {"noop": 0.025})]
    row = figures.row("single", "what", turns, noops)
    assert row["cpu_us"]["least"] == pytest.approx(50)
    assert row["ratio"] == pytest.approx(2.5), "the least of each; the stores are elsewhere"
    assert row["ratio_pairs"]["least"] == pytest.approx(2.5)
    assert row["ratio_pairs"]["most"] == pytest.approx(2.8)
    assert row["cpu_us_by_role"]["frontend"] == pytest.approx(40), "of the least turn"
    assert row["redis_trips_per_1000_requests"] == pytest.approx(5)
    assert (row["events_per_frame"], row["events_per_tick"]) == (20, 11)
    assert row["requests_per_s"]["median"] == pytest.approx(500)
    unit = figures.unit(noops)
    assert unit["cpu_us"]["least"] == pytest.approx(20)


def test_pictures_show_the_figures() -> None:
    turns = [turn("single", 1, 1000, {"frontend": 0.04, "publisher": 0.01})]
    noops = [turn("noop", 1, 1000, {"noop": 0.02})]
    rows = [figures.row(name, "a < b", turns, noops) for name in ("single", "batch-100")]
    scaling = {
        "keys": {"title": "t", "axis": "keys", "rows": [{"at": "1", **rows[0]}, {"at": "10", **rows[0]}]}
    }
    drawn = pictures.draw({"parts": {"mock": {"rows": rows}, "kafka": None}, "scaling": scaling})
    assert set(drawn) == {"mock-single.svg", "mock-batch.svg", "scaling-keys.svg"}
    for text in drawn.values():
        texts = [one.text for one in ET.fromstring(text).iter() if one.text]
        assert "2.50" in texts


def test_arguments_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments([]).rounds == 3
    for bad in (["--rounds", "0"], ["--scenario", "nothing"], ["--seconds", "9999"]):
        with pytest.raises(SystemExit) as ended:
            arguments(bad)
        assert ended.value.code == 2
    assert "must be between" in capsys.readouterr().err


def test_the_law_is_looked_at_over_every_window() -> None:
    # 2 per second and a burst of 3: sent and answered at the same moment
    steady = [(float(n) / 2, float(n) / 2) for n in range(20)]
    assert limits.over(steady, 2.0, 3) <= 0
    assert limits.over([(0.0, 0.0)] * 3, 2.0, 3) == 0
    assert limits.over([(0.0, 0.0)] * 4, 2.0, 3) == 1
    late = [*steady, (5.0, 5.0), (5.0, 5.0), (5.0, 5.0)]
    assert limits.over(late, 2.0, 3) > 0, "a burst in the middle, on top of a steady rate"
    # an answer that came late leaves room for what it was granted by
    assert limits.over([(0.0, 0.0)] * 3 + [(0.0, 0.5)], 2.0, 3) <= 0


def test_under_is_what_was_allowed_and_not_given() -> None:
    grants = {key: [(0.0, 0.0)] * 9 for key in range(10)}
    assert limits.under(limits.Asked(grants, 200, 110, 4.0), 10, 2.0, 2) == pytest.approx(0.1)


def test_axes_change_one_thing_each() -> None:
    names = [point.scenario.name for axis in scaling.AXES for group in axis.groups for point in group.points]
    assert len(names) == 15
    for axis in scaling.AXES:
        for group in axis.groups:
            for point in group.points:
                assert next(iter(point.scenario.make(GIVEN, random.Random(1)))).startswith(b"POST /v1/t ")
