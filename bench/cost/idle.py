"""What connections cost that do nothing: 10,000 of them, each of which has sent an event and is kept open."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
from pathlib import Path
from typing import Any

from bench.children import BenchError
from bench.cost.limits import BODY
from bench.instance import OWN_ROLES, Headgate

CONNECTIONS = 10_000
#: Connections that are being opened at a time.
OPENING = 200
#: The issue's bound, MiB.
MIB_MAX = 200
LIMIT_S = 60.0
#: From the last answer to the look at the memory, seconds.
SETTLE_S = 2.0


def measure(folder: Path, connections: int = CONNECTIONS) -> dict[str, Any]:
    """A Headgate of its own; gives the figures."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < connections + 200:
        raise BenchError(f"idle: {connections} connections need as many open files; ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    overrides = {
        "HEADGATE_MODE": "development",
        "HEADGATE_SERVER__CONNECTIONS_MAX": str(2 * connections),
        # or they would be closed meanwhile
        "HEADGATE_SERVER__HEAD_TIMEOUT_S": "300",
    }
    with Headgate(folder, overrides) as headgate:
        source = headgate.create_source(0, rate=1_000_000, burst=1_000_000)
        sent = (
            b"POST /v1/t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (source.key.encode(), len(BODY), BODY)
        )
        host, _, port = headgate.url.removeprefix("http://").partition(":")
        # once without keeping: code and pools that the first requests bring in are not the connections'
        _open_all(host, int(port), 500, sent, keep=False)
        time.sleep(SETTLE_S)
        before = headgate.usage()
        kept = _open_all(host, int(port), connections, sent, keep=True)
        time.sleep(SETTLE_S)
        after = headgate.usage()
        began = time.monotonic()
        cpu = sum(after.cpu_s[role] for role in OWN_ROLES)
        time.sleep(3.0)
        idle = headgate.usage()
        idle_cores = (sum(idle.cpu_s[role] for role in OWN_ROLES) - cpu) / (time.monotonic() - began)
        for one in kept:
            one.close()
    grown = sum(after.resident[role] - before.resident[role] for role in OWN_ROLES) / 2**20
    wrong = [f"idle: {grown:.0f} MiB for {connections} connections"] if grown > MIB_MAX else []
    return {
        "connections": connections,
        "mib": grown,
        "kib_each": 1024 * grown / connections,
        "idle_cores": idle_cores,
        "wrong": wrong,
    }


def _open_all(host: str, port: int, count: int, sent: bytes, *, keep: bool) -> list[socket.socket]:
    """Open `count` connections, send on each and wait for its answer."""
    kept: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    opened = 0
    end = time.monotonic() + LIMIT_S
    while len(kept) < count:
        if time.monotonic() > end:
            raise BenchError(f"idle: only {len(kept)} of {count} connections were answered in {LIMIT_S:g} s")
        while opened < count and opened - len(kept) < OPENING:
            one = socket.create_connection((host, port), timeout=LIMIT_S)
            one.sendall(sent)
            waiting.register(one, selectors.EVENT_READ)
            opened += 1
        for key, _ in waiting.select(timeout=1.0):
            one = key.fileobj  # type: ignore[assignment]
            answer = one.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"idle: a connection got {answer[:60]!r}")
            waiting.unregister(one)
            kept.append(one)
            if not keep:
                one.close()
    waiting.close()
    return kept if keep else []


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hg-idle-", ignore_cleanup_errors=True) as made:
        found = measure(Path(made))
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["wrong"] else 0)
