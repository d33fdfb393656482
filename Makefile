# `make` alone prints this list. Everything is installed in .venv; PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo sandbox login-sandbox login status doctor test test-all test-windows cov fuzz bench pictures \
	lint format types check build clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "webex-loopback needs Python 3.11 or later. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/runtime: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/development: .venv/runtime
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

install: .venv/development ## create .venv with the command and the development tools

demo: .venv/runtime ## show a login against the sandbox; needs no account
	@$(BIN)/webex-loopback demo

sandbox: .venv/runtime ## run a simulated Webex until Ctrl-C
	@$(BIN)/webex-loopback sandbox --settings .venv/sandbox.env

login-sandbox: export WEBEX_LOOPBACK_HOME := $(CURDIR)/.venv/sandbox-data
login-sandbox: export WEBEX_CONFIG_FILE := $(CURDIR)/.venv/sandbox.env
login-sandbox: .venv/runtime ## log in to it from another terminal; own data directory
	@test -f .venv/sandbox.env || { echo "Run 'make sandbox' in another terminal first."; exit 1; }
	@$(BIN)/webex-loopback login
	@$(BIN)/webex-loopback status

login status doctor: .venv/runtime ## run the command of that name
	@$(BIN)/webex-loopback $@

test: .venv/development ## run the tests; skip those whose programs are missing
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: ## run the tests with every CPython on this machine
	@$(PYTHON) tests/every_python.py

test-windows: ## test with Windows CPython under Wine; installs wine64
	bash tests/windows/run.sh

cov: .venv/development ## run the tests and report branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

fuzz: .venv/development ## run each property test with 10,000 examples or steps
	FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 3600 -m fuzz

bench: .venv/development ## compare speed with other tools, in a separate venv
	$(BIN)/python tests/bench/run.py

pictures: .venv/development ## recreate the screenshots in docs/images
	$(BIN)/python tests/pictures.py

lint: .venv/development ## ruff (rules, format) and import-linter (layers)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: .venv/development ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/development ## mypy --strict, tests included
	$(BIN)/mypy

check: lint types ## run what CI runs: lint, types, tests; skip nothing
	CI=true $(MAKE) test

build: .venv/development ## build wheel and sdist into dist/
	$(BIN)/python -m build --quiet

clean: ## remove everything make has created
	rm -rf .venv dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
