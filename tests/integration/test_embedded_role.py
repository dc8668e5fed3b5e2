"""`python -m workers.embedded` under its control channel, with this test in the supervisor's place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from daemon.actors.control import CONTROL_FD, Channel, open_supervisor_end
from daemon.actors.messages import Beat, Drain, Drained, Failed, Ready, Setup, Stop, ToSupervisor
from daemon.adapters.embedded.running import find_running
from daemon.config.schema import Redis, Settings
from tests.servers.tools import ROOT

DEADLINE_S = 20.0


class Supervisor:
    """One end of the channel, and the child at the other."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.channel: Channel[ToSupervisor] | None = None
        self.heard: list[ToSupervisor] = []
        self._news = asyncio.Event()

    def on_message(self, message: ToSupervisor) -> None:
        self.heard.append(message)
        self._news.set()

    def on_closed(self) -> None:
        self._news.set()

    def send(self, message: object) -> None:
        assert self.channel is not None
        self.channel.send(message)

    async def hears(self, wanted: Callable[[ToSupervisor], bool]) -> ToSupervisor:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for message in self.heard:
                    if wanted(message):
                        return message
                self._news.clear()
                await self._news.wait()

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self.child.wait, DEADLINE_S)


async def begin(settings: Settings) -> Supervisor:
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.embedded"],
            cwd=ROOT,
            env={**os.environ, CONTROL_FD: str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
        )
    supervisor = Supervisor(child)
    supervisor.channel = await open_supervisor_end(ours, supervisor.on_message, supervisor.on_closed)
    supervisor.send(Setup("embedded", 0, msgspec.json.encode(settings), -1, [], {"embedded": 1}))
    return supervisor


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    one = await begin(Settings(data_dir=str(tmp_path)))
    await one.hears(lambda message: isinstance(message, Ready))
    yield one
    if one.channel is not None:
        one.channel.close()
    await one.exit_code()
    assert find_running(tmp_path) is None


def servers_of(supervisor: Supervisor) -> list[psutil.Process]:
    return psutil.Process(supervisor.child.pid).children()


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_ready_with_both_servers_then_drained(tmp_path: Path, supervisor: Supervisor) -> None:
    ready = await supervisor.hears(lambda message: isinstance(message, Ready))
    assert ready == Ready("PostgreSQL, Valkey")
    found = find_running(tmp_path)
    assert found is not None
    assert found.pid == supervisor.child.pid
    servers = servers_of(supervisor)
    assert len(servers) == 2
    supervisor.send(Drain(10.0))
    await supervisor.hears(lambda message: isinstance(message, Drained))
    assert await supervisor.exit_code() == 0
    assert all(ended(server) for server in servers)


async def test_a_server_that_dies_fails_the_process_and_the_other_server_goes_too(
    supervisor: Supervisor,
) -> None:
    servers = servers_of(supervisor)
    valkey = next(server for server in servers if server.name().startswith("valkey"))
    valkey.send_signal(signal.SIGKILL)
    failed = await supervisor.hears(lambda message: isinstance(message, Failed))
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("Valkey ended with code -9")
    assert await supervisor.exit_code() == 69
    assert all(ended(server) for server in servers)


async def test_told_to_stop_now_it_leaves_nothing_behind(supervisor: Supervisor) -> None:
    servers = servers_of(supervisor)
    supervisor.send(Stop())
    await supervisor.exit_code()
    async with asyncio.timeout(DEADLINE_S):
        while not all(ended(server) for server in servers):
            await asyncio.sleep(0.02)


async def test_when_the_supervisor_is_gone_everything_ends(supervisor: Supervisor) -> None:
    servers = servers_of(supervisor)
    assert supervisor.channel is not None
    supervisor.channel.close()
    assert await supervisor.exit_code() == 0
    assert all(ended(server) for server in servers)


async def test_signals_of_a_terminal_do_not_end_it(supervisor: Supervisor) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        supervisor.child.send_signal(number)
    supervisor.heard.clear()
    beat = await supervisor.hears(lambda message: isinstance(message, Beat))
    assert beat == Beat(queue=0, serving=True, reasons=[])
    assert len(servers_of(supervisor)) == 2


async def test_only_what_the_settings_leave_to_it(tmp_path: Path) -> None:
    one = await begin(Settings(data_dir=str(tmp_path), redis=Redis(url="redis://127.0.0.1:6379")))
    assert await one.hears(lambda message: isinstance(message, Ready)) == Ready("PostgreSQL")
    assert not (tmp_path / "valkey").exists()
    one.send(Drain(10.0))
    assert await one.exit_code() == 0


async def test_a_data_folder_that_cannot_be_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "other").touch()
    one = await begin(Settings(data_dir=str(tmp_path)))
    failed = await one.hears(lambda message: isinstance(message, Failed))
    assert isinstance(failed, Failed)
    assert failed.exit_code == 78
    assert await one.exit_code() == 78
    assert find_running(tmp_path) is None
