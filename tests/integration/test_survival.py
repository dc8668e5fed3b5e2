"""What goes on in the background goes on whatever happens in it: errors that nobody foresaw end no task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from daemon.actors.link import Link
from daemon.adapters.local import LocalLog
from daemon.adapters.redis import subscription, wire
from daemon.adapters.redis.subscription import Subscription
from daemon.adapters.redis.wire import RedisWire
from daemon.config.schema import Redis, Settings
from daemon.observe.catalog import StoreMetrics
from tests.support.logs import batch, until

Caplog = pytest.LogCaptureFixture


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError


async def told(caplog: Caplog) -> None:
    """Wait until it has happened, twice: the task has got over the first time."""
    await until(lambda: sum(one.exc_info is not None for one in caplog.records) >= 2, "the error, twice")


async def test_the_wire_to_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: Caplog) -> None:
    monkeypatch.setattr(wire, "_PING_S", 0.02)
    redis = RedisWire(Redis(url=redis_url, retry_s=0.02), StoreMetrics())
    await redis.start()
    try:
        assert redis.up
        for name in ("command", "_open"):
            with monkeypatch.context() as patch:
                patch.setattr(redis, name, broken)
                if name == "_open":
                    assert redis._link is not None
                    redis._link.close("lost")
                await told(caplog)
            caplog.clear()
            await until(lambda: redis.up, "Redis to be back")
            assert await redis.command("ECHO", "a") == b"a"
    finally:
        await redis.stop()


async def test_the_subscription(redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: Caplog) -> None:
    settings = Redis(url=redis_url, retry_s=0.02)
    came: list[bytes] = []
    listening = Subscription(settings, "news", came.append, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(subscription, "connect", broken)
        await listening.start()
        await told(caplog)
    try:
        await until(lambda: listening.up, "the subscription")
        redis = RedisWire(settings, StoreMetrics())
        await redis.start()
        await redis.command("PUBLISH", "news", "hello")
        await until(lambda: came == [b"hello"], "the news")
        await redis.stop()
    finally:
        await listening.stop()


async def test_the_way_to_a_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Caplog
) -> None:
    came = asyncio.Event()

    async def publisher(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    server = await asyncio.start_unix_server(publisher, tmp_path / "p")
    link = Link(0, str(tmp_path / "p"), 0, _nothing, _nothing, _nothing)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "create_unix_connection", broken)
        link.start()
        await told(caplog)
    try:
        async with asyncio.timeout(30):
            await came.wait()
    finally:
        await link.stop()
        server.close()


def _nothing(*_: object) -> None:
    """Nobody listens."""


async def test_tidying_the_local_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Caplog) -> None:
    monkeypatch.setattr("daemon.adapters.local.log.TIDY_S", 0.02)
    settings = msgspec.convert({"data_dir": str(tmp_path), "log": {"headroom_bytes": 0}}, type=Settings)
    log = LocalLog(settings, 0, spool=False)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("daemon.adapters.local.file.LogFile.expire", broken)
            await log.start()
            await told(caplog)
        await log.append("t", [batch(0, "a")])
        again: list[int] = []

        def expire(_: object, before_ms: int, rows_max: int) -> int:
            again.append(before_ms + rows_max)
            return 0

        monkeypatch.setattr("daemon.adapters.local.file.LogFile.expire", expire)
        await until(lambda: len(again) > 1, "it to tidy again")
    finally:
        await log.stop()
