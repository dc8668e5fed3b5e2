"""`python -m tests.chaos.proofs rolls|outage|crowd`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tests.chaos.proofs.common import told
from tests.chaos.proofs.crowd import crowd
from tests.chaos.proofs.outage import outage
from tests.chaos.proofs.rolls import rolls
from tests.support.product import ROOT

ABOUT = """
rolls    16 rolling restarts and 16 reloads under 200 keep-alive callers and a stream of fresh connections
outage   Kafka away for 5 minutes at 2,000 events a second, and the drain after it
crowd    normal callers beside 1,000 idle connections and 200 that send a byte a second

Each ends with 0 when all is as it has to be, else with 1, and keeps its figures in .cache/chaos/<name>.json.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof that was named; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.proofs",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_subparsers(dest="proof", required=True, metavar="rolls|outage|crowd")
    one = which.add_parser("rolls")
    one.add_argument("--restarts", type=int, default=16)
    one.add_argument("--reloads", type=int, default=16)
    one.add_argument("--clients", type=int, default=200)
    one = which.add_parser("outage")
    one.add_argument("--seconds", type=float, default=300.0)
    one.add_argument("--rate", type=float, default=2000.0, help="events per second")
    one = which.add_parser("crowd")
    one.add_argument("--seconds", type=float, default=45.0, help="alone, and again beside the crowd")
    one.add_argument("--idle", type=int, default=1000)
    one.add_argument("--slow", type=int, default=200)
    given = parser.parse_args(arguments)
    if given.proof == "rolls":
        checks, more = rolls(given.restarts, given.reloads, given.clients)
    elif given.proof == "outage":
        checks, more = outage(given.seconds, given.rate)
    else:
        checks, more = crowd(given.seconds, given.idle, given.slow)
    command = "python -m tests.chaos.proofs " + " ".join(sys.argv[1:] if arguments is None else arguments)
    return told(given.proof, command, checks, more)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
