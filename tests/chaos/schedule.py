"""
What is broken when: a schedule that follows from its seed alone.

A run is a row of scenes. A scene is one fault, two that overlap, or an outage of Kafka, either alone (by which its
availability is judged) or with other faults inside it. Times are seconds from the start of the run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.errors import UsageError

#: Load without any fault, at the beginning and at the end, as shares of the run; by these the quiet p99 is known.
QUIET_SHARE = 0.06
#: Least seconds between two scenes.
GAP_S_MIN = 0.2
#: Scenes may be shortened to this share of their length where many faults have to fit.
SHORTEST = 0.5


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of fault.

    `area` is what it concerns: faults of one area never overlap. `seconds` are the bounds of its length, `weight` how
    often it comes. `needs` is what has to be there: "root", or a role that not every version has.
    """

    name: str
    area: str
    seconds: tuple[float, float]
    weight: float
    needs: str = ""


KINDS: tuple[Kind, ...] = (
    # Killed with -9; the length is what its recovery is given before the next scene.
    Kind("kill frontend", "frontend", (0.6, 1.5), 10),
    Kind("kill publisher", "publisher", (0.6, 1.5), 10),
    Kind("kill processor", "processor", (0.6, 1.5), 6, "processor"),
    Kind("kill postgres", "stores", (3.0, 5.0), 3),
    Kind("kill redis", "stores", (3.0, 5.0), 3),
    Kind("kill supervisor", "everything", (6.0, 9.0), 1),
    Kind("kill everything", "everything", (6.0, 9.0), 1),
    # Frozen with STOP, and let go.
    Kind("freeze frontend", "frontend", (0.3, 2.0), 7),
    Kind("freeze publisher", "publisher", (0.3, 2.0), 7),
    Kind("freeze processor", "processor", (0.3, 2.0), 4, "processor"),
    Kind("freeze supervisor", "supervisor", (0.5, 2.0), 4),
    Kind("freeze redis", "stores", (0.5, 2.5), 6),
    Kind("freeze postgres", "stores", (0.5, 3.0), 6),
    Kind("empty redis", "stores", (0.3, 0.6), 10),
    # Frozen for good: the supervisor has to find out.
    Kind("hang frontend", "frontend", (6.0, 8.0), 1),
    # Replaced, which must not be noticed at all.
    Kind("roll", "roll", (3.0, 5.0), 5),
    Kind("reload", "roll", (3.0, 5.0), 5),
)

#: How Kafka goes away. Its scenes are made apart, so that enough of them have nothing else beside them.
OUTAGES: tuple[Kind, ...] = (
    Kind("kafka killed", "kafka", (5.0, 9.0), 4),
    Kind("kafka stopped", "kafka", (5.0, 9.0), 3),
    Kind("kafka frozen", "kafka", (4.0, 8.0), 4),
    Kind("kafka moved", "kafka", (5.0, 9.0), 2),
)
#: Kafka frozen and no room on the disk of the local log: the one state in which events are refused.
DISK_FULL = Kind("disk full", "kafka", (6.0, 8.0), 3, "root")
#: Kafka frozen, a publisher killed, and the head of its file overwritten: what was acknowledged has to be salvaged.
SPOILED = Kind("spool spoiled", "kafka", (5.0, 8.0), 2)

