# `make` alone prints this list. Everything happens in .venv; PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo sandbox login-sandbox login token status doctor test test-all cov fuzz mutants bench pictures \
	lint format types check build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "webex-loopback needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/runtime: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/development: .venv/runtime
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

install: .venv/development ## make .venv: the command, and the tools to develop it

demo: .venv/runtime ## see a whole login without an account: sandbox, browser, tokens, a call, a refresh
	@$(BIN)/webex-loopback demo

sandbox: .venv/runtime ## run a small Webex on this machine (Ctrl-C ends it)
	@$(BIN)/webex-loopback sandbox --settings .venv/sandbox.env

login-sandbox: export WEBEX_LOOPBACK_HOME := $(CURDIR)/.venv/sandbox-state
login-sandbox: export WEBEX_CONFIG_FILE := $(CURDIR)/.venv/sandbox.env
login-sandbox: .venv/runtime ## log in at the running sandbox, in a state folder of its own
	@test -f .venv/sandbox.env || { echo "Run 'make sandbox' first, in another terminal."; exit 1; }
	@$(BIN)/webex-loopback login
	@$(BIN)/webex-loopback status

login token status doctor: .venv/runtime ## the command of that name, with your config.env
	@$(BIN)/webex-loopback $@

test: .venv/development ## run all tests; what needs a browser is skipped where there is none
	$(BIN)/python -m pytest

test-all: ## run the tests under every CPython from 3.11 on that this machine has
	@$(PYTHON) tests/every_python.py

cov: .venv/development ## run the tests and measure the branches they reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

fuzz: .venv/development ## 10,000 examples of each property
	FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 1800 tests/test_fuzz.py

bench: .venv/development ## measure speed beside the peers, in a venv of their own
	$(BIN)/python tests/bench/run.py

pictures: .venv/development ## take the screenshots in docs/images
	$(BIN)/python tests/pictures.py

lint: .venv/development ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/development ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/development ## mypy, strict, tests too
	$(BIN)/mypy

check: lint types ## what CI runs: lint, types, tests with the browser ones required
	CI=true $(MAKE) test

build: .venv/development ## wheel and sdist, into dist/
	$(BIN)/python -m build --quiet

clean: ## remove what make made
	rm -rf .venv dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
