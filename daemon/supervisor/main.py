"""`headgate run`: the supervisor's process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from daemon.config.address import reachable
from daemon.config.schema import Settings
from daemon.errors import HeadgateError
from daemon.observe import logs
from daemon.roles import ROLES, Role
from daemon.supervisor.admin import Admin
from daemon.supervisor.commands import SOCKET_NAME, Commands
from daemon.supervisor.plan import Resolve
from daemon.supervisor.reference import reference
from daemon.supervisor.sockets import (
    SUPERVISOR_NAME,
    UNSEEN,
    admin_listener,
    held_by_orphan,
    lock_run_dir,
    unix_listener,
)
from daemon.supervisor.supervisor import Supervisor
from daemon.supervisor.systemd import Notifier

log = logging.getLogger(__name__)

ORPHAN_POLL_S = 0.1
#: What an orphan gets beyond its drain time: longer than its own last timers.
ORPHAN_MARGIN_S = 5.0
#: What a holder of the port gets that can't be seen: one in the middle of its end needs no longer.
UNSEEN_S = 2.0


def run(
    settings: Settings,
    reload_settings: Callable[[], Settings],
    announce: Callable[[Settings], Awaitable[None]],
    *,
    run_dir: Path,
    resolve: Resolve = lambda settings: settings,
    prepare: Callable[[Settings], Awaitable[None]] | None = None,
    missing: Callable[[], list[str]] = list,
    roles: Sequence[Role] = ROLES,
) -> int:
    """
    Run Headgate until it is told to end; gives the exit code (0, or that of a HeadgateError).

    `reload_settings` is called at each reload and raises SettingsError for bad ones. `announce` is
    awaited once when every slot is ready, with the settings as given; `prepare` likewise, when the embedded
    servers are up and before anybody uses the stores; `missing` says what of that is still to be done, for
    /readyz. `resolve` gives the settings with
    the embedded servers' addresses filled in; it is first called when those servers are ready.
    `run_dir` is the folder for sockets, this user's alone.
    """
    observe = settings.observe
    logs.setup(level=observe.log_level, style=observe.log_format, role="supervisor")
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(SUPERVISOR_NAME)
    # systemd's watchdog sends ABRT to a supervisor that hangs: the journal then shows where it did.
    faulthandler.enable()
    notifier = Notifier()
    try:
        return asyncio.run(
            _run(
                settings,
                reload_settings,
                announce,
                prepare or _nothing,
                missing,
                run_dir,
                resolve,
                tuple(roles),
                notifier,
            )
        )
    except HeadgateError as error:
        log.error("%s", error)  # noqa: TRY400  an error raised on purpose says what is wrong by itself
        notifier.stopping(f"not started: {error}")
        return error.exit_code
    finally:
        notifier.close()


async def _run(
    settings: Settings,
    reload_settings: Callable[[], Settings],
    announce: Callable[[Settings], Awaitable[None]],
    prepare: Callable[[Settings], Awaitable[None]],
    missing: Callable[[], list[str]],
    run_dir: Path,
    resolve: Resolve,
    roles: tuple[Role, ...],
    notifier: Notifier,
) -> int:
    """Lock, sockets, admin port, control socket, then the loop; all given back in the other order."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(os.close, lock_run_dir(run_dir))
        supervisor = Supervisor(
            settings,
            roles=roles,
            run_dir=run_dir,
            reload_settings=reload_settings,
            announce=announce,
            prepare=prepare,
            missing=missing,
            resolve=resolve,
            notifier=notifier,
        )
        server = settings.server
        stack.callback(supervisor.crew.close)
        await _orphans_gone(server.host, server.ingest_port, server.drain_limit_s + ORPHAN_MARGIN_S)
        supervisor.crew.open()

        admin_sock = admin_listener(server.admin_host, server.admin_port)
        stack.callback(admin_sock.close)
        control_path = run_dir / SOCKET_NAME
        control_sock = unix_listener(control_path, 16)
        stack.callback(control_path.unlink, missing_ok=True)
        stack.callback(control_sock.close)

        ingest_url = f"http://{reachable(server.host)}:{server.ingest_port}"
        admin = Admin(supervisor, reference(ingest_url))
        await admin.start(admin_sock)
        stack.push_async_callback(admin.stop)
        commands = Commands(supervisor)
        await commands.start(control_sock)
        stack.push_async_callback(commands.stop)

        log.info(
            "starting: ingest on %s:%d, admin on %s:%d",
            server.host,
            server.ingest_port,
            server.admin_host,
            server.admin_port,
        )
        code = await supervisor.run()
        log.info("ended, exit code %d", code)
        return code


async def _orphans_gone(host: str, port: int, limit_s: float) -> None:
    """Wait while children of a supervisor that was killed drain, and still have the port."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    unseen_until = loop.time() + UNSEEN_S
    told = False
    while (owner := held_by_orphan(host, port)) is not None and loop.time() < deadline:
        if owner is UNSEEN:
            if loop.time() > unseen_until:
                return
        elif not told:
            told = True
            log.warning(
                "waiting for %s (pid %d) of an instance that was killed: it has port %d until it has drained",
                owner.name,
                owner.pid,
                port,
            )
        if owner is not UNSEEN:
            unseen_until = loop.time() + UNSEEN_S
        await asyncio.sleep(ORPHAN_POLL_S)


async def _nothing(_: Settings) -> None:
    """What `prepare` does where there are no stores."""
