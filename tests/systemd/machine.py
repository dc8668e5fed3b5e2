"""
Throw-away machines with a real systemd as PID 1, in namespaces of their own.

A `Workshop` is a private mount namespace with a tmpfs. In it, a layer is what a command changed on an overlay
over this machine's files, and a `Machine` is such an overlay with its own processes, cgroups, loopback and IPC,
on which systemd runs. Nothing of this machine changes, and everything is gone when the test process ends, however
it ends. Only clocks, most kernel settings and the resource controllers are the host's.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.servers.tools import ROOT, need, skip_or_fail

#: Where boot.sh binds the clone: a path with a space, below a folder that only root can enter.
CLONE = "/srv/only root/head gate"

COMMAND_TIMEOUT_S = 60.0
POLL_S = 0.02

_BOOT_SCRIPT = Path(__file__).with_name("boot.sh")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class CommandFailed(AssertionError):
    """A command ended with an exit code that the test did not expect; the text holds all that it said."""


def until(what: str, probe: Callable[[], T | None], timeout_s: float = COMMAND_TIMEOUT_S) -> T:
    """Return the first answer of `probe` that is neither None nor False; fail when `what` takes longer."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(POLL_S)


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with `check`, fail with its output unless it ends with 0."""
    done = subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode != 0:
        raise CommandFailed(
            f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


class Workshop:
    """The private mount namespace that layers and machines are made in; to be closed by `close`."""

    def __init__(self, folder: Path) -> None:
        """Make it, with its files (on a tmpfs) at `folder`; skip the test where root or namespaces are missing."""
        need("root")
        need("systemd")
        for tool in ("unshare", "nsenter", "setpriv", "mount", "ip"):
            need(tool)
        self._folder = folder
        # The shell ends when its standard input does: with this process, whatever becomes of it.
        script = """
            mount -t tmpfs -o mode=0700 tmpfs "$1" && cd "$1" && mkdir cgroup try try/upper try/work try/root &&
            mount -t cgroup2 cgroup2 cgroup &&
            mount -t overlay overlay -o lowerdir=/,upperdir=try/upper,workdir=try/work try/root &&
            umount try/root && echo made && exec cat
        """
        self._shell = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._shell.stdout is not None
        if self._shell.stdout.readline() != "made\n":
            _, reason = self._shell.communicate(timeout=COMMAND_TIMEOUT_S)
            skip_or_fail(f"namespaces are not available here: {reason.strip()}")

    def close(self) -> None:
        """Forget every layer; machines have to be stopped before."""
        self._shell.communicate(timeout=COMMAND_TIMEOUT_S)

    def _enter(self) -> list[str]:
        # What is started here dies with the test process, too.
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", "-m", "-t", str(self._shell.pid)]

    def _inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run([*self._enter(), *command], check=check)

    def layer(self, name: str, *command: str, clone: Path = ROOT, timeout_s: float = 300.0) -> str:
        """
        Run `command` as root in an overlay over this machine's files, without systemd, with this machine's network.

        Returns what it said. The layer keeps what it changed, for machines that name it.
        """
        boot = ["sh", str(_BOOT_SCRIPT), "chroot", str(self._folder / name), "/", str(clone), *command]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return run([*self._enter(), *unshare, *boot], timeout_s=timeout_s).stdout

    @contextlib.contextmanager
    def machine(self, name: str, *layers: str, clone: Path = ROOT) -> Iterator[Machine]:
        """A machine with its systemd running; `layers` are names of layers, the uppermost first."""
        group = self._folder / "cgroup" / f"headgate-test-{os.getpid()}-{name}"
        lower = ":".join([*(str(self._folder / layer / "upper") for layer in layers), "/"])
        self._inside("mkdir", str(group))
        script = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc", "--net"]
        boot = ["sh", str(_BOOT_SCRIPT), "boot", str(self._folder / name), lower, str(clone)]
        process = subprocess.Popen(
            [*self._enter(), "sh", "-c", script, str(group), "unshare", *namespaces, *boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            machine = Machine(process)
            yield machine
            machine.close()
        finally:
            process.kill()
            process.communicate()
            until("the machine's cgroups to be empty", lambda: self._removed(group))

    def _removed(self, group: Path) -> bool:
        gone = self._inside(
            "find", str(group), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+", check=False
        )
        return gone.returncode == 0


class Machine:
    """A running systemd; made by `Workshop.machine`."""

    def __init__(self, unshare: subprocess.Popen[str]) -> None:
        """Wait until the systemd below `unshare` has booted."""
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")

        def booted() -> bool:
            if unshare.poll() is not None:
                output = unshare.stdout.read() if unshare.stdout else ""
                raise AssertionError(f"the machine did not start: {output}")
            found = children.read_text().split()
            self._init = found[0] if found else ""
            if not self._init or Path(f"/proc/{self._init}/comm").read_text() != "systemd\n":
                return False
            return self.systemctl("is-active", "machine.target", check=False).stdout == "active\n"

        self._init = ""
        until("systemd to boot", booted, 30.0)
        self._network = ThreadPoolExecutor(1, initializer=self.enter_network)

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str = "",
        host_network: bool = False,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the machine; with `host_network`, in the host's network (for downloads)."""
        spaces = ["-m", "-u", "-i", "-p", "-C", *([] if host_network else ["-n"])]
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        }
        kept = {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG"))
        }
        nsenter = shutil.which("nsenter") or "nsenter"
        return run(
            [nsenter, "-t", self._init, *spaces, *command],
            check=check,
            environment=environment | kept,
            stdin=stdin,
            timeout_s=timeout_s,
        )

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `systemctl`; for a start or reload that fails, the service's journal is in the error."""
        done = self.run("systemctl", "--no-pager", *arguments, check=False)
        if check and done.returncode != 0:
            journal = self.journal() if arguments[0] in ("start", "restart", "reload", "stop") else ""
            raise CommandFailed(f"systemctl {' '.join(arguments)}: {done.stdout}{done.stderr}\n{journal}")
        return done

    def show(self, prop: str, unit: str = "headgate.service") -> str:
        """Return one property of a unit, as `systemctl show` writes it."""
        return self.systemctl("show", "--property", prop, "--value", unit).stdout.rstrip("\n")

    def journal(self, unit: str = "headgate.service") -> str:
        """Return what a unit logged, systemd's own lines about it included."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, check=False).stdout

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file on the machine, with its folder."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1" && chown "$3" "$1"'
        self.run("sh", "-c", script, "sh", path, f"{mode:o}", owner, stdin=text)

    def exists(self, path: str) -> bool:
        """Say whether there is something (a broken link, too) at `path` on the machine."""
        return self.run("sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "sh", path, check=False).returncode == 0

    def processes_of(self, user: str) -> list[str]:
        """Return the command lines of a user's processes on the machine."""
        pids = self.run("pgrep", "-u", user, check=False).stdout.split()
        return [
            self.run("cat", f"/proc/{pid}/cmdline", check=False).stdout.replace("\0", " ") for pid in pids
        ]

    def close(self) -> None:
        """End the helper thread; the machine itself is ended by who made it."""
        self._network.shutdown()

    def enter_network(self) -> None:
        """Move the calling thread, for good, into the machine's network: its loopback, its ports."""
        with Path(f"/proc/{self._init}/ns/net").open() as namespace:
            if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def connect(self, port: int, timeout_s: float = 15.0) -> socket.socket:
        """Connect to a port of the machine's loopback; the socket stays there, whoever uses it."""
        return self._network.submit(socket.create_connection, ("127.0.0.1", port), timeout_s).result()

    def request(
        self, port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one HTTP request over a connection of its own; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.sock = self.connect(port)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
