"""
Becomes a server: the last Python code that runs in an embedded server's process.

Run as a file, `python -I -S exec_child.py <plan> <program> <argument>…`, by `child.spawn`; the plan is JSON.
A helper of its own instead of `preexec_fn`, because that would run Python between fork and exec, in a copy of
a process that may have threads. In this order, as each step would undo a later one:

1. signals back to their defaults (a parent started with `nohup` or `&` leaves some ignored),
2. with `uid`: groups, gid and uid dropped; with `cap`, that one capability survives as an ambient one, so that
   an unprivileged Postgres reaches a data folder below a 0700 home,
3. the parent-death signal, which the kernel clears on every change of credentials,
4. a look whether the parent died before step 3, and then the exec.

Imports nothing of Headgate: it has to start fast, and may not be importable for the user it becomes.
"""

import ctypes
import json
import os
import signal
import sys

# linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
# linux/securebits.h
SECBIT_NO_SETUID_FIXUP = 1 << 2

#: Exit code when the server could not be executed (EX_OSERR).
EXIT_CANNOT_EXEC = 71

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _prctl(what: str, option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(ctypes.c_int(option), *arguments), what)


def _keep_only(cap: int) -> None:
    header = _CapHeader(CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    bit = 1 << (cap % 32)
    data[cap // 32] = _CapData(bit, bit, bit)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")
    _prctl("raise ambient capability", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap)


def _become(uid: int, gid: int, cap: int | None) -> None:
    if cap is not None:
        # Postgres finds its own programs with access(2), which asks for the real user without any capability, unless
        # the process has this bit: else it could not run from an environment below /root. Needs CAP_SETPCAP.
        try:
            _prctl("set secure bits", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        except OSError:
            pass
        _prctl("keep capabilities", PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if cap is not None:
        _keep_only(cap)


def main(plan_json: str, command: list[str]) -> None:
    """
    Carry out the plan and exec `command`; only returns by raising OSError.

    The plan: `parent` (pid), `death_signal`, and optionally `uid`, `gid`, `cap` (a capability's number).
    """
    plan = json.loads(plan_json)
    os.umask(0o077)
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if plan.get("uid") is not None:
        _become(plan["uid"], plan["gid"], plan.get("cap"))
    _prctl("no new privileges", PR_SET_NO_NEW_PRIVS, 1)
    _prctl("parent-death signal", PR_SET_PDEATHSIG, plan["death_signal"])
    if os.getppid() != plan["parent"]:
        raise OSError("the process that started this server is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except OSError as error:
        print(f"headgate: cannot run {sys.argv[2]}: {error}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_EXEC)
