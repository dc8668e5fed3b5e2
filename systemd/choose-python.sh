#!/bin/sh
# Prints the interpreter for an installation: $PYTHON, else the newest one of the system, from 3.11 on, that the
# service's user can read and run. The real program is printed, not a link to it: a link may change its target.
# To be run as root.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)

# As the service: an account without any rights of its own. 65534 is nobody's. A shell between, as setpriv itself
# still finds programs with root's rights.
unprivileged() {
    # shellcheck disable=SC2016
    setpriv --reuid=65534 --regid=65534 --clear-groups -- sh -c 'cd / && exec "$@"' sh "$@"
}

# $1: a name or path. Prints the real program, or, with status 1, why it can't be used.
examine() {
    usable=$(PYTHON="$1" sh "$here/../scripts/find-python.sh" 2>&1) || {
        printf '%s\n' "${usable#*cannot be used: }"
        return 1
    }
    real=$("$usable" -I "$here/interpreter.py") || {
        printf '%s\n' "${real:-$usable does not work}"
        return 1
    }
    if ! unprivileged "$real" -I -c 'import asyncio, ctypes, sqlite3, ssl' >/dev/null 2>&1; then
        printf '%s\n' "the service's user cannot read and run $real, or its standard library"
        return 1
    fi
    printf '%s\n' "$real"
}

if [ -n "${PYTHON:-}" ]; then
    if found=$(examine "$PYTHON"); then
        printf '%s\n' "$found"
        exit 0
    fi
    echo "headgate: PYTHON=$PYTHON cannot be used for the service: $found." >&2
    echo "Name a Python of the system, like PYTHON=/usr/bin/python3, or leave PYTHON= away." >&2
    exit 1
fi

refused=''
for name in python3.14 python3.13 python3.12 python3.11 python3; do
    # The system's folders first: root's PATH may begin with shims of its own.
    IFS=:
    for folder in /usr/local/bin /usr/bin /bin $PATH; do
        unset IFS
        [ -x "$folder/$name" ] || continue
        if found=$(examine "$folder/$name"); then
            printf '%s\n' "$found"
            exit 0
        fi
        case $refused in *"  $folder/$name: "*) ;; *) refused="$refused
  $folder/$name: $found" ;; esac
    done
done
echo "headgate: the service needs a Python of the system, 3.11 or newer with the venv module, and there is none.$refused
Install one (on Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv), or name one:
make install PYTHON=/path/to/python3.12" >&2
exit 1
