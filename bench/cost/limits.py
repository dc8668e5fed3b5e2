"""
The law of the limits, at the door: 4 frontends, 1,000 keys, each asked for more than it may have.

Never over: of any two accepted requests of a key, and all between them, no more than rate · t + burst, where t is from
the sending of the first to the answer of the last. Under: what was accepted of what the law allows in the whole time.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.children import BenchError
from bench.cost.keys import make_keys
from bench.instance import Headgate

FRONTENDS = 4
KEYS = 1000
RATE_PER_S = 1.0
BURST = 3
SECONDS = 30.0
#: Asked for, in units of what may be had.
DEMAND = 1.6
CONNECTIONS = 128
#: Requests that a connection sends at once; the answers are waited for.
BLOCK = 10
ANSWER_LIMIT_S = 15.0

BODY = b'{"type":"track","event":"Seen"}'

#: A request that was accepted: when it was sent, and when its answer was there (seconds).
Grant = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it: grants by key, all requests, and seconds."""

    grants: Mapping[int, Sequence[Grant]]
    requests: int
    refused: int
    seconds: float


def over(grants: Sequence[Grant], rate_per_s: float, burst: float) -> float:
    """By how many requests any window of these is over the law, at the most; not over: 0 or less."""
    ordered = sorted(grants)
    worst = -float(burst)
    for first, (sent, _) in enumerate(ordered):
        last = 0.0
        for number, (_, answered) in enumerate(ordered[first:], 1):
            # whatever lies between is answered by then, or it is the window's end itself
            last = max(last, answered)
            worst = max(worst, number - (rate_per_s * (last - sent) + burst))
    return worst


def under(asked: Asked, keys: int, rate_per_s: float, burst: float) -> float:
    """What was not accepted of whole requests that the law allowed, as a share."""
    allowed = keys * int(rate_per_s * asked.seconds + burst)
    return max(0.0, 1.0 - sum(len(found) for found in asked.grants.values()) / allowed)


def measure(folder: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """A Headgate of its own; gives the figures."""
    overrides = {"HEADGATE_MODE": "development", "HEADGATE_FRONTEND__COUNT": str(FRONTENDS)}
    with Headgate(folder, overrides) as headgate:
        # the tenant, and the tables
        headgate.create_source(0, rate=1, burst=1)
        make_keys(folder / "data", KEYS, RATE_PER_S, BURST)
        asked = asyncio.run(_ask(headgate.url, seconds))
    worst = max(over(found, RATE_PER_S, BURST) for found in asked.grants.values())
    share = under(asked, KEYS, RATE_PER_S, BURST)
    wrong = []
    if worst > 0:
        wrong.append(f"limits: a key was over its limit by {worst:.2f} requests")
    if asked.requests < DEMAND * KEYS * (RATE_PER_S * asked.seconds + BURST) * 0.8:
        wrong.append(f"limits: too few requests ({asked.requests}) to say anything: the machine is too busy")
    elif share > 0.05:
        wrong.append(f"limits: {share:.1%} under")
    return {
        "frontends": FRONTENDS,
        "keys": KEYS,
        "rate_per_s": RATE_PER_S,
        "burst": BURST,
        "seconds": asked.seconds,
        "requests": asked.requests,
        "accepted": sum(len(found) for found in asked.grants.values()),
        "refused": asked.refused,
        "over": worst,
        "under": share,
        "wrong": wrong,
    }


async def _ask(url: str, seconds: float) -> Asked:
    host, _, port = url.removeprefix("http://").partition(":")
    grants: dict[int, list[Grant]] = defaultdict(list)
    counted = {"requests": 0, "refused": 0}
    rng = random.Random(1)
    order = list(range(1, KEYS + 1))
    rng.shuffle(order)
    place = 0
    per_s = DEMAND * KEYS * RATE_PER_S
    began = time.monotonic()
    end = began + seconds

    def next_keys(now: float) -> list[int]:
        """A block of keys in turn: the burst at once, then at an even pace. Empty: not yet."""
        nonlocal place
        due = DEMAND * KEYS * BURST + per_s * (now - began)
        if place + BLOCK > due:
            return []
        keys = [order[(place + number) % KEYS] for number in range(BLOCK)]
        place += BLOCK
        return keys

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            while (now := time.monotonic()) < end:
                keys = next_keys(now)
                if not keys:
                    await asyncio.sleep(0.002)
                    continue
                sent = time.monotonic()
                writer.write(b"".join(_request(key) for key in keys))
                for key in keys:
                    async with asyncio.timeout(ANSWER_LIMIT_S):
                        status = await _status(reader)
                    counted["requests"] += 1
                    if status == 200:
                        grants[key].append((sent, time.monotonic()))
                    elif status == 429:
                        counted["refused"] += 1
                    else:
                        raise BenchError(f"limits: an answer was {status}")
        finally:
            writer.close()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return Asked(grants, counted["requests"], counted["refused"], time.monotonic() - began)


def _request(key: int) -> bytes:
    return (
        b"POST /v1/t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dk_test_%032d\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (key, len(BODY), BODY)
    )


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().index(b"content-length:")
    length = int(head[at + 15 : head.index(b"\r\n", at)])
    await reader.readexactly(length)
    return int(head[9:12])


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hg-limits-", ignore_cleanup_errors=True) as made:
        found = measure(Path(made))
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["wrong"] else 0)
