"""
A real Apache Kafka: one Java process, KRaft, one node.

Two listeners for clients: the one under test (`bootstrap`, plain or secured), and a plain one (`internal`) for
the test's own reading and for the broker itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon.adapters.embedded import child
from tests.servers.certificates import Certificates
from tests.servers.tools import CACHE, need, skip_or_fail

POM = Path(__file__).with_name("kafka-pom.xml")
LIBS = CACHE / "kafka" / "libs"
#: Written last, with the pom's text: a half-done or outdated folder is resolved again.
_COMPLETE = CACHE / "kafka" / "complete"

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

#: The size of the heap keeps two brokers beside everything else; C1 alone starts faster and is enough for tests.
JVM = ("-Xmx512m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Security:
    """How clients have to talk to the listener under test."""

    protocol: Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    certificates: Certificates | None = None
    client_certificate: bool = False
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = "headgate"
    password: str = "a secret with spaces"


def kafka_libs() -> Path:
    """Return the folder of Kafka's jars, fetched by Maven on the first call ever; skips without Java or Maven."""
    need("java")
    wanted = POM.read_text()
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _COMPLETE.exists() and _COMPLETE.read_text() == wanted:
            return LIBS
        maven = need("mvn")
        done = subprocess.run(
            [
                *(maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"),
                f"-DoutputDirectory={LIBS}",
                "-DincludeScope=runtime",
                "-Dstyle.color=never",
                *_repository(),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            skip_or_fail(f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        _COMPLETE.write_text(wanted)
    return LIBS


def _repository() -> list[str]:
    """Say where Maven keeps what it fetched, for a user whose home (in passwd, not $HOME) cannot be written."""
    try:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = Path("/nonexistent")
    writable = os.access(home / ".m2" if (home / ".m2").exists() else home, os.W_OK)
    return [] if writable else [f"-Dmaven.repo.local={CACHE / 'm2'}"]


def free_port(*others: int) -> int:
    """A TCP port of the loopback address that was free a moment ago, and none of `others`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in others:
            return port


class KafkaServer:
    """One broker with its data in `folder`; not tied to an event loop."""

    def __init__(self, folder: Path, *, security: Security | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.security = security
        self.port = port or free_port()
        self._internal_port = free_port(self.port)
        self._controller_port = free_port(self.port, self._internal_port)
        self._process: child.ServerProcess | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of the listener under test."""
        return f"127.0.0.1:{self.port}"

    @property
    def internal(self) -> str:
        """`host:port` of a plain listener, whatever the security of the other."""
        return f"127.0.0.1:{self._internal_port}"

    @property
    def running(self) -> bool:
        """Whether the broker's process lives."""
        return self._process is not None and self._process.exit_code() is None

    async def start(self) -> None:
        """Start the broker and wait until it takes connections; the first start formats its storage."""
        assert not self.running, "this Kafka runs already"
        libs = kafka_libs()
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_text(self._properties(), encoding="utf-8")
        java = [need("java"), *JVM, "-cp", f"{libs}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            await self._format(java, properties)
        self._process = child.spawn(
            "Kafka",
            [*java, "kafka.Kafka", str(properties)],
            log_path=self.folder / "kafka.log",
            death_signal=signal.SIGKILL,
            cwd=self.folder,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (_listens(self.port) and _listens(self._internal_port)):
            if self._process.exit_code() is not None:
                raise AssertionError(f"Kafka ended while starting:\n{self._process.log_tail(30)}")
            if time.monotonic() > deadline:
                await self.kill()
                raise AssertionError(f"Kafka does not listen:\n{self._process.log_tail(30)}")
            await asyncio.sleep(child.POLL_S)

    async def stop(self) -> None:
        """End the broker in an orderly way; fine when it is down already."""
        if self._process is not None:
            await self._process.stop(((signal.SIGTERM, STOP_TIMEOUT_S),))

    async def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would."""
        if self._process is not None:
            await self._process.stop(())

    async def restart(self, *, port: int | None = None) -> None:
        """Start again with the same data, on the same port or on another one."""
        await self.stop()
        self.port = port or self.port
        await self.start()

    def pause(self) -> None:
        """Freeze the broker: connections stay open and nothing answers, from the return of this call on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is delivered at once, but each thread stops when it is scheduled next.
        tasks = Path(f"/proc/{self._process.pid}/task")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(
            (task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()
        ):
            time.sleep(0.005)

    def resume(self) -> None:
        """Let a frozen broker go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _format(self, java: list[str], properties: Path) -> None:
        command = [*java, "kafka.tools.StorageTool", "format", "--standalone"]
        # An id of 16 bytes, base64; any will do.
        command += ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(properties)]
        security = self.security
        if security is not None and security.mechanism.startswith("SCRAM"):
            user = f'name="{security.username}",password="{security.password}"'
            command += ["--add-scram", f"{security.mechanism}=[{user}]"]
        done = child.spawn(
            "Kafka's format",
            command,
            log_path=self.folder / "kafka.log",
            death_signal=signal.SIGKILL,
            cwd=self.folder,
        )
        await done.wait(START_TIMEOUT_S)
        await done.stop(())
        assert done.exit_code() == 0, done.log_tail(30)

    def _properties(self) -> str:
        protocol = self.security.protocol if self.security is not None else "PLAINTEXT"
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": f"CLIENT://{self.bootstrap},INTERNAL://{self.internal},"
            f"CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"CLIENT://{self.bootstrap},INTERNAL://{self.internal}",
            "listener.security.protocol.map": f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "2",
            "num.io.threads": "4",
            # A killed broker may come back once its old session has ended: 9 s otherwise.
            "broker.heartbeat.interval.ms": "200",
            "broker.session.timeout.ms": "1000",
            "controlled.shutdown.enable": "true",
            "log.cleaner.dedupe.buffer.size": "2097152",
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            lines[f"{topic}.replication.factor"] = "1"
            lines[f"{topic}.num.partitions"] = "1"
        lines["transaction.state.log.min.isr"] = "1"
        lines["share.coordinator.state.topic.min.isr"] = "1"
        if self.security is not None:
            lines |= self._security_properties(self.security)
        return "".join(f"{key}={value}\n" for key, value in lines.items())

    def _security_properties(self, security: Security) -> dict[str, str]:
        prefix = "listener.name.client."
        lines: dict[str, str] = {}
        if "SSL" in security.protocol.split("_"):
            assert security.certificates is not None, "TLS needs certificates"
            lines |= {
                f"{prefix}ssl.keystore.type": "PEM",
                f"{prefix}ssl.keystore.location": str(security.certificates.server_pem),
                f"{prefix}ssl.truststore.type": "PEM",
                f"{prefix}ssl.truststore.location": str(security.certificates.ca),
                f"{prefix}ssl.client.auth": "required" if security.client_certificate else "none",
            }
        if security.protocol.startswith("SASL"):
            mechanism = security.mechanism.lower()
            if security.mechanism == "PLAIN":
                login = (
                    "org.apache.kafka.common.security.plain.PlainLoginModule required "
                    f'user_{security.username}="{security.password}";'
                )
            else:
                login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            lines |= {
                "sasl.enabled.mechanisms": security.mechanism,
                f"{prefix}sasl.enabled.mechanisms": security.mechanism,
                f"{prefix}{mechanism}.sasl.jaas.config": login,
            }
        return lines


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
