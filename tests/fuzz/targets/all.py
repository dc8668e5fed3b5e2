"""All targets, by name."""

from __future__ import annotations

from tests.fuzz.targets import (
    bodies,
    datafly,
    queue,
    resultfly,
    settings,
    tracklayer,
    userdata,
    visitor,
    webhooks,
)
from tests.fuzz.targets.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (datafly, resultfly, tracklayer, userdata, webhooks, visitor, queue, bodies, settings)
    for target in module.TARGETS
}
