#!/bin/sh
# Style (ruff) and the import contract (import-linter).
set -eu
cd "$(dirname "$0")/.."
echo '== ruff check'
.venv/bin/ruff check .
echo '== ruff format --check'
.venv/bin/ruff format --check .
echo '== import contract'
.venv/bin/lint-imports --no-logo --config pyproject.toml
