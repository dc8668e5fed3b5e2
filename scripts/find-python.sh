#!/bin/sh
# Prints the interpreter to use: $PYTHON when set, else the newest of python3.14 … python3.11, python3 that
# works, is 3.11 or newer and can make virtual environments. Says what is missing when there is none.
set -u

minimum='3.11'
seen=''

# $1: a name or path. 0: usable; 1: not there or does not start; 2: too old; 3: venv or ensurepip missing.
probe() {
    command -v "$1" >/dev/null 2>&1 || return 1
    "$1" -I -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(2)
try:
    import ensurepip, venv, ssl, sqlite3, ctypes
except ImportError:
    sys.exit(3)
' >/dev/null 2>&1
    code=$?
    case $code in 0 | 2 | 3) return $code ;; *) return 1 ;; esac
}

explain() {
    case $2 in
    1) echo "$1 does not start" ;;
    2) echo "$1 is $("$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null), older than $minimum" ;;
    3) echo "$1 lacks a standard module ($("$1" -I -c '
for name in ("ensurepip", "venv", "ssl", "sqlite3", "ctypes"):
    try:
        __import__(name)
    except ImportError:
        print(name, end=" ")
' 2>/dev/null | sed 's/ $//')); on Debian and Ubuntu: apt-get install $(basename "$1")-venv" ;;
    esac
}

if [ -n "${PYTHON:-}" ]; then
    probe "$PYTHON"
    code=$?
    if [ $code -eq 0 ]; then
        command -v "$PYTHON"
        exit 0
    fi
    echo "headgate: PYTHON=$PYTHON cannot be used: $(explain "$PYTHON" $code)" >&2
    exit 1
fi

for name in python3.14 python3.13 python3.12 python3.11 python3; do
    probe "$name"
    code=$?
    if [ $code -eq 0 ]; then
        command -v "$name"
        exit 0
    fi
    # A name that is absent, or a shim with nothing behind it, is no news; one that almost fits is.
    [ $code -eq 1 ] || seen="$seen
  $(explain "$name" $code)"
done

echo "headgate needs Python $minimum or newer with the venv module, and found none on the PATH.$seen
Install one (on Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv),
or name one: make PYTHON=/path/to/python3.12 …" >&2
exit 1
