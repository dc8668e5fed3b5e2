"""Identity resolution against a model that knows nothing of batches: events one by one, profiles as sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from daemon.events.profiles import TYPES, Book, Handle, digest, handles, profile_id
from daemon.events.stored import Identifier, StoredEvent, event_key
from tests.support.people import Model

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(number: int, identity: list[tuple[str, str]], tenant: str = "acme") -> StoredEvent:
    name = f"evt_{number:03}"
    return StoredEvent(
        key=event_key(name),
        id=name,
        received_at=NOON + timedelta(seconds=number),
        occurred_at=NOON,
        tenant=tenant,
        contract="resultfly",
        channel="server",
        source="brand.pos",
        type="track",
        name="purchase",
        message_id=None,
        user_id=None,
        anonymous_id=None,
        identity=tuple(Identifier(*one) for one in identity),
        envelope=b"{}",
    )


@dataclass
class Store:
    """What PostgreSQL keeps between batches, as the adapter writes it."""

    owners: dict[Handle, str] = field(default_factory=dict)
    best: dict[str, int] = field(default_factory=dict)
    into: dict[str, str] = field(default_factory=dict)
    merges: list[tuple[str, str]] = field(default_factory=list)
    values: dict[Handle, str] = field(default_factory=dict)
    conflicts: dict[tuple[str, str, str], tuple[str | None, int]] = field(default_factory=dict)

    def take(self, batch: list[StoredEvent]) -> list[str | None]:
        wanted = {handle for one in batch for handle in handles(one)}
        known = {handle: self.owners[handle] for handle in wanted if handle in self.owners}
        book = Book(known, {profile: self.best[profile] for profile in known.values()})
        found = [book.resolve(one) for one in batch]
        for made in book.created:
            assert made.profile not in self.best
            self.best[made.profile] = made.best
            if made.merged_into is not None:
                self.into[made.profile] = made.merged_into
        self.best.update(book.better)
        for link in book.links:
            assert link.handle not in self.owners
            self.owners[link.handle] = link.profile
            self.values[link.handle] = link.value
        for gone, last in book.moved.items():
            self.owners = {handle: last if has == gone else has for handle, has in self.owners.items()}
            self.into = {one: last if to == gone else to for one, to in self.into.items()}
            self.into[gone] = last
        self.merges += [(merge.gone, merge.into) for merge in book.merges]
        for one in book.conflicts:
            key = (one.profile, one.handle.type, one.value)
            self.conflicts[key] = (one.kept_by, self.conflicts.get(key, (None, 0))[1] + one.events)
        return found


values = st.sampled_from(["a", "b", "c"])
identities = st.lists(st.tuples(st.sampled_from([*TYPES, "LOYALTY"]), values | st.just(" ")), max_size=5)
histories = st.lists(st.tuples(identities, st.sampled_from(["acme", "other"])), min_size=1, max_size=14)


@given(histories, st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_any_cut_into_batches_gives_what_one_by_one_gives(
    history: list[tuple[list[tuple[str, str]], str]], sizes: list[int]
) -> None:
    events = [event(number, identity, tenant) for number, (identity, tenant) in enumerate(history)]
    model, store = Model(), Store()
    expected = [model.take(one) for one in events]

    found: list[str | None] = []
    left, turn = events, 0
    while left:
        size = sizes[turn % len(sizes)]
        found += store.take(left[:size])
        left, turn = left[size:], turn + 1

    assert found == expected
    assert store.merges == model.merges
    assert store.conflicts == model.conflicts
    sets: dict[str, set[tuple[str, str, str]]] = {}
    for handle, profile in store.owners.items():
        sets.setdefault(profile, set()).add((handle.tenant, handle.type, store.values[handle]))
    assert sets == model.profiles
    for profile in sets:
        assert store.best[profile] == model.best(profile)
        assert profile not in store.into


@given(histories)
def test_laws_that_hold_after_every_event(history: list[tuple[list[tuple[str, str]], str]]) -> None:
    store = Store()
    for number, (identity, tenant) in enumerate(history):
        store.take([event(number, identity, tenant)])
        externals: dict[str, int] = {}
        tenants: dict[str, set[str]] = {}
        for handle, profile in store.owners.items():
            externals[profile] = externals.get(profile, 0) + (handle.type == "EXTERNAL")
            tenants.setdefault(profile, set()).add(handle.tenant)
            assert profile not in store.into, "an identifier belongs to a profile that is there"
        assert all(count <= 1 for count in externals.values()), "two EXTERNALs never meet"
        assert all(len(names) == 1 for names in tenants.values())
        gone = [one for one, _ in store.merges]
        assert len(gone) == len(set(gone)), "a profile goes once"
        assert set(gone) == set(store.into)
        assert all(last not in store.into for last in store.into.values()), (
            "the way to the last one is one step"
        )


def run(*identities: dict[str, str]) -> tuple[Store, list[str | None]]:
    store = Store()
    found = [
        store.take([event(number, list(identity.items()))])[0] for number, identity in enumerate(identities)
    ]
    return store, found


def test_a_known_and_a_new_identifier_make_one_profile() -> None:
    store, found = run({"EMAIL": "a@x"}, {"EMAIL": "a@x", "EXTERNAL": "u1"}, {"EXTERNAL": "u1"})
    assert len(set(found)) == 1
    assert store.merges == []
    assert store.best == {found[0]: 0}


def test_the_better_identifier_wins_though_its_profile_is_younger() -> None:
    store, (device, external, both) = run(
        {"DEVICE_KEY": "d"}, {"EXTERNAL": "u1"}, {"EXTERNAL": "u1", "DEVICE_KEY": "d"}
    )
    assert both == external
    assert store.merges == [(device, external)]


def test_a_profile_with_an_external_wins_by_it_although_the_event_does_not_carry_it() -> None:
    store, (external, email, both) = run(
        {"EXTERNAL": "u1", "PHONE": "1"}, {"EMAIL": "a@x"}, {"EMAIL": "a@x", "PHONE": "1"}
    )
    assert both == external
    assert store.merges == [(email, external)]


def test_between_equal_profiles_the_events_better_identifier_decides() -> None:
    store, (older, younger, both) = run(
        {"EMAIL": "old@x", "PHONE": "1"}, {"EMAIL": "new@x"}, {"EMAIL": "new@x", "PHONE": "1"}
    )
    assert both == younger
    assert store.merges == [(older, younger)]


def test_two_externals_stay_apart_and_the_conflict_is_recorded() -> None:
    store, (first, second, _) = run(
        {"EXTERNAL": "u1", "EMAIL": "a@x"}, {"EXTERNAL": "u2"}, {"EXTERNAL": "u2", "EMAIL": "a@x"}
    )
    assert first != second
    assert store.merges == []
    assert store.owners[Handle("acme", "EMAIL", digest("a@x"))] == first
    assert store.conflicts == {(second, "EMAIL", "a@x"): (first, 1)}


def test_a_new_external_with_anothers_email_is_a_profile_of_its_own() -> None:
    store, (first, second) = run({"EXTERNAL": "u1", "EMAIL": "a@x"}, {"EXTERNAL": "u2", "EMAIL": "a@x"})
    assert first != second
    assert store.owners[Handle("acme", "EXTERNAL", digest("u2"))] == second
    assert store.conflicts == {(second, "EMAIL", "a@x"): (first, 1)}


def test_without_an_external_of_its_own_the_event_goes_with_its_better_identifier() -> None:
    store, (first, second, third) = run(
        {"EXTERNAL": "u1", "EMAIL": "a@x"}, {"EXTERNAL": "u2", "PHONE": "1"}, {"EMAIL": "a@x", "PHONE": "1"}
    )
    assert third == first
    assert store.merges == []
    assert store.conflicts == {(first, "PHONE", "1"): (second, 1)}


def test_three_profiles_of_which_one_has_an_external_become_one() -> None:
    store, (email, phone, external, all_of_them) = run(
        {"EMAIL": "a@x"}, {"PHONE": "1"}, {"EXTERNAL": "u1"}, {"EXTERNAL": "u1", "EMAIL": "a@x", "PHONE": "1"}
    )
    assert all_of_them == external
    assert store.merges == [(email, external), (phone, external)]


def test_values_are_compared_as_they_come() -> None:
    _, found = run({"EXTERNAL": "U1"}, {"EXTERNAL": "u1"}, {"DEVICE_KEY": "u1"})
    assert len(set(found)) == 3


def test_ids_of_profiles_follow_from_their_first_event() -> None:
    made = profile_id("evt_000")
    assert run({"EMAIL": "a@x"})[1] == [made]
    assert (len(made), made[12], made[16]) == (32, "8", "8")
    assert profile_id("evt_001") != made
