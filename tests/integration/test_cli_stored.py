"""`headgate events` and `headgate profiles` as processes, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.adapters.postgres.profiles.lookup import candidates
from daemon.errors import NotFound, StoreUnavailable, UsageError
from tests.fixtures.loops import run
from tests.support.command import Command
from tests.support.processing import cdp, envelope, event_store, events, rows

HISTORY = [
    cdp(1, {"EMAIL": "jane@example.com"}),
    cdp(2, {"PHONE": "+4930123456"}),
    cdp(3, {"EXTERNAL": "u1", "EMAIL": "jane@example.com"}),
    cdp(4, {"EXTERNAL": "u1", "PHONE": "+4930123456", "DEVICE_KEY": "Dev"}),
    cdp(5, {"EXTERNAL": "u2", "EMAIL": "jane@example.com"}),
    cdp(6, {"DEVICE_KEY": "u1"}),
    envelope(7),
    envelope(8, tenant="other"),
]


@pytest.fixture
def headgate(postgres_dsn: str, tmp_path: Path) -> Command:
    return Command(
        HEADGATE_POSTGRES__DSN=postgres_dsn,
        HEADGATE_REDIS__URL="unix:///nowhere",
        HEADGATE_DATA_DIR=str(tmp_path),
        HEADGATE_RESULTFLY__DEFAULT_REGION="DE",
    )


def stored(dsn: str) -> dict[str, str]:
    """Store the history; the profiles of the events at that time, by id."""

    async def go() -> dict[str, str]:
        async with event_store(dsn) as store:
            await store.store(events(HISTORY))
            return {name: str(profile) for name, profile in await rows(store, "id, profile_id")}

    return run(go())


def test_an_empty_database(headgate: Command) -> None:
    """The schema is made by the command itself; Redis is not needed."""
    assert headgate.json("events", "count") == {"count": 0}
    assert "has no profiles" in headgate.error(
        "profiles", "show", "x", "--tenant", "acme", code=NotFound.exit_code
    )


def test_counting_and_showing(headgate: Command, postgres_dsn: str) -> None:
    own = stored(postgres_dsn)
    assert headgate.json("events", "count") == {"count": 8}
    assert headgate.json("events", "count", "--tenant", "acme") == {"count": 7}
    assert headgate("events", "count", "--tenant", "nobody").stdout == "0\n"

    def show(text: str) -> object:
        return headgate.json("profiles", "show", text, "--tenant", "acme")

    jane = own["evt_1"]
    expected = {
        "profile_id": jane,
        "tenant": "acme",
        "identifiers": [
            {"type": "EXTERNAL", "value": "u1"},
            {"type": "EMAIL", "value": "jane@example.com"},
            {"type": "PHONE", "value": "+4930123456"},
            {"type": "DEVICE_KEY", "value": "Dev"},
        ],
        "merges": [{"from": own["evt_2"], "into": jane, "cause": "EXTERNAL and PHONE in event evt_4"}],
        "conflicts": [],
    }
    # As it is, as people write it, by its id, by that of a profile that is no more; the better kind first.
    for text in (
        "u1",
        " Jane@Example.COM",
        "030 123456",
        "Dev",
        jane,
        jane.replace("-", "").upper(),
        own["evt_2"],
    ):
        assert show(text) == expected, text
    assert show(own["evt_6"]) == {
        "profile_id": own["evt_6"],
        "tenant": "acme",
        "identifiers": [{"type": "DEVICE_KEY", "value": "u1"}],
        "merges": [],
        "conflicts": [],
    }
    other = headgate.json("profiles", "show", "u2", "--tenant", "acme")
    assert other["conflicts"] == [
        {"type": "EMAIL", "value": "jane@example.com", "kept_by": jane, "events": 1}
    ]

    text = headgate("profiles", "show", "u1", "--tenant", "acme").stdout
    for word in (jane, "jane@example.com", own["evt_2"], "EXTERNAL and PHONE in event evt_4"):
        assert word in text
    assert "STAYS WITH" in headgate("profiles", "show", "u2", "--tenant", "acme").stdout


def test_what_is_not_there_and_what_is_no_text(headgate: Command, postgres_dsn: str) -> None:
    stored(postgres_dsn)
    missing = NotFound.exit_code
    for text in ("nobody", "dev", "x1", "00000000-0000-0000-0000-000000000000", "", "'; DROP TABLE profiles"):
        assert "no profile" in headgate.error("profiles", "show", text, "--tenant", "acme", code=missing)
    assert "+4930999999" in headgate.error("profiles", "show", "030 999999", "--tenant", "acme", code=missing)
    assert "has no profiles" in headgate.error("profiles", "show", "u1", "--tenant", "other", code=missing)
    wrong = UsageError.exit_code
    assert "UTF-8" in headgate.error("profiles", "show", "\udcff", "--tenant", "acme", code=wrong)
    assert "UTF-8" in headgate.error("events", "count", "--tenant", "\udcff", code=wrong)
    assert "--tenant" in headgate.error("profiles", "show", "u1", code=wrong)
    away = headgate.with_(HEADGATE_POSTGRES__DSN="postgresql://x@127.0.0.1:1/x")
    away.error("events", "count", code=StoreUnavailable.exit_code)


def test_candidates() -> None:
    assert [tuple(one) for one in candidates("A@x", "")] == [
        ("EXTERNAL", "A@x"),
        ("EMAIL", "A@x"),
        ("PHONE", "A@x"),
        ("DEVICE_KEY", "A@x"),
        ("EMAIL", "a@x"),
    ]
    assert ("PHONE", "+4930123456") in candidates("030/123 456", "DE")
    assert candidates("", "DE") == []
