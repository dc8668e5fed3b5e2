"""A run's HTTP part: the whole product, shot at, and then asked whether it is still the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.http import instance
from tests.fuzz.http.attack import Tally, attack
from tests.fuzz.result import MIB, Found, Memory, Result
from tests.support.product import Product

#: The inputs are sent in so many equal parts, with a look at the memory after each. The first is the warm-up.
PARTS = 5


class _Looks:
    """What the product was like before, and what it must be like after."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._pids = instance.pids(product)
        self.resident = [instance.resident(product)]

    def again(self) -> None:
        """One more look at the memory."""
        self.resident.append(instance.resident(self._product))

    def differences(self) -> list[Found]:
        """Processes that are others, events without an outcome, errors in the log."""
        found = []
        if (now := instance.pids(self._product)) != self._pids:
            found.append(Found.of("a process died", f"{self._pids} became {now}", b""))
        try:
            self._product.at_rest()
        except AssertionError as error:
            metrics = self._product.metrics()
            about = f"{error}: received {metrics.received}, outcomes {metrics.outcomes}"
            found.append(Found.of("received is not the sum of the outcomes", about, b""))
        found += [
            Found.of("an error in the log", line, b"") for line in instance.faults_logged(self._product)
        ]
        return found

    def growth_bytes(self) -> int:
        """Of the process that has grown most since the warm-up."""
        warm, end = self.resident[1], self.resident[-1]
        return max((end[name] - warm[name] for name in end if name in warm), default=0)


def run(inputs: int, seed: int, folder: Path, note: Callable[[int], None]) -> tuple[Result, str]:
    """So many inputs against a product in `folder`; the result, and what else there is to tell."""
    with instance.running(folder) as product:
        keys = instance.keys_of(product)
        looks = _Looks(product)
        tally = Tally()
        for part in range(PARTS):
            share = inputs * (part + 1) // PARTS - inputs * part // PARTS
            done = tally.inputs
            shot = asyncio.run(
                attack(product.ingest_port, keys, share, seed + part, lambda now, done=done: note(done + now))  # type: ignore[misc]
            )
            tally.add(shot)
            with contextlib.suppress(AssertionError):  # `differences` asks again, and tells
                product.at_rest()
            looks.again()
        faults = [
            Found.of(fault.rule, fault.about, keys.template(fault.sent), fault.times)
            for fault in tally.faults.values()
        ]
        result = Result(
            engine="http",
            target="front",
            seed=seed,
            inputs=tally.inputs,
            outcomes={
                f"{kind}: {outcome}": count
                for kind, of in sorted(tally.outcomes.items())
                for outcome, count in of.most_common()
            },
            found=faults + looks.differences(),
            slowest_s=0.0,
            memory=Memory(looks.growth_bytes(), 0, 0, 0),
        )
        return result, _told(looks)


def _told(looks: _Looks) -> str:
    lines = ["resident MiB at the start, after the warm-up (a fifth), and after each further fifth:"]
    for name in looks.resident[0]:
        series = " ".join(f"{held[name] / MIB:.0f}" if name in held else "-" for held in looks.resident)
        lines.append(f"  {name}: {series}")
    return "\n".join(lines)
