"""What the tests ask of a running service, over its ports and its command."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any, Self

from tests.systemd.machine import Machine, until

UNIT = "headgate.service"
COMMAND = "/opt/headgate/bin/headgate"
DATA = "/var/lib/headgate"

INGEST, DASHBOARD, ADMIN = 8080, 8081, 9090


def start(machine: Machine) -> None:
    """Start the service; returns when it says that it is ready."""
    machine.systemctl("start", UNIT)


def main_pid(machine: Machine) -> int:
    """Process id of the supervisor, by the machine's count."""
    return int(machine.show("MainPID"))


def slots(machine: Machine) -> list[dict[str, Any]]:
    """What /slots says."""
    status, body = machine.request(ADMIN, "GET", "/slots")
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body)["slots"]
    return found


def pipeline_key(machine: Machine) -> str:
    """The key of the demo source."""
    found = json.loads(machine.run("cat", f"{DATA}/credentials.json").stdout)
    key: str = found["sources"][0]["pipeline_key"]
    return key


def track(machine: Machine, key: str) -> str:
    """Send one event, which has to be accepted; return its messageId."""
    message_id = str(uuid.uuid4())
    status, body = machine.request(INGEST, "POST", "/v1/t", event(message_id), headers(key))
    assert (status, json.loads(body)) == (200, {"success": True})
    return message_id


def event(message_id: str) -> bytes:
    """A track call's body."""
    return json.dumps({"type": "track", "event": "Machine Tested", "messageId": message_id}).encode()


def headers(key: str) -> dict[str, str]:
    """The headers of a server's call to /v1/t."""
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def tailed(machine: Machine) -> set[str]:
    """The messageIds of all events on the log, by `headgate tail` called by root."""
    lines = machine.run(COMMAND, "tail", "--since", "1h", "--limit", "100000").stdout.splitlines()
    return {json.loads(line)["messageId"] for line in lines}


@dataclass
class Load:
    """Events sent by some connections, from `with` to its end: half keep theirs, half open one per event."""

    machine: Machine
    key: str
    accepted: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    _CONNECTIONS = 8
    #: Together at most 400 events/s, well below the demo source's rate: a 429 would be a failure here.
    _PAUSE_S = 0.02

    def __enter__(self) -> Self:
        """Start sending."""
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number % 2 == 0,))
            for number in range(self._CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop sending, and wait for the last answers."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, events: int = 50) -> None:
        """Wait until so many more events were accepted."""
        wanted = len(self.accepted) + events
        until(f"{events} more accepted events", lambda: len(self.accepted) >= wanted or bool(self.failures))

    def _send(self, keep: bool) -> None:
        self.machine.enter_network()
        connection = http.client.HTTPConnection("127.0.0.1", INGEST, timeout=15)
        while not self._stopped.wait(self._PAUSE_S):
            message_id = str(uuid.uuid4())
            try:
                connection.request("POST", "/v1/t", event(message_id), headers(self.key))
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    self.accepted.add(message_id)
                else:
                    self.failures.append(f"{answer.status} {body!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            if not keep:
                connection.close()
        connection.close()
