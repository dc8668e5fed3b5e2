"""
What the children are to be: the settings of one moment, worked out per role.

A plan is immutable. Every child carries the plan it was started with, and a slot is restarted with the
last plan under which it became ready: a bad one never replaces a good one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec

from daemon.actors.messages import Setup
from daemon.config.schema import Section, Settings
from daemon.errors import SettingsError
from daemon.roles import EMBEDDED, FRONTEND, PROCESSOR, PUBLISHER, Role

Resolve = Callable[[Settings], Settings]

#: Settings that the supervisor's own sockets, lock and servers hang on: they change with a restart only.
FIXED = (
    "data_dir",
    "server.host",
    "server.ingest_port",
    "server.dashboard_port",
    "server.admin_host",
    "server.admin_port",
    "server.backlog",
    "postgres.dsn",
    "redis.url",
)


class Plan:
    """The settings, the number of slots per role, and what each child is told."""

    def __init__(self, settings: Settings, roles: Sequence[Role], resolve: Resolve) -> None:
        """`resolve` fills in the addresses of the embedded servers where the settings name none."""
        self.settings = settings
        self.counts = {role.name: count_of(role, settings) for role in roles}
        self._resolve = resolve
        self._as_given = msgspec.json.encode(settings)
        self._resolved: bytes | None = None

    def setup(self, role: Role, slot: int, listen_fd: int, queue_paths: list[str]) -> Setup:
        """The first word to a child. Raises what `resolve` raises."""
        if role.name == EMBEDDED.name:
            # It has to see which addresses are empty: those are the servers that it runs.
            settings = self._as_given
        else:
            if self._resolved is None:
                self._resolved = msgspec.json.encode(self._resolve(self.settings))
            settings = self._resolved
        return Setup(role.name, slot, settings, listen_fd, queue_paths, self.counts)


def count_of(role: Role, settings: Settings) -> int:
    """How many processes of `role` the settings ask for."""
    if role.name == FRONTEND.name:
        return settings.frontend.count or len(os.sched_getaffinity(0))
    if role.name == PUBLISHER.name:
        return settings.publisher.count
    if role.name == PROCESSOR.name:
        return settings.processor.count
    if role.name == EMBEDDED.name:
        return 0 if settings.postgres.dsn and settings.redis.url else 1
    return 1


def rollable(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """
    `new` as far as a roll can bring it about, and the keys that only a restart can change.

    An address of a store may change from one server of the operator's to another, but not between
    his and the embedded one, which is never rolled.
    """
    merged = new
    refused = []
    for key in FIXED:
        before, after = _get(old, key), _get(new, key)
        if before == after or (key in {"postgres.dsn", "redis.url"} and before and after):
            continue
        merged = _replace(merged, key, before)
        refused.append(key)
    return merged, refused


def changed_keys(old: Section, new: Section, prefix: str = "") -> list[str]:
    """The keys whose values differ, without the values: some are secrets."""
    keys = []
    for one in msgspec.structs.fields(old):
        before, after = getattr(old, one.name), getattr(new, one.name)
        if isinstance(before, Section):
            keys += changed_keys(before, after, f"{one.name}.")
        elif before != after:
            keys.append(prefix + one.name)
    return keys


def _get(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _replace(settings: Settings, key: str, value: object) -> Settings:
    section, _, name = key.rpartition(".")
    if not section:
        return msgspec.structs.replace(settings, **{name: value})
    inner = msgspec.structs.replace(getattr(settings, section), **{name: value})
    return msgspec.structs.replace(settings, **{section: inner})


def check_limits(plan: Plan) -> None:
    """
    Raise SettingsError for what only the supervisor can see to be impossible.

    Each frontend must have at least one connection of the budget.
    """
    frontends = plan.counts.get(FRONTEND.name, 0)
    if frontends > plan.settings.server.connections_max:
        raise SettingsError(
            f"{frontends} frontends can't share server.connections_max = {plan.settings.server.connections_max}",
            "server.connections_max",
        )
