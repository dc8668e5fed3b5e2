# Headgate's commands. Every path is relative and every recipe quotes, so that a folder with a space in its name
# works; what needs logic lives in scripts/. Variables of the command line and of the environment pass through:
#   make run HEADGATE_INGEST_PORT=9000        make test PYTEST_ARGS='-k embedded'        make run PYTHON=python3.12

VENV = .venv
BENCH_ARGS ?=
CHAOS_ARGS ?=
PYTEST_ARGS ?=
FUZZ_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint types lock bench chaos fuzz bench-cost install uninstall clean venv dev

help: ## Show this list
	@echo 'Headgate: an event gateway. Usage: make <target>'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-12s %s\n' "$$name" "$$text"; done

run: ## Install what is needed into .venv and run Headgate in the foreground (Ctrl-C ends it)
	@sh scripts/setup-venv.sh runtime
	@HEADGATE_CONFIG="$${HEADGATE_CONFIG:-config/dev.toml}"; export HEADGATE_CONFIG; exec $(VENV)/bin/headgate run

test: ## Style, types, import contract and all tests, on real servers
	@sh scripts/setup-venv.sh dev
	@sh scripts/system-packages.sh
	@exec sh scripts/test.sh $(PYTEST_ARGS)

lint: ## Style and the import contract
	@sh scripts/setup-venv.sh dev
	@exec sh scripts/lint.sh

types: ## mypy
	@sh scripts/setup-venv.sh dev
	@exec $(VENV)/bin/mypy

bench: ## Measure: starts Headgate, loads it, prints rates and CPU (BENCH_ARGS=…)
	@sh scripts/setup-venv.sh dev
	@exec $(VENV)/bin/python -m bench.run $(BENCH_ARGS)

bench-cost: ## What an event costs, in units of a bare server: all scenarios, in turns (BENCH_ARGS=…)
	@sh scripts/setup-venv.sh dev
	@sh scripts/system-packages.sh bench
	@exec $(VENV)/bin/python -m bench.cost $(BENCH_ARGS)

chaos: ## Break a running Headgate in every way under load, and prove that nothing is lost (CHAOS_ARGS='--seed 7')
	@sh scripts/setup-venv.sh dev
	@sh scripts/system-packages.sh
	@exec $(VENV)/bin/python -m tests.chaos $(CHAOS_ARGS)

fuzz: ## A million inputs for everything that reads what strangers wrote (FUZZ_ARGS='--inputs 1000000 --seed 1')
	@sh scripts/setup-venv.sh dev
	@exec $(VENV)/bin/python -m tests.fuzz $(FUZZ_ARGS)

lock: ## Regenerate the hashed pins in requirements/ (LOCK_ARGS=--upgrade for newer versions)
	@exec sh scripts/lock.sh $(LOCK_ARGS)

install: ## Install into /opt/headgate as a systemd service (as root)
	@exec sh systemd/install.sh

uninstall: ## Remove what install put there, data excepted (as root)
	@exec sh systemd/uninstall.sh

venv: ## Only make .venv with what running needs
	@exec sh scripts/setup-venv.sh runtime

dev: ## Only make .venv with what developing needs
	@exec sh scripts/setup-venv.sh dev

clean: ## Remove .venv and every cache; data folders stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find daemon workers bench tests -name __pycache__ -type d -prune -exec rm -rf {} +