ALL: tuple[Kind, ...] = (*KINDS, *OUTAGES, DISK_FULL, SPOILED)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the schedule. `pick` chooses among what there is (slots, ports) when the time has come."""

    number: int
    kind: str
    area: str
    at_s: float
    seconds: float
    pick: int
    #: whether nothing else is broken meanwhile
    alone: bool


def schedule(
    seed: int,
    seconds: float,
    faults: int,
    has: Sequence[str] = ("root", "processor"),
    only: Sequence[str] = (),
) -> list[Fault]:
    """
    `faults` faults over `seconds` seconds, by their beginning; the same arguments give the same.

    `has` is what this machine and this version have of what kinds need; `only` names the kinds to choose from (none:
    all). Raises UsageError when so many don't fit, and for names that no kind has.
    """
    for name in only:
        if name not in {kind.name for kind in ALL}:
            raise UsageError(f"there is no fault {name!r}; there are: {', '.join(kind.name for kind in ALL)}")
    fitting = [
        kind for kind in ALL if (not kind.needs or kind.needs in has) and (not only or kind.name in only)
    ]
    rng = random.Random(f"{seed}/{seconds}/{faults}/{[kind.name for kind in fitting]}")
    scenes = _scenes(rng, faults, fitting)
    quiet_s = seconds * QUIET_SHARE
    room_s = seconds - 2 * quiet_s - GAP_S_MIN * len(scenes)
    long_s = sum(_length(scene) for scene in scenes)
    shrink = min(1.0, room_s / long_s) if long_s else 1.0
    if shrink < SHORTEST:
        fit = int(faults * max(0.0, room_s) / (long_s * SHORTEST))
        raise UsageError(f"{faults} faults do not fit into {seconds:g} s; about {fit} do")
    spare_s = room_s - long_s * shrink
    shares = [rng.random() for _ in scenes]
    planned: list[Fault] = []
    now_s = quiet_s
    for scene, share in zip(scenes, shares, strict=True):
        now_s += GAP_S_MIN + spare_s * share / sum(shares)
        for kind, after_s, length_s in scene:
            planned.append(
                Fault(
                    0, kind.name, kind.area, round(now_s + after_s * shrink, 3), round(length_s * shrink, 3),
                    rng.randrange(1 << 16), len(scene) == 1,
                )
            )  # fmt: skip
        now_s += _length(scene) * shrink
    planned.sort(key=lambda one: one.at_s)
    return [
        Fault(number, one.kind, one.area, one.at_s, one.seconds, one.pick, one.alone)
        for number, one in enumerate(planned, 1)
    ]


#: (kind, seconds after the scene's beginning, length in seconds)
_Scene = list[tuple[Kind, float, float]]


def _scenes(rng: random.Random, faults: int, fitting: Sequence[Kind]) -> list[_Scene]:
    kinds = [kind for kind in fitting if kind.area != "kafka"]
    outages = [kind for kind in fitting if kind.area == "kafka"]
    scenes: list[_Scene] = []
    # Each kind once, so that a run that is long enough has seen them all; then as chance has it.
    first = rng.sample([*kinds, *outages], len(kinds) + len(outages))
    left = faults
    while left > 0:
        scene: _Scene
        if first:
            scene = [_fault(rng, first.pop(), 0.0)]
        elif outages and (not kinds or rng.random() < 0.22):
            scene = [_fault(rng, _pick(rng, outages), 0.0)]
            if rng.random() < 0.6:
                scene += _inside(rng, scene[0], [kind for kind in kinds if kind.area != "everything"])
        else:
            scene = [_fault(rng, _pick(rng, kinds), 0.0)]
            if rng.random() < 0.5 and scene[0][0].area != "everything":
                others = [kind for kind in kinds if kind.area not in (scene[0][0].area, "everything", "roll")]
                if others:
                    scene.append(_fault(rng, _pick(rng, others), rng.uniform(0.0, scene[0][2])))
        scene = scene[:left]
        left -= len(scene)
        scenes.append(scene)
    return scenes


def _inside(rng: random.Random, outage: tuple[Kind, float, float], kinds: Sequence[Kind]) -> _Scene:
    """One to three faults within an outage of Kafka, each of an area of its own."""
    found: _Scene = []
    for _ in range(rng.randint(1, 3)):
        areas = {kind.area for kind, _, _ in found}
        fitting = [kind for kind in kinds if kind.area not in areas and kind.seconds[0] < outage[2]]
        if fitting:
            found.append(_fault(rng, _pick(rng, fitting), rng.uniform(0.3, outage[2] * 0.7)))
    return found


def _pick(rng: random.Random, kinds: Sequence[Kind]) -> Kind:
    return rng.choices(kinds, [kind.weight for kind in kinds])[0]


def _fault(rng: random.Random, kind: Kind, after_s: float) -> tuple[Kind, float, float]:
    return kind, after_s, rng.uniform(*kind.seconds)


def _length(scene: _Scene) -> float:
    return max(after_s + length_s for _, after_s, length_s in scene)
