"""Events in a real PostgreSQL: each exactly once, whatever is in them, whoever stores at the same time."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, date, datetime, timedelta

import pytest

from daemon.adapters.postgres.events.days import name_of
from daemon.adapters.postgres.events.reading import count_events
from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.events.tidy import DAYS_AHEAD, Tidier
from daemon.adapters.postgres.events.trouble import PositionMoved, RowsRefused
from daemon.config.schema import Processor
from daemon.errors import StoreUnavailable
from daemon.events.stored import Reason
from daemon.observe.catalog import ProcessorMetrics
from daemon.ports import Move, Position
from tests.support.people import Model
from tests.support.processing import (
    NOON,
    cdp,
    envelope,
    event_store,
    events,
    ids,
    one_number,
    pool_of,
    rows,
    running_pool,
)

DAY = timedelta(days=1)


async def test_a_batch_is_stored_and_its_copies_are_dropped(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        first = await store.store(events([envelope(1), envelope(2), envelope(1), cdp(3, {"EMAIL": "a@x"})]))
        assert (first.rows, first.copies) == (3, 1)
        # The same ids again, received at another time, beside a new one.
        later = [envelope(2, at=NOON + DAY), cdp(3, {"EMAIL": "a@x"}, at=NOON + 3 * DAY), envelope(4)]
        second = await store.store(events(later, NOON + 4 * DAY))
        assert (second.rows, second.copies) == (1, 2)
        assert await ids(store) == ["evt_1", "evt_2", "evt_3", "evt_4"]
        assert await count_events(pool_of(store), None) == 4
        assert await count_events(pool_of(store), "acme") == 4
        assert await count_events(pool_of(store), "other") == 0


async def test_what_a_row_holds(postgres_dsn: str) -> None:
    value = envelope(1, userId="u", anonymousId="a", messageId="m", at=NOON + timedelta(seconds=1))
    async with event_store(postgres_dsn) as store:
        await store.store(events([value], NOON + DAY))
        columns = "received_at, occurred_at, tenant, contract, channel, source, type, name, message_id, user_id, anonymous_id, profile_id, envelope"
        [row] = await rows(store, columns)
        at = NOON + timedelta(seconds=1)
        assert row[:2] == (at, at)
        assert row[2:8] == ("acme", "datafly", "server", "src_1", "track", "Order Completed")
        assert row[8:12] == ("m", "u", "a", None)
        assert row[12] == value
        [resolved] = await pool_of(store).fetch("SELECT envelope->>'messageId' FROM events_resolved")
        assert resolved[0] == "m"


@pytest.mark.parametrize(
    "odd",
    [
        '"x":"\\u0000","event":"a\\u0000b","messageId":"\\u0000"',
        '"x":1e999999,"y":-1e-999999,"z":123456789012345678901234567890.5',
        f'"x":{"[" * 255}{"]" * 255}',
        '"event":"' + "e" * 60_000 + '"',
        '"userId":"' + "ü😀" * 20_000 + '"',
        '"timestamp":"9999-12-31T23:59:59-14:00"',
        '"timestamp":"0001-01-01T00:00:00+14:00"',
        '"timestamp":"2016-12-31T23:59:60Z"',
        '"contract":"resultfly","identity":[{"type":"EXTERNAL","value":"' + "v" * 50_000 + '"}]',
        '"contract":"resultfly","identity":[{"type":"EXTERNAL","value":"a\\u0000b"},{"type":"NOPE","value":"x"}]',
    ],
    ids=["nul", "numbers", "deep", "long name", "long id", "late", "early", "leap", "long identifier", "nul identifier"],
)  # fmt: skip
async def test_what_was_accepted_can_be_stored(postgres_dsn: str, odd: str) -> None:
    value = (envelope(1).decode()[:-1] + "," + odd + "}").encode()
    json.loads(value)
    async with event_store(postgres_dsn) as store:
        assert (await store.store(events([value]))).rows == 1
        assert await rows(store, "envelope") == [(value,)]
        assert (await store.store(events([value]))).copies == 1


async def test_ids_of_resultfly_last_and_others_are_dated(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        await store.store(events([envelope(1), cdp(2, {"EMAIL": "a@x"})]))
        assert await one_number(store, "SELECT count(*) FROM event_ids") == 1
        assert await one_number(store, "SELECT count(*) FROM event_ids_lasting") == 1


async def test_processors_that_store_the_same_at_the_same_time(postgres_dsn: str) -> None:
    """Batches that overlap in every order: nobody deadlocks, every event is there once."""
    names = range(300)
    people = {number: {"EMAIL": f"{number % 7}@x", "DEVICE_KEY": f"d{number % 11}"} for number in names}
    values = {number: cdp(number, people[number]) if number % 3 else envelope(number) for number in names}
    async with event_store(postgres_dsn) as one, running_pool(postgres_dsn) as pool:
        stores = [one, EventStore(pool, "other"), EventStore(pool, "third")]

        async def work(store: EventStore, seed: int) -> int:
            shuffled = list(names)
            random.Random(seed).shuffle(shuffled)
            stored = 0
            for start in range(0, len(shuffled), 25):
                batch = [values[number] for number in shuffled[start : start + 25]]
                stored += (await store.store(events(batch))).rows
            return stored

        counts = await asyncio.gather(*(work(store, seed) for seed, store in enumerate(stores)))
        assert sum(counts) == len(names)
        assert await ids(one) == sorted(f"evt_{number}" for number in names)
        # Every identifier belongs to a profile that is there, and every merge happened once.
        assert await one_number(
            one,
            "SELECT count(*) FROM profile_identifiers i JOIN profiles p ON p.id = i.profile_id WHERE p.merged_into IS NOT NULL",
        ) == 0  # fmt: skip
        assert await one_number(one, "SELECT count(*) FROM profile_merges") == await one_number(
            one, "SELECT count(*) FROM profiles WHERE merged_into IS NOT NULL"
        )
        # Seven e-mails over eleven devices are all one person in the end.
        assert await one_number(one, "SELECT count(DISTINCT profile_id) FROM profile_identifiers") == 1


async def test_a_failed_batch_leaves_nothing(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        await pool_of(store).fetch(
            "ALTER TABLE events ADD CONSTRAINT no_five CHECK (id <> 'evt_5')",
        )
        batch = [cdp(4, {"EMAIL": "a@x"}), envelope(5)]
        with pytest.raises(RowsRefused, match="no_five"):
            await store.store(events(batch), [Move("l/publisher-0", None, 1, "")])
        assert await ids(store) == []
        for table in ("event_ids", "event_ids_lasting", "profiles", "profile_identifiers", "log_positions"):
            assert await one_number(store, f"SELECT count(*) FROM {table}") == 0
        assert (await store.store(events(batch[:1]))).rows == 1


async def test_the_server_itself_gives_up_waiting_for_a_lock(postgres_dsn: str) -> None:
    """A connection that only we had given up would go on waiting there, one more with each try."""
    async with event_store(postgres_dsn, timeout_s=2.0) as store, running_pool(postgres_dsn) as other:
        await store.store(events([envelope(1)]))
        async with other.transaction() as stranger:
            await stranger.execute("LOCK TABLE event_ids")
            with pytest.raises(StoreUnavailable, match="57014"):
                await store.store(events([envelope(2)]))
            waiting = await stranger.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            assert waiting == 0
        assert (await store.store(events([envelope(2)]))).rows == 1


@pytest.mark.parametrize(
    "harm", ["DROP TABLE profiles CASCADE", "ALTER TABLE event_ids_lasting RENAME TO elsewhere"]
)
async def test_a_missing_table_is_no_reason_to_give_events_up(postgres_dsn: str, harm: str) -> None:
    async with event_store(postgres_dsn) as store:
        await pool_of(store).fetch(harm)
        with pytest.raises(StoreUnavailable):
            await store.store(events([cdp(1, {"EMAIL": "a@x"})]))


async def test_positions_move_with_their_rows_and_only_from_where_they_are(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        await store.store(events([envelope(1)]), [Move("one/publisher-0", None, 7, "m")])
        await store.store([], [Move("one/publisher-0", 7, 9, "n"), Move("one/publisher-1", None, 1, "")])
        assert sorted(await store.positions("one/"), key=lambda one: one.log) == [
            Position("one/publisher-0", 9, "n"),
            Position("one/publisher-1", 1, ""),
        ]
        assert await store.positions("other/") == []
        for move in (Move("one/publisher-0", 7, 12, ""), Move("one/publisher-0", None, 12, "")):
            with pytest.raises(PositionMoved):
                await store.store(events([envelope(2)]), [move])
        assert await ids(store) == ["evt_1"]
        # Another group has positions of its own.
        assert await EventStore(pool_of(store), "another").positions("one/") == []


async def test_a_merge_is_followed_by_the_rows(postgres_dsn: str) -> None:
    history = [
        cdp(1, {"DEVICE_KEY": "d"}),
        cdp(2, {"EMAIL": "a@x"}),
        cdp(3, {"EXTERNAL": "u1"}),
        cdp(4, {"EMAIL": "a@x", "DEVICE_KEY": "d"}),
        cdp(5, {"EXTERNAL": "u1", "EMAIL": "a@x"}),
        cdp(6, {"EXTERNAL": "u2", "EMAIL": "a@x"}),
        cdp(7, {"EXTERNAL": "u2", "EMAIL": "a@x"}),
    ]
    for sizes in ([7], [1] * 7, [3, 2, 2]):
        async with event_store(postgres_dsn) as store:
            left = history
            for size in sizes:
                await store.store(events(left[:size]))
                left = left[size:]
            found = dict(
                await rows(store, "id, (SELECT r.profile_id FROM events_resolved r WHERE r.id = events.id)")
            )
            last = found["evt_3"]
            assert [found[f"evt_{number}"] == last for number in range(1, 8)] == [True] * 5 + [False] * 2
            merges = await pool_of(store).fetch(
                "SELECT from_id, into_id, cause, event_id FROM profile_merges ORDER BY merged_at, event_id"
            )
            own = dict(await rows(store, "id, profile_id"))
            assert [(row[0], row[1], row[3]) for row in merges] == [
                (own["evt_1"], own["evt_2"], "evt_4"),
                (own["evt_2"], own["evt_3"], "evt_5"),
            ]
            assert merges[0][2] == "EMAIL and DEVICE_KEY in event evt_4"
            [conflict] = await pool_of(store).fetch(
                "SELECT profile_id, type, value, kept_by, events, first_event_id, last_event_id FROM profile_conflicts"
            )
            assert tuple(conflict) == (own["evt_6"], "EMAIL", "a@x", last, 2, "evt_6", "evt_7")
            assert await one_number(store, "SELECT count(*) FROM profiles WHERE merged_into IS NULL") == 2
            await pool_of(store).fetch(
                "TRUNCATE profiles, profile_identifiers, profile_merges, profile_conflicts, events, event_ids_lasting"
            )


async def test_profiles_are_those_of_one_event_at_a_time(postgres_dsn: str) -> None:
    """Random histories of many tenants, in random batches, against a model that takes one event at a time."""
    chance = random.Random(28)
    history = [
        cdp(
            number,
            {
                kind: chance.choice("abcd")
                for kind in chance.sample(["EXTERNAL", "EMAIL", "PHONE", "DEVICE_KEY"], chance.randint(1, 4))
            },
            tenant=f"t{chance.randrange(25)}",
        )
        for number in range(600)
    ]
    model = Model()
    expected = {one.id: model.take(one) for one in events(history)}
    async with event_store(postgres_dsn) as store:
        left = history
        while left:
            size = chance.randint(1, 60)
            # Some of what is stored already, once more.
            copies = chance.sample(history[: len(history) - len(left)], min(3, len(history) - len(left)))
            await store.store(events([*copies, *left[:size]]))
            left = left[size:]
        pool = pool_of(store)
        assert {name: profile.hex for name, profile in await rows(store, "id, profile_id")} == expected
        found: dict[str, set[tuple[str, str, str]]] = {}
        for row in await pool.fetch("SELECT profile_id, tenant, type, value FROM profile_identifiers"):
            found.setdefault(row[0].hex, set()).add((row[1], row[2], row[3]))
        assert found == model.profiles
        merges = await pool.fetch(
            "SELECT from_id, into_id FROM profile_merges ORDER BY merged_at, event_id, from_id"
        )
        assert sorted((row[0].hex, row[1].hex) for row in merges) == sorted(model.merges)
        assert len(model.merges) > 30
        conflicts = await pool.fetch("SELECT profile_id, type, value, kept_by, events FROM profile_conflicts")
        assert {(row[0].hex, row[1], row[2]): (row[3].hex, row[4]) for row in conflicts} == model.conflicts
        left_over = await pool.fetch("SELECT id, best FROM profiles WHERE merged_into IS NULL")
        assert {row[0].hex: row[1] for row in left_over} == {one: model.best(one) for one in model.profiles}
        astray = "SELECT count(*) FROM profiles p JOIN profiles q ON q.id = p.merged_into WHERE q.merged_into IS NOT NULL"
        assert await one_number(store, astray) == 0


async def test_a_replay_changes_no_profile(postgres_dsn: str) -> None:
    history = [cdp(1, {"EMAIL": "a@x"}), cdp(2, {"PHONE": "1"}), cdp(3, {"EMAIL": "a@x", "PHONE": "1"})]
    async with event_store(postgres_dsn) as store:
        await store.store(events(history))
        before = await pool_of(store).fetch("SELECT * FROM profiles ORDER BY id")
        for _ in range(2):
            again = await store.store(events(history))
            assert (again.rows, again.copies, again.profiles.merged) == (0, 3, 0)
        assert await pool_of(store).fetch("SELECT * FROM profiles ORDER BY id") == before
        assert await one_number(store, "SELECT count(*) FROM profile_merges") == 1


async def test_tenants_are_strangers(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        values = [cdp(number, {"EMAIL": "a@x"}, tenant=f"t{number}") for number in range(100)]
        stored = await store.store(events(values))
        assert stored.profiles.created == 100


# --- days


async def test_a_day_is_made_when_it_is_needed_by_however_many(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store, running_pool(postgres_dsn) as pool:
        stores = [store, EventStore(pool, "b"), EventStore(pool, "c")]
        midnight = datetime(2026, 3, 2, tzinfo=UTC)
        batch = [envelope("last", at=midnight - timedelta(milliseconds=1)), envelope("first", at=midnight)]
        counts = await asyncio.gather(*(one.store(events(batch, midnight)) for one in stores))
        assert sum(one.rows for one in counts) == 2
        for day, name in ((date(2026, 3, 1), "evt_last"), (date(2026, 3, 2), "evt_first")):
            found = await pool.fetch(f"SELECT id FROM {name_of(day)}")
            assert [row[0] for row in found] == [name]


async def test_a_day_that_vanished_is_made_again(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        await store.store(events([envelope(1)]))
        await pool_of(store).fetch(f"DROP TABLE {name_of(NOON.date())}")
        with pytest.raises(StoreUnavailable):
            await store.store(events([envelope(2)]))
        assert (await store.store(events([envelope(2)]))).rows == 1


def tidier(store: EventStore, retention_s: float = 90 * 86400.0, id_retention_s: float = 0.0) -> Tidier:
    settings = Processor(retention_s=retention_s, id_retention_s=id_retention_s)
    return Tidier(pool_of(store), store.days, settings, ProcessorMetrics(list(Reason)))


async def days(store: EventStore) -> list[date]:
    return sorted(await store.days.all())


async def test_over_midnight_the_next_days_are_there_already(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        keeper = tidier(store)
        evening = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
        await keeper.tidy(evening)
        assert await days(store) == [date(2026, 3, 1) + ahead * DAY for ahead in range(DAYS_AHEAD + 1)]
        await keeper.tidy(evening + timedelta(seconds=2))
        assert (await days(store))[-1] == date(2026, 3, 2) + DAYS_AHEAD * DAY


async def test_days_past_their_retention_are_dropped_whole_and_their_ids_after_them(
    postgres_dsn: str,
) -> None:
    async with event_store(postgres_dsn) as store:
        values = [envelope(day, at=NOON + day * DAY) for day in range(6)]
        values += [cdp(f"cdp{day}", {"EMAIL": "a@x"}, at=NOON + day * DAY) for day in range(6)]
        await store.store(events(values, NOON + 6 * DAY))
        # A day goes when all of it is older than the retention: at noon of the fifth, the first three are.
        await tidier(store, retention_s=2 * 86400.0, id_retention_s=3 * 86400.0).tidy(NOON + 5 * DAY)
        assert await ids(store) == sorted(
            [f"evt_{n}" for n in (3, 4, 5)] + [f"evt_cdp{n}" for n in (3, 4, 5)]
        )
        kept = await pool_of(store).fetch("SELECT received_at FROM event_ids ORDER BY 1")
        assert [row[0] for row in kept] == [NOON + day * DAY for day in (2, 3, 4, 5)]
        assert await one_number(store, "SELECT count(*) FROM event_ids_lasting") == 6
        # What is forgotten is stored as new, what is remembered is not, rows or not.
        again = [envelope(day, at=NOON + day * DAY) for day in (1, 2)]
        assert (await store.store(events(again, NOON + 6 * DAY))).rows == 1


async def test_an_id_is_never_forgotten_before_its_row(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store, running_pool(postgres_dsn) as other:
        await store.store(events([envelope(1)]))
        async with other.transaction() as reader:
            # Somebody reads the old day: it can't be dropped, so its ids stay.
            await reader.fetch(f"SELECT * FROM {name_of(NOON.date())}")
            await tidier(store, retention_s=86400.0, id_retention_s=86400.0).tidy(NOON + 9 * DAY)
            assert NOON.date() in await days(store)
            assert await one_number(store, "SELECT count(*) FROM event_ids") == 1
        await tidier(store, retention_s=86400.0, id_retention_s=86400.0).tidy(NOON + 9 * DAY)
        assert NOON.date() not in await days(store)
        assert await one_number(store, "SELECT count(*) FROM event_ids") == 0


async def test_without_a_retention_everything_stays(postgres_dsn: str) -> None:
    async with event_store(postgres_dsn) as store:
        await store.store(events([envelope(1)]))
        await tidier(store, retention_s=0.0, id_retention_s=1.0).tidy(NOON + 9999 * DAY)
        assert await ids(store) == ["evt_1"]
        assert await one_number(store, "SELECT count(*) FROM event_ids") == 1


async def test_many_ids_are_forgotten_in_bites(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.adapters.postgres.events.tidy.BITE_IDS", 7)
    async with event_store(postgres_dsn) as store:
        await store.store(events([envelope(number) for number in range(200)]))
        await asyncio.gather(
            *(
                tidier(store, retention_s=86400.0, id_retention_s=86400.0).tidy(NOON + 5 * DAY)
                for _ in range(2)
            )
        )
        assert await one_number(store, "SELECT count(*) FROM event_ids") == 0
