"""The bench of ResultFly sends what it says."""

from __future__ import annotations

import pytest

from bench import cdp
from bench.generators import MARK
from daemon.events import datafly, resultfly
from daemon.events.contract.definition import contract_of
from daemon.events.contract.validator import Validator


def test_every_way_sends_the_same_good_events() -> None:
    made = cdp.bodies(1, 200)
    contracts = {name: Validator(name, contract_of(contract)) for name, contract in cdp.CONTRACTS.items()}
    assert {len(found) for found in made.values()} == {200}
    for (path, server), *ways in zip(*made.values(), strict=True):
        event = datafly.decode_server(server.encode())
        assert (path, event.messageId) == ("/v1/track", MARK)
        for cdp_path, body in ways:
            other = resultfly.decode(body.encode())
            resultfly.check_contract(other, contracts)
            assert (cdp_path, other.externalEventId) == ("/v1/cdp/events", MARK)
            assert bytes(other.properties) == bytes(event.properties)
            assert resultfly.identifiers(other, "")[0].value == event.userId
    assert [resultfly.decode(made[way][0][1].encode()).eventType for way in (cdp.OPEN, cdp.GOVERNED)] == [
        "anything",
        "product_seen",
    ]


def test_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdp, "TIMES", 10)
    monkeypatch.setattr(cdp, "REPEATS", 1)
    timed = cdp.steps(1)
    assert {"ResultFly: contract", "Datafly: decode and check"} <= timed.keys()
    assert min(timed.values()) > 0


@pytest.mark.parametrize("argument", ["--seconds=0", "--rounds=0", "--connections=2000", "--frontends=-1"])
def test_bounds(argument: str) -> None:
    with pytest.raises(SystemExit):
        cdp.arguments([argument])
