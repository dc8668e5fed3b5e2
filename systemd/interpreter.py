"""
Says where the interpreter that runs this really is, or why the service could not use it there.

Run by choose-python.sh with each candidate. Behind a name may stand a shim, a link or a virtual environment: what
counts is the real program and the folder of its standard library. Prints the program's path; exits with 1 and a
reason when one of them lies where the unit lets the service see nothing (ProtectHome=, PrivateTmp=) or below some
person's home folder. Standard library only, any Python from 3.11 on.
"""

import os
import pwd
import sys
from pathlib import Path

#: Folders that the unit hides from the service.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")

#: Below this, and above 0, are the accounts of services, whose "homes" are folders of the system (login.defs).
PERSON_UID_MIN = 1000
PERSON_UID_MAX = 60000


def main() -> int:
    """Print the real program, or the reason against it; return the exit code."""
    program = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    # The base's, not the prefix of a virtual environment; os is a module of the standard library.
    parts = (program, sys.base_prefix, sys.base_exec_prefix, str(Path(os.__file__).parent))
    for part in map(os.path.realpath, parts):
        for folder in hidden_folders():
            if part == folder or part.startswith(folder + os.sep):
                kind = "a temporary" if folder.endswith("tmp") else "a home"
                print(f"it is {part}, and the service cannot see what lies under {kind} folder ({folder})")
                return 1
    print(program)
    return 0


def hidden_folders() -> list[str]:
    """The folders of HIDDEN, and the home folders of people who live elsewhere."""
    homes = {
        os.path.realpath(entry.pw_dir)
        for entry in pwd.getpwall()
        if entry.pw_uid == 0 or PERSON_UID_MIN <= entry.pw_uid <= PERSON_UID_MAX
    }
    return [*HIDDEN, *sorted(home for home in homes if home.count(os.sep) > 1 and home.startswith(os.sep))]


if __name__ == "__main__":
    sys.exit(main())
