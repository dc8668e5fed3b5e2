"""The law of conservation: received − Σ outcomes is what is in flight, whatever dies, and whenever."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client.parser import text_string_to_metric_families

from daemon.actors.messages import Family, Sample
from daemon.actors.snapshot import families
from daemon.events.outcome import Outcome
from daemon.observe.catalog import IngestMetrics
from daemon.observe.metrics import Gauge, Instruments
from daemon.supervisor.scrape import Ledger


class Frontend:
    """Counts as a frontend does."""

    def __init__(self) -> None:
        self.metrics = IngestMetrics(Outcome)
        self.instruments = Instruments(self.metrics.instruments())
        self.in_flight = 0
        self.reported_in_flight = 0


class Counting(RuleBasedStateMachine):
    """Frontends of two slots receive, end, report and die."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.living: list[tuple[int, Frontend]] = []
        self.received_before = 0.0

    @precondition(lambda self: len(self.living) < 4)
    @rule(slot=st.integers(0, 1))
    def one_starts(self, slot: int) -> None:
        self.living.append((slot, Frontend()))

    @precondition(lambda self: self.living)
    @rule(data=st.data(), events=st.integers(1, 500))
    def receives(self, data: st.DataObject, events: int) -> None:
        _, frontend = data.draw(st.sampled_from(self.living))
        frontend.metrics.received.at().n += events
        frontend.in_flight += events

    @precondition(lambda self: any(one.in_flight for _, one in self.living))
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def ends_some(self, data: st.DataObject, outcome: Outcome) -> None:
        _, frontend = data.draw(st.sampled_from([one for one in self.living if one[1].in_flight]))
        ended = data.draw(st.integers(1, frontend.in_flight))
        frontend.metrics.outcomes.at(outcome).n += ended
        frontend.in_flight -= ended

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def reports(self, data: st.DataObject) -> None:
        slot, frontend = data.draw(st.sampled_from(self.living))
        self.ledger.report("frontend", slot, id(frontend), families(frontend.instruments))
        frontend.reported_in_flight = frontend.in_flight

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        slot, frontend = data.draw(st.sampled_from(self.living))
        self.living.remove((slot, frontend))
        self.ledger.gone("frontend", slot, id(frontend))

    @invariant()
    def nothing_is_lost_and_nothing_made_up(self) -> None:
        received = self.ledger.total("headgate_events_received")
        ended = self.ledger.total("headgate_events")
        assert received - ended == sum(frontend.reported_in_flight for _, frontend in self.living)
        assert received >= self.received_before, "a counter went back"
        self.received_before = received

    def teardown(self) -> None:
        for slot, frontend in self.living:
            self.ledger.gone("frontend", slot, id(frontend))
        assert self.ledger.total("headgate_events_received") == self.ledger.total("headgate_events")


TestCounting = Counting.TestCase
TestCounting.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)


def _values(text: bytes, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def _counter(value: float) -> list[Family]:
    return [
        Family(
            "headgate_things", "counter", "Things.", [Sample("headgate_things_total", {"kind": "a"}, value)]
        )
    ]


def _gauges(values: dict[str, float]) -> Iterable[Family]:
    gauges = []
    for name, value in values.items():
        gauge = Gauge(name, "A gauge.")
        gauge.at().n = value
        gauges.append(gauge)
    return families(Instruments(gauges))


def test_the_dead_leave_counters_but_no_gauges() -> None:
    ledger = Ledger()
    ledger.report("publisher", 0, 1, [*_counter(5), *_gauges({"headgate_queue_records": 9})])
    ledger.gone("publisher", 0, 1)
    ledger.report("publisher", 0, 2, _counter(3))
    place = (("kind", "a"), ("role", "publisher"), ("slot", "0"))
    assert _values(ledger.exposition(), "headgate_things_total") == {place: 8.0}
    assert _values(ledger.exposition(), "headgate_queue_records") == {}


def test_in_a_roll_amounts_add_up_and_states_are_the_younger_ones() -> None:
    ledger = Ledger()
    ledger.report("publisher", 0, 1, _gauges({"headgate_queue_records": 9, "headgate_store_up": 0}))
    ledger.report("publisher", 0, 2, _gauges({"headgate_queue_records": 2, "headgate_store_up": 1}))
    place = (("role", "publisher"), ("slot", "0"))
    assert _values(ledger.exposition(), "headgate_queue_records") == {place: 11.0}
    assert _values(ledger.exposition(), "headgate_store_up") == {place: 1.0}
    assert ledger.last("publisher", "headgate_store_up") == [1.0]


def test_histograms_of_old_and_new_processes_are_one() -> None:
    ledger = Ledger()
    for process in (1, 2):
        frontend = Frontend()
        frontend.metrics.requests.at("t").observe(0.004)
        ledger.report("frontend", 0, process, families(frontend.instruments))
    ledger.gone("frontend", 0, 1)
    counts = _values(ledger.exposition(), "headgate_request_seconds_count")
    assert counts[(("endpoint", "t"), ("role", "frontend"), ("slot", "0"))] == 2.0


def test_the_daemons_own_metrics_stand_without_role_and_slot() -> None:
    ledger = Ledger()
    ledger.report("frontend", 0, 1, _gauges({"headgate_process_open_files": 7}))
    text = ledger.exposition(list(_gauges({"headgate_ready": 1, "headgate_process_open_files": 3})))
    assert _values(text, "headgate_ready") == {(): 1.0}
    assert _values(text, "headgate_process_open_files") == {
        (("role", "supervisor"), ("slot", "0")): 3.0,
        (("role", "frontend"), ("slot", "0")): 7.0,
    }
    assert text.count(b"# TYPE headgate_process_open_files gauge") == 1
