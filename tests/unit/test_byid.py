"""Rows by their id in memory: floods of unknown ids push nothing out, and ask for little at a time."""

from __future__ import annotations

import asyncio

import pytest

from daemon.adapters.keystore import byid
from daemon.adapters.keystore.byid import CachedById
from daemon.errors import StoreUnavailable


class Table:
    """Rows that can be read; `away` refuses, `hold` keeps readers waiting."""

    def __init__(self, **rows: int) -> None:
        self.rows = rows
        self.reads: list[str] = []
        self.away = False
        self.hold: asyncio.Event | None = None

    async def load(self, row_id: str) -> int | None:
        self.reads.append(row_id)
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise StoreUnavailable("away")
        return self.rows.get(row_id)

    def cached(
        self, *, ttl_s: float = 60.0, negative_ttl_s: float = 60.0, entries_max: int = 3
    ) -> CachedById[int]:
        return CachedById(
            self.load, ttl_s=ttl_s, negative_ttl_s=negative_ttl_s, last_good_s=600.0, entries_max=entries_max
        )


async def test_a_row_is_read_once_and_again_after_its_change() -> None:
    table = Table(a=1)
    cached = table.cached()
    assert [await cached.get("a") for _ in range(3)] == [1, 1, 1]
    assert [await cached.get("b") for _ in range(3)] == [None, None, None]
    assert table.reads == ["a", "b"]
    table.rows = {"b": 2}
    cached.forget(["a", "b"])
    assert (await cached.get("a"), await cached.get("b")) == (None, 2)
    table.rows = {"a": 3}
    cached.forget(None)
    assert (await cached.get("a"), await cached.get("b")) == (3, None)


async def test_random_ids_push_no_known_row_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byid, "ABSENT_MAX", 10)
    table = Table(a=1, b=2, c=3, d=4)
    cached = table.cached()
    for row_id in "abc":
        await cached.get(row_id)
    for number in range(1000):
        assert await cached.get(f"random {number}") is None
    table.reads.clear()
    assert [await cached.get(row_id) for row_id in "abc"] == [1, 2, 3]
    assert table.reads == []
    assert len(cached._absent) == 10
    assert await cached.get("d") == 4
    assert len(cached._rows) == 3


async def test_so_many_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes on top is told to come back; who asks for what is being read already waits with the others."""
    monkeypatch.setattr(byid, "LOADS_MAX", 5)
    table = Table(a=1)
    table.hold = asyncio.Event()
    cached = table.cached()
    waiting = [asyncio.create_task(cached.get(row_id)) for row_id in ("a", "b", "c", "d", "e", "a")]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await cached.get("f")
    table.hold.set()
    assert await asyncio.gather(*waiting) == [1, None, None, None, None, 1]
    assert table.reads == ["a", "b", "c", "d", "e"]
    assert await cached.get("f") is None


async def test_a_known_row_outlives_an_outage() -> None:
    table = Table(a=1)
    cached = table.cached(ttl_s=0.0)
    assert await cached.get("a") == 1
    table.away = True
    assert await cached.get("a") == 1
    with pytest.raises(StoreUnavailable):
        await cached.get("b")


async def test_what_changes_while_it_is_read_is_read_again() -> None:
    table = Table(a=1)
    table.hold = asyncio.Event()
    cached = table.cached()
    asked = asyncio.create_task(cached.get("a"))
    while not table.reads:
        await asyncio.sleep(0)
    cached.forget(["a"])
    table.hold.set()
    assert await asked == 1
    assert table.reads == ["a", "a"]
