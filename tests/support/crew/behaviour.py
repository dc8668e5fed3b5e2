"""
How a dummy worker is told to behave: `<data>/<role>-<slot>.json` or `<data>/<role>.json`, read at its start.

    {"start": "ready" | "crash" | "refuse" | "never", "drain_s": 0.0, "serving": true, "deaf": false}
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from daemon.actors.messages import Beat
from daemon.actors.process import ChildContext
from daemon.errors import SettingsError


class Behaviour:
    """One dummy's orders, and the diary that all of them keep in `<data>/diary`."""

    def __init__(self, ctx: ChildContext) -> None:
        self.ctx = ctx
        self.folder = Path(ctx.settings.data_dir)
        self.orders: dict[str, Any] = {}
        for name in (f"{ctx.role}.json", f"{ctx.role}-{ctx.slot}.json"):
            if (self.folder / name).exists():
                self.orders |= json.loads((self.folder / name).read_text())

    def note(self, what: str) -> None:
        line = f"{what} {self.ctx.role}/{self.ctx.slot} {os.getpid()}\n"
        with (self.folder / "diary").open("a") as diary:
            diary.write(line)

    async def begin(self) -> None:
        match self.orders.get("start", "ready"):
            case "crash":
                raise RuntimeError("told to crash")
            case "refuse":
                raise SettingsError("told to refuse", "kafka.brokers")
            case "never":
                await asyncio.sleep(3600)
        serving = self.orders.get("serving", True)
        self.ctx.health = lambda: Beat(5, serving, [] if serving else ["told not to serve"])

    async def until_drain(self) -> None:
        self.note("ready")
        self.ctx.ready(self.ctx.role)
        await self.ctx.drain_requested()
        self.note("draining")
        if self.orders.get("deaf"):
            time.sleep(3600)
        await asyncio.sleep(self.orders.get("drain_s", 0.0))
        self.note("drained")
