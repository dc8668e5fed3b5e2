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
status=0
.venv/bin/pytest -n "${HEADGATE_TEST_WORKERS:-2}" --dist loadscope --no-loadscope-reorder "$@" || status=$?
# Real servers on a machine that others keep busy miss a deadline now and then. A few failures are tried once
# more, by themselves; what fails twice fails, and the first run's report stands above.
failed=$(.venv/bin/python -c 'import json, sys; print(len(json.load(open(sys.argv[1]))))' \
    .pytest_cache/v/cache/lastfailed 2>/dev/null || echo 0)
if [ "$status" -ne 1 ] || [ "$failed" -lt 1 ] || [ "$failed" -gt 5 ]; then
    exit "$status"
fi
echo "== pytest, once more for what failed ($failed)"
exec .venv/bin/pytest --last-failed --last-failed-no-failures none "$@"
