#!/bin/sh
# Regenerates requirements/*.txt from pyproject.toml: hashed pins for every supported Python (3.11 and up) on
# Linux, with environment markers where the versions differ, and without the address of any package index.
# Usage: scripts/lock.sh [--upgrade]    (PYTHON= names the interpreter that runs the resolver)
set -eu
cd "$(dirname "$0")/.."

python=$(sh scripts/find-python.sh)
tools=.cache/lock-venv
if [ ! -x "$tools/bin/uv" ]; then
    mkdir -p .cache
    "$python" -m venv --clear "$tools"
    if [ -f requirements/lock.txt ]; then
        "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
    else
        "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/lock.in
    fi
fi

compile() {
    output=$1
    shift
    echo "lock: $output"
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file "$output" "$@"
}

compile requirements/runtime.txt --extra embedded pyproject.toml requirements/build.in "$@"
compile requirements/dev.txt --all-extras --constraints requirements/runtime.txt \
    pyproject.toml requirements/build.in "$@"
compile requirements/lock.txt requirements/lock.in "$@"

if grep -n -i 'https\?://\|index-url\|find-links' requirements/runtime.txt requirements/dev.txt requirements/lock.txt; then
    echo "lock: the pins name an address; take it out" >&2
    exit 1
fi
