#!/bin/sh
# Makes .venv hold what `runtime` or `dev` needs; quick when it does already. The work is in setup_venv.py: this
# only finds an interpreter for it.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ] && .venv/bin/python -I -c 'import ensurepip' 2>/dev/null; then
    exec .venv/bin/python -I scripts/setup_venv.py "$@"
fi
python=$(sh scripts/find-python.sh)
exec "$python" -I scripts/setup_venv.py "$@"
