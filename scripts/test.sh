#!/bin/sh
# All checks in the order of their price; the arguments go to pytest, whose closing line is the last one.
# HEADGATE_TEST_WORKERS: test processes, each with its own Postgres, Valkey and Kafka (default 2; 0: in one process).
set -eu
cd "$(dirname "$0")/.."
sh scripts/lint.sh
echo '== mypy'
.venv/bin/mypy
echo '== pytest'
# A test that wants a setting sets it; what the caller's shell has must not leak into the suite.
for name in $(env | sed -n 's/^\(HEADGATE_[A-Z0-9_]*\)=.*/\1/p'); do
    [ "$name" = HEADGATE_TEST_WORKERS ] || unset "$name"
done
exec .venv/bin/pytest -n "${HEADGATE_TEST_WORKERS:-2}" --dist loadscope --no-loadscope-reorder "$@"
